"""Cutouts of an image, augmented, as CLIP sees them in VQGAN+CLIP.

Reference: nerdyrodent/VQGAN-CLIP 592d555, generate.py, MakeCutouts (l. 303-361) for `pooled` and
MakeCutoutsOrig (l. 492-510) for `crops`; the augmentations are kornia's there. Unlike there,
all geometry is one warp with one interpolation, the colours' order is fixed, and every number
comes from the sample's own generator.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from tcig.methods.base import gaussian_on
from tcig.methods.views import inverse_affine, warp

Augmentation = Literal["affine", "perspective", "jitter", "erasing", "noise"]
CHANCE = 0.7
"""Probability of each augmentation (l. 314-332)."""
ROTATION, SHIFT, SHEAR = math.radians(15), 0.1, math.radians(5)
"""Affine: largest angle, share of the side, angle of the x axis's shear (l. 324)."""
DISTORTION = 0.7
"""Perspective: how far a corner may move in, as a share of half the side (l. 320)."""
JITTER = 0.1
"""Largest change of brightness, contrast, saturation, and hue, this in turns (l. 314)."""
ERASED, RATIO = (0.1, 0.4), (0.3, 1 / 0.3)
"""Erasing: share of the area, ratio of height to width (l. 332)."""
NOISE = 0.1
"""Largest standard deviation of the noise (l. 337)."""
NEUTRAL = 1.0, 1.0, 1.0, 0.0
"""Factors of `color_jitter` that change nothing."""
CPU = torch.device("cpu")
DENSITY = {"pooled": 1, "crops": 2}
"""Samples per pixel and side: crops are reduced by averaging 2x2 samples."""


@dataclass(frozen=True)
class CutoutOptions:
    """Options of the cutouts."""

    cutouts: int = 32
    """Cutouts of each image in each iteration."""
    style: Literal["pooled", "crops"] = "pooled"
    """Cutouts: the whole image pooled, or random crops."""
    augmentations: tuple[Augmentation, ...] = get_args(Augmentation)


class Augmentations(NamedTuple):
    """The augmentations of N cutouts; None is one that is off."""

    warp: Tensor | None
    """Maps from points in a cutout to points in its image, both in [-1, 1], (N, 3, 3)."""
    colours: Tensor | None
    """Factors of `color_jitter`, (N, 4)."""
    boxes: Tensor | None
    """Erased pixels: left, top, right, bottom, (N, 4); empty where nothing is erased."""
    noise: Tensor | None
    """Noise to add, (N, 3, size, size)."""


def sample_augmentations(
    options: CutoutOptions,
    generators: Sequence[Generator],
    size: int,
    side: int,
    device: torch.device = CPU,
) -> Augmentations:
    """Samples augmentations of the cutouts of each sample, sample by sample.

    Args:
        options: number and style of the cutouts, and augmentations that are on.
        generators: one for each sample, on the CPU.
        size: side of a cutout, pixels.
        side: side of the image, pixels.
        device: device of the noise; all other numbers are few, and on the CPU.
    """
    count, names = options.cutouts, options.augmentations
    numbers = torch.stack([torch.rand(count, 24, generator=rng) for rng in generators])
    shared = numbers[:, :1, 19:24].expand(-1, count, -1).flatten(0, 1)
    numbers = numbers.flatten(0, 1)
    maps = torch.eye(3).expand(len(numbers), 3, 3)
    if options.style == "crops":
        maps = _crop(numbers[:, 0:3], size, side) @ maps
    if "affine" in names:
        maps = maps @ _affine(numbers[:, 3:7], numbers[:, 7] < CHANCE)
    if "perspective" in names:
        corners = DISTORTION * numbers[:, 8:16].unflatten(1, (4, 2))
        maps = maps @ _perspective(corners * (numbers[:, 16, None, None] < CHANCE))
    geometric = options.style == "crops" or {"affine", "perspective"} & set(names) or not names
    colours = boxes = noise = None
    if "jitter" in names:
        chosen = numbers[:, 17, None] < CHANCE
        jitter = torch.cat([torch.rand(count, 4, generator=rng) for rng in generators])
        colours = JITTER * (2 * jitter - 1) * chosen + torch.tensor(NEUTRAL)
    if "erasing" in names:  # one box for all cutouts of an image, as same_on_batch there
        boxes = _boxes(shared, size)
    if "noise" in names:
        noise = gaussian_on(device, generators, (count, 3, size, size)).flatten(0, 1)
        noise.mul_((NOISE * numbers[:, 18])[:, None, None, None].to(device))
    return Augmentations(maps if geometric else None, colours, boxes, noise)


def augment(images: Tensor, augmentations: Augmentations, size: int, style: str) -> Tensor:
    """Cutouts (N, 3, size, size) of images (B, 3, H, W) in [0, 1], N / B of each, in order."""
    parts = [part if part is None else part.to(images.device) for part in augmentations]
    maps, colours, boxes, noise = parts
    if style == "pooled" and images.shape[-1] != size:  # pooling to the same size changes nothing
        images = images.view_as(images)  # sums both gradients before those of other losses
        images = (F.adaptive_avg_pool2d(images, size) + F.adaptive_max_pool2d(images, size)) / 2
    count = next(len(part) for part in parts if part is not None) // len(images)
    if maps is None:
        views = images.repeat_interleave(count, 0)
    else:
        views = warp(images, maps.unflatten(0, (-1, count)), size, DENSITY[style])
    if colours is not None:
        views = color_jitter(views, colours)
    if boxes is not None:
        views = erase(views, boxes)
    return views if noise is None else views + noise


def _crop(numbers: Tensor, size: int, side: int) -> Tensor:
    """Square crops, their side uniform from the cutout's to the image's (cut_pow 1, l. 505)."""
    extent = (numbers[:, 0] * (side - min(side, size)) + min(side, size)).floor() / side
    room = 1 - extent
    zero, one = torch.zeros_like(extent), torch.ones_like(extent)
    shift = room[:, None] * (2 * numbers[:, 1:3] - 1)
    rows = [extent, zero, shift[:, 0], zero, extent, shift[:, 1], zero, zero, one]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _affine(numbers: Tensor, chosen: Tensor) -> Tensor:
    """Inverses of rotations, shifts and shears of the x axis; the identity where not chosen."""
    signed = (2 * numbers - 1) * chosen[:, None]
    return inverse_affine(ROTATION * signed[:, 0], SHEAR * signed[:, 1], 2 * SHIFT * signed[:, 2:4])


def _perspective(inward: Tensor) -> Tensor:
    """Homographies from the corners moved in to the corners themselves.

    Args:
        inward: how far each corner moves along x and y, in half sides, (N, 4, 2).
    """
    ends = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    x, y = (ends - ends * inward).unbind(-1)
    u, v = ends.expand_as(inward).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    entries = torch.linalg.solve(torch.cat([rows_u, rows_v], 1), torch.cat([u, v], 1)[..., None])
    return torch.cat([entries[..., 0], one[:, :1]], -1).unflatten(-1, (3, 3))


def _boxes(numbers: Tensor, size: int) -> Tensor:
    area, tall, across, down, chance = numbers.unbind(-1)
    low, high = ERASED
    area = (low + (high - low) * area) * size**2
    # As likely wider than high as the reverse, each ratio uniform within its half.
    half, within = (2 * tall).floor(), (2 * tall).frac()
    ratio = torch.where(half == 0, RATIO[0] + (1 - RATIO[0]) * within, 1 + (RATIO[1] - 1) * within)
    height = (area * ratio).sqrt().round().clamp(1, size)
    width = (area / ratio).sqrt().round().clamp(1, size)
    left, top = (across * (size - width + 1)).floor(), (down * (size - height + 1)).floor()
    boxes = torch.stack([left, top, left + width, top + height], -1)
    return boxes * (chance < CHANCE)[:, None]


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Blackens a box (left, top, right, bottom; exclusive) in each of N images."""
    line = torch.arange(images.shape[-1], device=images.device)
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    across, down = (line >= left) & (line < right), (line >= top) & (line < bottom)
    return images * ~(down[:, :, None] & across[:, None, :])[:, None]


def color_jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Changes brightness, contrast, saturation and hue, in this order.

    As ColorJitter of kornia 0.5.4, which requirements.txt of nerdyrodent/VQGAN-CLIP 592d555 pins:
    brightness is added and contrast multiplied, each clamped to [0, 1]; saturation multiplies
    HSV's S, clamped likewise. HSV is turned back to RGB by one formula for all channels (f(n) of
    "HSL and HSV", Wikipedia).

    Args:
        images: (N, 3, H, W) in [0, 1].
        factors: (N, 4): brightness minus 1 is added; contrast and saturation, at least 0, multiply;
            the hue is turned by so many turns, in [-1, 1]. Images with `NEUTRAL` stay as they are.
    """
    rows = (factors != factors.new_tensor(NEUTRAL)).any(1).nonzero()[:, 0]
    brightness, contrast, saturation, turn = factors[rows, :, None, None].unbind(1)
    lit = (images[rows] + (brightness - 1)[:, None]).clamp(0, 1)
    red, green, blue = (lit * contrast[:, None]).clamp(max=1).unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    most_red, most_green = red == value, green == value
    order = torch.where(most_red, 0.0, torch.where(most_green, 2.0, 4.0))
    others = torch.where(most_red, green - blue, torch.where(most_green, blue - red, red - green))
    hue = order + others / (chroma + 1e-12) + 6 * turn  # in sixths of a turn
    saturated = value * (chroma / (value + 1e-6) * saturation).clamp(max=1)  # 1e-6: kornia's
    channels = []
    for own_hue in (0, 2, 4):
        distance = (torch.remainder(hue - own_hue + 3, 6) - 3).abs()  # around the circle
        channels.append(value - saturated * (distance - 1).clamp(0, 1))
    return images.index_copy(0, rows, torch.stack(channels, 1))
