"""Masks: COCO run-length encoding, crops, resizing, label maps as palette PNG.

A mask is an (H, W) bool array; an RLE is COCO's dictionary `{"size": [H, W], "counts": str}`.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from tcig.data.errors import InputError
from tcig.data.pictures import check_size, encode_png, open_picture
from tcig.data.voc import COLOURS, NUM_LABELS


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
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"its counts hold {character!r}")
        value |= (group & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("its counts hold a run of too many digits")
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its counts end within a run")
    return runs


def centre_square(height: int, width: int) -> tuple[int, int, int]:
    """The largest centred square as (top, left, side); odd margins leave more below and right."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def crop_square(pixels: np.ndarray) -> np.ndarray:
    """The centre square of an (H, W, ...) array, a view."""
    top, left, side = centre_square(*pixels.shape[:2])
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
