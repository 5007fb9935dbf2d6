"""Held-out figures of the miniature models, as their logs and cards give them."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from tcig.data.emoji.scenes import portrait, scene
from tcig.models.mini.pool import captioned, floats


@cache
def held_out(split: str, kind: str, count: int) -> np.ndarray:
    """The first `count` scenes or portraits of a split as records of `CAPTIONED`."""
    draw = {"scenes": scene, "portraits": portrait}[kind]
    return np.array([captioned(draw(split, index)) for index in range(count)])


def held_out_batch(split: str, count: int) -> Tensor:
    """Half scenes, half portraits, (count, 3, 64, 64) in [0, 1]."""
    kinds = ("scenes", "portraits")
    return floats(np.concatenate([held_out(split, kind, count // 2)["image"] for kind in kinds]))


def psnr(outputs: Tensor, images: Tensor) -> float:
    """In dB, of images in [-1, 1]: from each image's mean squared error, then the mean."""
    error = (outputs - images).square().mean((1, 2, 3))
    return (10 * torch.log10(4 / error)).mean().item()
