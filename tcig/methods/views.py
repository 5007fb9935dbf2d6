"""Views of images by projective maps: random ones for the guides, cutouts for CLIP."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from tcig.methods.base import gaussian_on


@dataclass(frozen=True)
class Views:
    """Random views of the image, which the guides see in its place, as CLIP sees cutouts.

    A guide that sees the same pixels in every iteration is fooled by patterns in them that no other
    network takes for an object. The idea is from expectation over transformation (Athalye et
    al. 2018, arXiv 1707.07397), which makes adversarial images that survive transformations. The
    ranges are our choice, by a sweep (results/mini/README.md).
    """

    count: int = 0
    """Views of each image in each iteration; 0 is the paper's guide, which sees the image."""
    flip: bool = True
    """Whether half of the views are mirrored, left to right."""
    rotation: float = 15.0
    """Largest angle, degrees, to both sides."""
    scale: tuple[float, float] = (0.8, 1.3)
    """Smallest and largest factor."""
    shift: float = 0.2
    """Largest shift along each axis, as a share of the image's side."""
    noise: float = 0.05
    """Standard deviation of the Gaussian noise on a view's values in [0, 1]."""

    def __post_init__(self):
        if self.count < 0:
            raise ValueError(f"count must be at least 0, got {self.count}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two positive factors, the smaller first: {self.scale}")
        if min(self.rotation, self.shift, self.noise) < 0:
            raise ValueError("rotation, shift and noise must be at least 0")


def random_views(
    images: Tensor, views: Views, generators: Sequence[Generator]
) -> tuple[Tensor, Tensor]:
    """Makes random views of images. Beyond its border an image is mirrored.

    Args:
        images: (B, 3, S, S) in [0, 1].
        views: their number n for each image, and the transformations.
        generators: one for each image, on the CPU.

    Returns:
        The views, (B n, 3, S, S), those of an image one after another, and their maps for `warp`,
        (B, n, 3, 3).
    """
    count, side = views.count, images.shape[-1]
    numbers = torch.cat([torch.rand(count, 5, generator=rng) for rng in generators])
    angle, shift, scale, mirrored = numbers.split((1, 2, 1, 1), 1)
    angle = math.radians(views.rotation) * (2 * angle[:, 0] - 1)
    shift = 2 * views.shift * (2 * shift - 1)
    smallest, largest = views.scale
    scale = smallest + (largest - smallest) * scale[:, 0]
    maps = inverse_affine(angle, torch.zeros_like(angle), shift, scale)
    if views.flip:
        maps[:, :, 0] *= torch.where(mirrored < 0.5, -1, 1)
    maps = maps.unflatten(0, (-1, count)).to(images.device)
    seen = warp(images, maps, side, outside="reflection")
    if views.noise:
        noise = gaussian_on(images.device, generators, (count, 3, side, side)).flatten(0, 1)
        seen = seen + views.noise * noise
    return seen, maps


def inverse_affine(
    angle: Tensor, shear: Tensor, shift: Tensor, scale: Tensor | float = 1.0
) -> Tensor:
    """Inverses of maps that shear along x, scale, rotate about the centre, then shift.

    Args:
        angle: angle of rotation, radians, (N,).
        shear: angle of the x axis's shear, radians, (N,).
        shift: along x and y in half sides, (N, 2).
        scale: factor, (N,).

    Returns:
        From points in a view to points in its image, both in [-1, 1], (N, 3, 3).
    """
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    turned = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], -1)
    sheared = torch.stack([one, -shear.tan(), zero, one], -1)
    linear = turned.unflatten(-1, (2, 2)) @ sheared.unflatten(-1, (2, 2))
    linear = linear * (scale * one)[:, None, None]
    forward = torch.cat([linear, shift[..., None]], -1)
    last = torch.stack([zero, zero, one], -1)[:, None]
    return torch.linalg.inv(torch.cat([forward, last], 1))


def warp(
    images: Tensor,
    maps: Tensor,
    size: int,
    density: int = 1,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    outside: Literal["zeros", "reflection"] = "zeros",
) -> Tensor:
    """Samples views of images by projective maps.

    The n views of an image are one tall grid, so that no image is copied.

    Args:
        images: (B, C, H, W).
        maps: from points in a view to points in its image, both in [-1, 1], (B, n, 3, 3).
        size: side of the views, pixels.
        density: samples per pixel and side, averaged.
        mode: kind of interpolation.
        outside: whether the image is black or mirrored beyond its border.

    Returns:
        (B n, C, size, size).
    """
    dense = size * density
    line = (2 * torch.arange(dense, device=images.device) + 1) / dense - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).flatten(0, 1)
    sampled = points @ maps.mT.flatten(0, 1)
    grid = (sampled[..., :2] / sampled[..., 2:]).view(len(images), -1, dense, 2)
    views = F.grid_sample(images, grid, mode, outside, align_corners=False)
    views = views.unflatten(2, (-1, dense)).transpose(1, 2).flatten(0, 1)
    return views if density == 1 else F.avg_pool2d(views, density)
