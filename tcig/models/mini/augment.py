"""Augmentation of scenes and their label maps, drawn from one generator per batch."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""RGB to YIQ (NTSC): a rotation in the plane of I and Q turns the hue."""


def augment(images: Tensor, labels: Tensor, size: int, draw: torch.Generator):
    """Warps, recolours, blurs and adds noise.

    Args:
        images: (B, 3, H, W) in [0, 1].
        labels: (B, H, W) integers.
        size: side of the square crops returned.
        draw: source of all randomness.

    Returns:
        Images (B, 3, size, size) in [0, 1] and labels (B, size, size).
    """
    images, labels = _warp(images, labels, size, draw)
    images = _recolour(images, draw)
    blurred = torch.rand(len(images), generator=draw) < 0.5
    side = max(8, int(size / (1 + 3 * torch.rand((), generator=draw))))
    small = F.interpolate(images[blurred], size=side, mode="area")
    images[blurred] = F.interpolate(small, size=size, mode="bilinear")
    strength = 0.12 * torch.rand(len(images), 1, 1, 1, generator=draw) ** 2
    noise = torch.randn(images.shape, generator=draw)
    return (images + strength * noise).clamp_(0, 1), labels


def _uniform(count: int, low: float, high: float, draw: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=draw)


def _warp(images: Tensor, labels: Tensor, size: int, draw: torch.Generator):
    """Flip, rotation to 10 degrees, zoom .75 to 1.35 (of a crop of `size`), shift."""
    count = len(images)
    extent = size / images.shape[-1] / _uniform(count, 0.75, 1.35, draw)
    flip = torch.where(torch.rand(count, generator=draw) < 0.5, -1.0, 1.0)
    angle = _uniform(count, -math.pi / 18, math.pi / 18, draw)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = extent * angle.cos() * flip, -extent * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = extent * angle.sin() * flip, extent * angle.cos()
    room = (1 - extent).clamp(min=0.1)
    theta[:, 0, 2] = room * _uniform(count, -1, 1, draw)
    theta[:, 1, 2] = room * _uniform(count, -1, 1, draw)
    grid = F.affine_grid(theta, (count, 3, size, size), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    labels = F.grid_sample(
        labels[:, None].float(), grid, "nearest", padding_mode="reflection", align_corners=False
    )
    return images, labels[:, 0].long()


def _recolour(images: Tensor, draw: torch.Generator) -> Tensor:
    """Hue to 12 degrees, saturation and contrast .6 to 1.4, brightness by .15."""
    count = len(images)
    angle = _uniform(count, -math.pi / 15, math.pi / 15, draw)
    saturation = _uniform(count, 0.6, 1.4, draw)
    turn = torch.zeros(count, 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos() * saturation
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin() * saturation, angle.sin() * saturation
    matrix = torch.linalg.inv(_YIQ) @ turn @ _YIQ
    images = torch.einsum("bij,bjhw->bihw", matrix, images)
    mean = images.mean((1, 2, 3), keepdim=True)
    contrast = _uniform(count, 0.6, 1.4, draw)[:, None, None, None]
    shift = _uniform(count, -0.15, 0.15, draw)[:, None, None, None]
    return ((images - mean) * contrast + mean + shift).clamp_(0, 1)
