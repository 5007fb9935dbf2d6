"""Data of the miniature models: pools of scenes on disk, held-out scenes, augmentation."""

import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tcig.data.emoji import FOLDER
from tcig.data.emoji.scenes import BACKGROUNDS, SIZE, Scene, portrait, scene
from tcig.data.filters import Filter
from tcig.data.layout import Layout
from tcig.data.manifest import build_layouts

RECORD = np.dtype([("image", np.uint8, (SIZE, SIZE, 3)), ("labels", np.uint8, (SIZE, SIZE))])
"""A scene in its own size, which the segmenters train on."""
CANVAS = 64
"""Side in pixels of the images of the generative models and CLIPs."""
CAPTIONED = np.dtype(
    [
        ("image", np.uint8, (CANVAS, CANVAS, 3)),
        ("labels", np.uint8, (CANVAS, CANVAS)),
        ("captions", "S240", 3),
    ]
)
"""A scene or portrait on the canvas, which the generative models and the CLIPs train on."""
POOL_SIZE = 24_000
"""Scenes, and as many portraits, of the generative models and the CLIPs."""
CAPTIONED_DATA = {
    "styles": ["noto"],
    "scenes": POOL_SIZE,
    "portraits": POOL_SIZE,
    "canvas": CANVAS,
}
"""The entry `data` of the cards of models that train on `captioned_pools`."""
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""Matrix from RGB to YIQ (NTSC). A rotation in the plane of I and Q turns the hue."""


def to_float(images: np.ndarray) -> Tensor:
    """Converts images (B, H, W, 3) uint8 to (B, 3, H, W) in [0, 1], contiguous."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255


def memory_map(
    path: Path, dtype: np.dtype, shape: tuple[int, ...], batches: Iterable[np.ndarray]
) -> np.ndarray:
    """Maps the array file `path`; if it is missing, first writes it from `batches`.

    The file is written whole or not at all.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft, end = path.with_suffix(".part"), 0
        array = np.lib.format.open_memmap(draft, "w+", dtype, shape)
        with tqdm(total=len(array), desc=path.stem) as bar:
            for batch in batches:
                start, end = end, end + len(batch)
                array[start:end] = batch
                bar.update(len(batch))
        array.flush()
        draft.rename(path)
    return np.load(path, mmap_mode="r")


def scene_pool(folder: Path, first: int, count: int, styles: tuple[str, ...]) -> np.ndarray:
    """Scenes `first` to `first + count - 1` of the training split as an array of `RECORD`."""
    path = folder / f"scenes-{first}-{count}-{'-'.join(styles)}.npy"
    compose = partial(_plain_record, styles=styles)
    return memory_map(path, RECORD, (count,), _in_parallel(compose, first, count))


def captioned_pools(folder: Path) -> list[np.ndarray]:
    """The first scenes and portraits of the training split as two arrays of `CAPTIONED`."""
    return [
        memory_map(
            folder / f"captioned-{kind}-0-{POOL_SIZE}.npy",
            CAPTIONED,
            (POOL_SIZE,),
            _in_parallel(partial(_captioned_record, kind, "training"), 0, POOL_SIZE),
        )
        for kind in ("scenes", "portraits")
    ]


@cache
def held_out(split: str, kind: str, count: int) -> np.ndarray:
    """The first `count` "scenes" or "portraits" of a split as an array of `CAPTIONED`."""
    return np.array([_captioned_record(kind, split, index) for index in range(count)])


def _in_parallel(compose: Callable, first: int, count: int) -> Iterator[np.ndarray]:
    """Yields `compose` of `count` indices, each as a batch of one, from all processors."""
    with multiprocessing.get_context("spawn").Pool() as workers:
        for record in workers.imap(compose, range(first, first + count), chunksize=64):
            yield record[None]


def _plain_record(index: int, styles: tuple[str, ...]) -> np.ndarray:
    composed = scene("training", index, styles)
    return np.array((composed.image, composed.label_map()), RECORD)


def _captioned_record(kind: str, split: str, index: int) -> np.ndarray:
    """A scene as a record of `CAPTIONED`, its image reduced by Lanczos, its labels by nearest.

    A scene has two captions; the third that is added leaves the background out.
    """
    composed = {"scenes": scene, "portraits": portrait}[kind](split, index)
    size = (CANVAS, CANVAS)
    image = Image.fromarray(composed.image).resize(size, Image.Resampling.LANCZOS)
    labels = Image.fromarray(composed.label_map()).resize(size, Image.Resampling.NEAREST)
    captions = composed.captions
    if len(captions) == 2:
        bare = captions[0]
        for phrase, *_ in BACKGROUNDS:
            bare = bare.removesuffix(f" {phrase}")
        captions = (*captions, bare)
    encoded = [caption.encode() for caption in captions]
    return np.array((np.asarray(image), np.asarray(labels), encoded), CAPTIONED)


@cache
def layouts() -> list[Layout]:
    """The validation layouts under the default filter."""
    return list(build_layouts(FOLDER, Filter())[1])


@cache
def real_images() -> list[Image.Image]:
    """The images of the validation layouts on the models' canvas."""
    files = [Image.open(FOLDER / layout.image).convert("RGB") for layout in layouts()]
    return [file.resize((CANVAS, CANVAS), Image.Resampling.LANCZOS) for file in files]


def plain_scenes(count: int) -> list[Scene]:
    """The first `count` validation scenes of 2 or 3 objects of at least 5% of the image each."""
    chosen, index = [], 0
    while len(chosen) < count:
        candidate = scene("validation", index)
        large = all(t.mask.mean() >= 0.05 and not t.crowd for t in candidate.things)
        if 2 <= len(candidate.things) <= 3 and large:
            chosen.append(candidate)
        index += 1
    return chosen


def augment(
    images: Tensor, labels: Tensor, size: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Warps, recolours, blurs and adds noise.

    Args:
        images: (B, 3, H, W) in [0, 1].
        labels: (B, H, W) integers.
        size: side of the square crops that are returned.
        rng: generator of all random numbers.

    Returns:
        Images (B, 3, size, size) in [0, 1] and labels (B, size, size).
    """
    images, labels = _warp(images, labels, size, rng)
    images = _recolour(images, rng)
    blurred = torch.rand(len(images), generator=rng) < 0.5
    side = max(8, int(size / (1 + 3 * torch.rand((), generator=rng))))
    small = F.interpolate(images[blurred], size=side, mode="area")
    images[blurred] = F.interpolate(small, size=size, mode="bilinear")
    strength = 0.12 * torch.rand(len(images), 1, 1, 1, generator=rng) ** 2
    noise = torch.randn(images.shape, generator=rng)
    return (images + strength * noise).clamp_(0, 1), labels


def _uniform(count: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=rng)


def _warp(images: Tensor, labels: Tensor, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip, rotation to 10 degrees, zoom .75 to 1.35 (of a crop of `size`), shift."""
    count = len(images)
    extent = size / images.shape[-1] / _uniform(count, 0.75, 1.35, rng)
    flip = torch.where(torch.rand(count, generator=rng) < 0.5, -1.0, 1.0)
    angle = _uniform(count, -math.pi / 18, math.pi / 18, rng)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = extent * angle.cos() * flip, -extent * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = extent * angle.sin() * flip, extent * angle.cos()
    room = (1 - extent).clamp(min=0.1)
    theta[:, 0, 2] = room * _uniform(count, -1, 1, rng)
    theta[:, 1, 2] = room * _uniform(count, -1, 1, rng)
    grid = F.affine_grid(theta, (count, 3, size, size), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    labels = F.grid_sample(
        labels[:, None].float(), grid, "nearest", padding_mode="reflection", align_corners=False
    )
    return images, labels[:, 0].long()


def _recolour(images: Tensor, rng: torch.Generator) -> Tensor:
    """Hue to 12 degrees, saturation and contrast .6 to 1.4, brightness by .15."""
    count = len(images)
    angle = _uniform(count, -math.pi / 15, math.pi / 15, rng)
    saturation = _uniform(count, 0.6, 1.4, rng)
    rotation = torch.zeros(count, 3, 3)
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos() * saturation
    rotation[:, 1, 2], rotation[:, 2, 1] = -angle.sin() * saturation, angle.sin() * saturation
    matrix = torch.linalg.inv(YIQ) @ rotation @ YIQ
    images = torch.einsum("bij,bjhw->bihw", matrix, images)
    mean = images.mean((1, 2, 3), keepdim=True)
    contrast = _uniform(count, 0.6, 1.4, rng)[:, None, None, None]
    shift = _uniform(count, -0.15, 0.15, rng)[:, None, None, None]
    return ((images - mean) * contrast + mean + shift).clamp_(0, 1)
