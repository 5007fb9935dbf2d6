"""Pools of training scenes on disk, drawn once by all processors and then read at random."""

import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from tcig.data.emoji.scenes import BACKGROUNDS, SIZE, Scene, portrait, scene

RECORD = np.dtype([("image", np.uint8, (SIZE, SIZE, 3)), ("labels", np.uint8, (SIZE, SIZE))])
"""What the segmenters train on: a scene as it is drawn."""

CANVAS = 64
"""Side of the images that the generative models make: half of what the scenes are drawn at."""
SCENES = PORTRAITS = 24_000
"""Of the generative models' training."""
CAPTIONED = np.dtype(
    [
        ("image", np.uint8, (CANVAS, CANVAS, 3)),
        ("labels", np.uint8, (CANVAS, CANVAS)),
        ("captions", "S240", 3),
    ]
)
"""What the generative models and the CLIPs train on: a scene or portrait on their canvas."""


def floats(images: np.ndarray) -> Tensor:
    """Images (B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1], contiguous."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255


def _record(index: int, styles: tuple[str, ...]) -> np.ndarray:
    drawn = scene("training", index, styles)
    return np.array((drawn.image, drawn.label_map()), RECORD)


def captioned(drawn: Scene) -> np.ndarray:
    """A scene as a record of `CAPTIONED`: the image by Lanczos, the labels nearest."""
    size = (CANVAS, CANVAS)
    image = Image.fromarray(drawn.image).resize(size, Image.Resampling.LANCZOS)
    labels = Image.fromarray(drawn.label_map()).resize(size, Image.Resampling.NEAREST)
    captions = drawn.captions
    if len(captions) == 2:
        bare = captions[0]
        for phrase, *_ in BACKGROUNDS:
            bare = bare.removesuffix(f" {phrase}")
        captions = (*captions, bare)
    encoded = [caption.encode() for caption in captions]
    return np.array((np.asarray(image), np.asarray(labels), encoded), CAPTIONED)


def _scene(index: int) -> np.ndarray:
    return captioned(scene("training", index))


def _portrait(index: int) -> np.ndarray:
    return captioned(portrait("training", index))


def scene_pool(folder: Path, first: int, count: int, styles: tuple[str, ...]) -> np.ndarray:
    """Scenes `first` .. `first + count - 1` of the training split as an array of `RECORD`."""
    path = folder / f"scenes-{first}-{count}-{'-'.join(styles)}.npy"
    return _pool(path, partial(_record, styles=styles), RECORD, first, count)


def captioned_pools(folder: Path, first: int, scenes: int, portraits: int) -> list[np.ndarray]:
    """Scenes and portraits `first` .. of the training split as two arrays of `CAPTIONED`."""
    kinds = {"scenes": (_scene, scenes), "portraits": (_portrait, portraits)}
    return [
        _pool(folder / f"captioned-{kind}-{first}-{count}.npy", draw, CAPTIONED, first, count)
        for kind, (draw, count) in kinds.items()
    ]


def _pool(path: Path, draw: Callable, record: np.dtype, first: int, count: int) -> np.ndarray:
    """Made whole or not at all; a later call with the same arguments maps the file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        pool = np.lib.format.open_memmap(draft, "w+", record, (count,))
        with multiprocessing.get_context("spawn").Pool() as workers:
            records = workers.imap(draw, range(first, first + count), chunksize=64)
            for row, drawn in enumerate(tqdm(records, path.stem, count)):
                pool[row] = drawn
        pool.flush()
        draft.rename(path)
    return np.load(path, mmap_mode="r")
