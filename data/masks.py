"""Masks: COCO run-length encoding, crops, resizing, label maps as palette PNG, imperfect masks.

A mask is an (H, W) bool array; an RLE is COCO's dictionary `{"size": [H, W], "counts": str}`.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import shift as move

from tcig.data.files import InputError
from tcig.data.pictures import check_size, encode_png, open_picture
from tcig.data.voc import COLOURS, NUM_LABELS

TRUE = "true"
"""Masks as they are."""
VERTICES = 8
"""Corners of a rough polygon."""
STROKES = 6
"""Points that a scribble passes through."""


def to_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """COCO's polygons, uncompressed or compressed RLE -> one compressed RLE with `counts` as str.

    Several polygons of one annotation are its parts: their union is taken.
    """
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        return segmentation
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def decode(rle: dict) -> np.ndarray:
    """RLE -> (H, W) bool."""
    return coco_mask.decode(rle).astype(bool)


def encode(mask: np.ndarray) -> dict:
    """(H, W) bool -> RLE."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}


def area(rle: dict) -> int:
    """Pixels of an RLE, without decoding it."""
    return int(coco_mask.area(rle))


def check_runs(rle: dict) -> None:
    """Refuses an RLE whose runs do not add up to its size: `decode` would read beyond them.

    Raises:
        ValueError: they do not, or its counts are not runs.
    """
    size, counts = rle["size"], rle["counts"]
    if type(size) is not list or len(size) != 2:
        raise ValueError("its size must be [height, width]")
    height, width = size
    check_size(width, height)
    runs = _runs(counts) if isinstance(counts, str) else counts
    if type(runs) is not list or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("its runs must be whole numbers from 0")
    if sum(runs) != height * width:
        raise ValueError(f"its runs are {sum(runs)} pixels, its size {height * width}")


def _runs(counts: str) -> list[int]:
    """The runs of a compressed RLE.

    Each run is groups of 5 bits, the lowest first, 6th bit: another group follows; from the fourth
    run on, the difference from the run before last (cocoapi, common/maskApi.c, rleFrString).
    """
    if not re.fullmatch("([P-o]{0,11}[0-O])*", counts):
        raise ValueError("its counts are not compressed runs")
    runs: list[int] = []
    for digits in re.findall("[P-o]*[0-O]", counts):
        groups = [ord(digit) - 48 for digit in digits]
        value = sum((group & 31) << 5 * place for place, group in enumerate(groups))
        if groups[-1] & 16:
            value -= 1 << 5 * len(groups)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def crop_square(pixels: np.ndarray) -> np.ndarray:
    """The largest centred square of an (H, W, ...) array, a view.

    Odd margins leave more below and right.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def resize_nearest(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes a square (S, S, ...) array by nearest neighbour, sampling at pixel centres.

    Output pixel i reads input pixel floor((i + 1/2) S / size), in exact integers: torch's
    "nearest-exact", and Pillow's NEAREST but for rounding at exact ties. Of the same size it is
    the array itself.
    """
    side = pixels.shape[0]
    if pixels.shape[1] != side:
        raise ValueError(f"{pixels.shape[1]}x{side} pixels are no square")
    if side == size:
        return pixels
    index = (2 * np.arange(size) + 1) * side // (2 * size)
    return pixels[index][:, index]


def label_map(masks: list[np.ndarray], classes: list[int], size: int) -> np.ndarray:
    """Class index of each pixel, (size, size) uint8, 0 for background.

    The union per class; where classes overlap the smaller object lies on top (of equal areas, the
    later one). Masks are (S, S) bool, their areas compared at that native size.
    """
    labels = np.zeros((size, size), np.uint8)
    order = sorted(range(len(masks)), key=lambda i: -np.count_nonzero(masks[i]))
    for i in order:
        labels[resize_nearest(masks[i], size)] = classes[i]
    return labels


_PALETTE = [value for colour in COLOURS for value in colour]


def encode_label_map(labels: np.ndarray) -> bytes:
    """An (H, W) uint8 label map of classes 0..20 as a PNG in the VOC palette."""
    image = Image.fromarray(labels, "P")
    image.putpalette(_PALETTE)
    return encode_png(image)


def load_label_map(path: Path) -> np.ndarray:
    """Reads a palette PNG of classes 0..20 as (H, W) uint8.

    Raises:
        InputError: it cannot be read, is not a palette PNG, or has a value above 20.
    """
    image = open_picture(path)
    labels, form, mode = np.array(image), image.format, image.mode
    if (form, mode) != ("PNG", "P"):
        raise InputError(
            f"{path} is a {form} of mode {mode}; expected a palette PNG, as `tcig score` writes it."
        )
    if labels.max() >= NUM_LABELS:
        raise InputError(f"{path} holds the value {labels.max()}; expected classes 0 to 20.")
    return labels


def eroded(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Removes a border of the amount's depth, but never the core of the object."""
    depth = distance_transform_edt(mask)
    return depth > min(amount * _size(mask), 0.7 * depth.max())


def dilated(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Adds a border of the amount's width."""
    return distance_transform_edt(~mask) <= amount * _size(mask)


def shifted(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Moves by the amount in a random direction; what leaves the square is lost."""
    angle = rng.uniform(0, 2 * np.pi)
    offset = np.rint(amount * _size(mask) * np.array([np.sin(angle), np.cos(angle)]))
    return move(mask, offset, order=0)


def polygon(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Joins the farthest pixels of `VERTICES` sectors, each moved at random by the amount."""
    points = np.argwhere(mask)
    away = points - points.mean(0)
    sectors = ((np.arctan2(*away.T) + np.pi) / (2 * np.pi) * VERTICES).astype(int) % VERTICES
    distance = np.hypot(*away.T)
    corners = []
    for sector in np.unique(sectors):
        inside = np.flatnonzero(sectors == sector)
        farthest = points[inside[distance[inside].argmax()]]
        corners.append(farthest + rng.normal(0, amount * _size(mask), 2))
    if len(corners) < 3:
        return mask
    canvas = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(canvas).polygon([(x, y) for y, x in corners], fill=1)
    return np.array(canvas)


def scribble(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Draws a stroke of the amount's width through `STROKES` random points of the object."""
    points = np.argwhere(mask)
    chosen = points[rng.integers(len(points), size=STROKES)]
    centred = points - points.mean(0)
    axis = np.linalg.svd(centred.T @ centred)[0][:, 0]
    chosen = chosen[np.argsort(chosen @ axis)]
    canvas = Image.new("1", mask.shape[::-1])
    width = max(1, round(amount * _size(mask)))
    ImageDraw.Draw(canvas).line([(x, y) for y, x in chosen.tolist()], 1, width, "curve")
    return np.array(canvas)


def _size(mask: np.ndarray) -> float:
    return float(np.sqrt(mask.sum()))


IMPERFECTIONS: dict[str, tuple[Callable, float]] = {
    "eroded": (eroded, 0.05),
    "dilated": (dilated, 0.08),
    "shifted": (shifted, 0.1),
    "polygon": (polygon, 0.05),
    "scribble": (scribble, 0.2),
}
"""Masks as a hasty user draws them, each with its default amount: TCIG loosens its second stage "to
address imperfect masks". The paper names no kind and no amount of imperfection: all here is our
choice. An amount is a share of the object's own size, the square root of its area, so that it
affects small and large objects alike. Over the regions of the 97 embedded layouts, the defaults
leave a mean IoU with the true masks of 0.64 to 0.67, a scribble 0.28."""


def parse_masks(text: str) -> tuple[str, float]:
    """`KIND` or `KIND:AMOUNT` as a pair, `true` with amount 0.

    Raises:
        InputError: an unknown kind, or an amount that is not from 0 to 1.
    """
    kind, colon, amount = text.partition(":")
    if text == TRUE:
        return TRUE, 0.0
    if kind not in IMPERFECTIONS:
        kinds = ", ".join(IMPERFECTIONS)
        raise InputError(f"unknown masks {text!r}; available: {TRUE}, {kinds}, as dilated:0.1.")
    try:
        value = float(amount) if colon else IMPERFECTIONS[kind][1]
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"masks {text!r}: the amount must be from 0 to 1, as dilated:0.1.")
    return kind, value
