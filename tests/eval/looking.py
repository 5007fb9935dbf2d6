"""A stand-in of a CLIP and of an Inception: features that a test can compute itself."""

import hashlib

import numpy as np
import torch
from torch.nn import functional as F

WIDTH = 6


def looked(image):
    """An image's unit vector: mean colour, and how far it is from the image's middle row."""
    pixels = np.asarray(image, np.float32) / 255
    middle = pixels[len(pixels) // 2].mean(0)
    return F.normalize(torch.tensor([*pixels.mean((0, 1)), *(middle - 0.4)]), dim=0)


def read(text):
    """A text's unit vector."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return F.normalize(torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)), dim=0)


class Looking:
    """Counts the images and texts that it is asked about, and fails after so many images."""

    def __init__(self, identity="one", suffix="_clip", fails_after=None):
        self.name, self.identity, self.suffix = f"{identity}-source", identity, suffix
        self.gamma = 1.0 if suffix else None
        self.fails_after, self.asked, self.read = fails_after, 0, []

    def images(self, images):
        if self.fails_after is not None and self.asked + len(images) > self.fails_after:
            raise RuntimeError("out of memory")
        self.asked += len(images)
        found = torch.stack([looked(image) for image in images])
        return found if self.suffix else 3 * found  # no unit vectors

    def texts(self, texts):
        self.read += texts
        return torch.stack([read(text) for text in texts])
