"""The networks behind `tcig.eval.quality`: a CLIP that scores, and the features of KID and FID.

All are in float32, whatever the profile allows the networks that generate. An encoder has a `name`,
the source of its weights; an `identity`: what was measured under another is not reused; a `suffix`
of the names of KID and FID, none for the published ones; and the `gamma` of KID.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcig.data.layout import Layout, open_photograph
from tcig.eval.images import BATCH
from tcig.models.clip import load_clip, load_inception
from tcig.models.devices import PLAIN
from tcig.profiles import SCORER


class ClipEncoder:
    """A CLIP's unit vectors. KID on them takes the kernel (cos + 1)^3, our choice: the published
    1/D is for features of about unit variance."""

    suffix, gamma = "_clip", 1.0

    def __init__(self, source: str):
        self.clip = load_clip(source)
        self.name, self.identity = source, self.clip.identity

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Features, (N, D) float32 on the CPU, of square RGB images, resized as by CLIP."""
        size = (self.clip.size,) * 2

        def encode(batch: Sequence[Image.Image]) -> Tensor:
            resized = [image.resize(size, Image.Resampling.BICUBIC) for image in batch]
            return self.clip.encode_images(_to_pixels(resized) / 255)

        return _encode(images, encode)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors, (N, D); see `tcig.models.clip.Clip.encode_texts`."""
        return _encode(list(texts), self.clip.encode_texts)


class InceptionEncoder:
    """The pooled features of torch-fidelity's Inception, on which FID and KID were published."""

    suffix, gamma = "", None

    def __init__(self, source: str):
        self.network, self.identity = load_inception(source)
        self.name = source

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Features, (N, D) float32 on the CPU, of square RGB images; the network resizes them."""
        return _encode(images, lambda batch: self.network(_to_pixels(batch))[0])


Encoder = ClipEncoder | InceptionEncoder


def _to_pixels(images: Sequence[Image.Image]) -> Tensor:
    """Returns images of one size as (B, 3, H, W) uint8 on the device."""
    pixels = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(pixels).to(PLAIN.device).movedim(-1, 1)


@torch.inference_mode()
def _encode(items: Sequence, encode: Callable[[Sequence], Tensor]) -> Tensor:
    """Encodes items batch by batch; the features are on the CPU."""
    firsts = range(0, len(items), BATCH)
    return torch.cat([encode(items[first : first + BATCH]).cpu() for first in firsts])


def photograph_features(
    coco: Path, size: int, encoder: Encoder
) -> Callable[[Sequence[Layout]], Tensor]:
    """Returns a function from layouts to their photographs' features, (N, D), computed once each.

    Args:
        coco: the COCO folder.
        size: side of the canvas, to which the photographs are brought as the row `real` has them.
        encoder: of the features.
    """
    known: dict[str, Tensor] = {}

    def features(layouts: Sequence[Layout]) -> Tensor:
        missing = [layout for layout in layouts if layout.id not in known]
        for first in range(0, len(missing), BATCH):
            batch = missing[first : first + BATCH]
            vectors = encoder.images([open_photograph(each, coco, size) for each in batch])
            known.update(zip((layout.id for layout in batch), vectors, strict=True))
        return torch.stack([known[layout.id] for layout in layouts])

    return features


def load_features(source: str, scorer: ClipEncoder) -> Encoder:
    """Returns the network of KID and FID: the scorer itself, or an Inception."""
    return scorer if source == SCORER else InceptionEncoder(source)
