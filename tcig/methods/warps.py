"""Affine maps of images, and images sampled at the places that maps give."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def inverse_affine(
    angle: Tensor, shear: Tensor, shift: Tensor, scale: Tensor | float = 1.0
) -> Tensor:
    """Inverses of maps that shear along x, scale, rotate about the centre, then shift.

    Args:
        angle: of rotation, radians, (N,).
        shear: angle of the x axis's shear, radians, (N,).
        shift: along x and y in half sides, (N, 2).
        scale: factor, (N,).

    Returns:
        From places in a result to places in its image, both in [-1, 1], (N, 3, 3).
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
    places: Tensor,
    size: int,
    density: int = 1,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    outside: Literal["zeros", "reflection"] = "zeros",
) -> Tensor:
    """Samples (B, C, H, W) at projective places.

    The n views of an image are one tall grid, so that no image is copied.

    Args:
        images: (B, C, H, W).
        places: from places in a view to places in its image, both in [-1, 1], (B, n, 3, 3).
        size: side of the views, pixels.
        density: samples per pixel and side, averaged.
        mode: of interpolation.
        outside: what the image is beyond its border: black, or mirrored.

    Returns:
        (B n, C, size, size).
    """
    dense = size * density
    line = (2 * torch.arange(dense, device=images.device) + 1) / dense - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).flatten(0, 1)
    found = points @ places.mT.flatten(0, 1)
    grid = (found[..., :2] / found[..., 2:]).view(len(images), -1, dense, 2)
    views = F.grid_sample(images, grid, mode, outside, align_corners=False)
    views = views.unflatten(2, (-1, dense)).transpose(1, 2).flatten(0, 1)
    return views if density == 1 else F.avg_pool2d(views, density)
