"""The networks behind `tcig.eval.quality`: a CLIP that scores, and what KID and FID look at.

Both in float32, whatever the profile allows the networks that draw.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcig.data.layout import Layout
from tcig.data.photographs import open_photograph
from tcig.models.clip import load_clip
from tcig.models.devices import PLAIN
from tcig.models.inception import load_inception
from tcig.profiles import SCORER

BATCH = 16
"""Images, or texts, in a call of a network."""


class Encoder(Protocol):
    """Features of images."""

    name: str
    """The source of its weights."""
    identity: str
    """Of its weights: what was measured under another is not reused."""
    suffix: str
    """Of the names of KID and FID: none for the published ones."""
    gamma: float | None
    """See `tcig.eval.quality.kid`."""

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Features, (N, D) float32 on the processor, of square RGB images."""


class ClipEncoder:
    """A CLIP's unit vectors. KID on them takes the kernel (cos + 1)^3, ours: the published 1/D is
    for features of about unit variance."""

    suffix, gamma = "_clip", 1.0

    def __init__(self, source: str):
        self.clip = load_clip(source)
        self.name, self.identity = source, self.clip.identity

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """See `Encoder`; resized by CLIP's own bicubic to its side."""
        size = (self.clip.size,) * 2
        found = []
        for first in range(0, len(images), BATCH):
            resized = [
                np.asarray(image.resize(size, Image.Resampling.BICUBIC))
                for image in images[first : first + BATCH]
            ]
            pixels = torch.from_numpy(np.stack(resized)).to(PLAIN.device).movedim(-1, 1) / 255
            found.append(self.clip.encode_images(pixels).cpu())
        return torch.cat(found)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors, (N, D); see `tcig.models.clip.Clip.encode_texts`."""
        batches = [list(texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)]
        return torch.cat([self.clip.encode_texts(batch).cpu() for batch in batches])


class InceptionEncoder:
    """The pooled features of torch-fidelity's Inception, on which FID and KID were published."""

    suffix, gamma = "", None

    def __init__(self, source: str):
        self.network, self.identity = load_inception(source)
        self.name = source

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """See `Encoder`; the network resizes them itself."""
        found = []
        for first in range(0, len(images), BATCH):
            pixels = np.stack([np.asarray(image) for image in images[first : first + BATCH]])
            batch = torch.from_numpy(pixels).to(PLAIN.device).movedim(-1, 1)
            found.append(self.network(batch)[0].cpu())
        return torch.cat(found)


def photograph_features(
    coco: Path, size: int, encoder: Encoder
) -> Callable[[Sequence[Layout]], Tensor]:
    """A function from layouts to their photographs' features, (N, D), which keeps what it has seen.

    Args:
        coco: the COCO folder.
        size: side of the canvas, to which the photographs are brought as the row `real` has them.
        encoder: as said.
    """
    known: dict[str, Tensor] = {}

    def look(layouts: Sequence[Layout]) -> Tensor:
        lacking = [layout for layout in layouts if layout.id not in known]
        if lacking:
            vectors = encoder.images([open_photograph(each, coco, size) for each in lacking])
            known.update(zip((layout.id for layout in lacking), vectors, strict=True))
        return torch.stack([known[layout.id] for layout in layouts])

    return look


def load_features(source: str, scorer: ClipEncoder) -> Encoder:
    """What KID and FID look at: the scorer itself, or an Inception (`load_inception`)."""
    return scorer if source == SCORER else InceptionEncoder(source)
