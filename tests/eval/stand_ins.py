"""Painted images, judges, a CLIP and an Inception that a test can compute; tables read back."""

import hashlib
import re

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from tcig.data.masks import encode
from tcig.data.voc import COLOURS
from tcig.eval.images import Sizes
from tcig.eval.judges import ColourJudge, Judge, Segmentation
from tcig.eval.records import Instance

SIDE = 32
SIZES = Sizes(SIDE, SIDE)
WIDTH = 6
CATS = np.zeros((2, 96, 96), bool)
CATS[0, 10:50, 10:50] = CATS[1, 60:90, 60:90] = True


def noise(seed, size=96):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def agreement(one, other):
    return np.mean([np.mean(a.labels == b.labels) for a, b in zip(one, other, strict=True)])


def write_images(folder, layouts, damage=0.0, size=SIDE, samples=1):
    """The truth in flat colours, a share of its pixels damaged; grey for None."""
    folder.mkdir(parents=True)
    for layout in layouts:
        for sample in range(samples):
            rng = np.random.default_rng([sample, *layout.id.encode()])
            labels = layout.class_map(size)
            wrong = rng.random(labels.shape) < (damage or 0)
            labels = np.where(wrong, rng.choice([0, 8, 12, 20], labels.shape), labels)
            pixels = np.array(COLOURS, np.uint8)[labels]
            image = Image.fromarray(np.full_like(pixels, 127) if damage is None else pixels)
            image.save(folder / f"{layout.id}-{sample}.png")
    return folder


class Counting(Judge):
    """Reads colours, counts the images that it is asked about, and fails after so many."""

    kind = "built-in"

    def __init__(self, identity="one", fails_after=None):
        self.identity, self.fails_after, self.asked = identity, fails_after, 0

    def segment(self, images):
        if self.fails_after is not None and self.asked + len(images) > self.fails_after:
            raise RuntimeError("out of memory")
        self.asked += len(images)
        return ColourJudge().segment(images)


class Finding(Judge):
    """Two cats, at its own output size, the second of them where layout 2.b has its second."""

    kind, identity = "built-in", "finding"

    def segment(self, images):
        labels = (CATS.any(0) * 8).astype(np.uint8)
        instances = tuple(
            Instance(label="cat", score=0.9 - n / 9, mask=encode(m)) for n, m in enumerate(CATS)
        )
        return [Segmentation(labels, instances) for _ in images]


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


def cells(markdown):
    """Markdown table -> one dictionary per line."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
