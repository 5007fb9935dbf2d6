"""Checks of COCO's records: each passes what the benchmark can rely on, or says what is wrong."""

import re
from pathlib import Path

import numpy as np

from tcig.data.errors import InputError, shown
from tcig.data.masks import check_runs
from tcig.data.pictures import check_size
from tcig.data.voc import BY_COCO_ID, BY_LABEL, VOC_WORDS

OUTLINE = 4_000_000
"""Pixels of the outline of an object's polygons (our choice): pycocotools takes about 100 bytes for
each of them."""


def encodable(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON can hold and no file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_image(path: Path, image: dict) -> None:
    """Refuses a size that is not of pixels, and a file name that could lead out of its folder."""
    try:
        check_size(image["width"], image["height"])
    except ValueError as error:
        raise InputError(f"{path}: image {image['id']} has the {error}.") from None
    name = image["file_name"]
    if type(name) is not str or not re.fullmatch(r"\w[\w-]*\.\w+", name, re.ASCII):
        raise InputError(
            f"{path}: image {image['id']} has the file_name {name!r}; expected a name without "
            "folders, of letters, digits, _ and -, with one extension, as 000000000139.jpg."
        )


def class_of(name: object) -> str | None:
    """The class that a category's name means, whatever its case and of COCO's or VOC's words."""
    text = name.strip().lower() if isinstance(name, str) else ""
    label = VOC_WORDS.get(text, text)
    return label if label in BY_LABEL else None


def check_category(path: Path, number: int, name: object) -> None:
    """Refuses ids that are not COCO's: a file's cats would be taken for dogs, or left out."""
    label, known = class_of(name), BY_COCO_ID.get(number)
    if type(name) is not str:
        raise InputError(f"{path}: category {number} has the name {name!r}; expected a text.")
    if known and label != known.label:
        raise InputError(
            f"{path}: category {number} is {name!r}, in COCO it is {known.label!r}; give the "
            "annotations COCO's category ids."
        )
    if label and not known:
        raise InputError(
            f"{path}: category {number} is {name!r}, whose id in COCO is "
            f"{BY_LABEL[label].coco_id}; give the annotations COCO's category ids."
        )


def check_object(path: Path, annotation: dict, image: dict) -> None:
    """Refuses an annotation whose area, crowd flag or mask cannot be its image's.

    Polygons of one object may overlap or leave the image, so an area may exceed it, but not twice.
    """
    number, area = annotation["id"], annotation["area"]
    if type(area) not in (int, float) or not 0 <= area <= 2 * image["width"] * image["height"]:
        raise refusal(path, number, f"has the area {shown(area)}", "pixels of its image are needed")
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise refusal(path, number, f"has iscrowd {annotation['iscrowd']!r}", "it is 0 or 1")
    try:
        check_segmentation(annotation["segmentation"], image["height"], image["width"])
    except ValueError as error:
        raise refusal(path, number, f"of image {image['id']} has no usable mask", error) from None


def check_segmentation(segmentation: object, height: int, width: int) -> None:
    """Checks what pycocotools would walk or allocate without a look: polygons or an RLE.

    Args:
        segmentation: as in COCO's annotations.
        height: of the image, pixels.
        width: of the image, pixels.

    Raises:
        ValueError: it is neither, has another size, or its coordinates or runs do not fit.
    """
    check_size(width, height)
    if type(segmentation) is list:
        if not segmentation:
            raise ValueError("there is no polygon")
        outline = sum(_check_polygon(each, height, width) for each in segmentation)
        if outline > OUTLINE:
            raise ValueError(
                f"its outline is {outline:.0f} pixels long; at most {OUTLINE} are read"
            )
    elif type(segmentation) is dict and {"size", "counts"} <= segmentation.keys():
        if segmentation["size"] != [height, width]:
            raise ValueError(f"its RLE has the size {segmentation['size']}, not {[height, width]}")
        check_runs(segmentation)
    else:
        raise ValueError("it is neither a list of polygons nor an RLE with size and counts")


def _check_polygon(polygon: object, height: int, width: int) -> float:
    """Checks a polygon and bounds the length of its outline, pixels."""
    if type(polygon) is not list:
        raise ValueError(
            f"a polygon is {shown(polygon)}; expected a list of lists [x, y, x, y, ...]"
        )
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(
            f"a polygon has {len(polygon)} coordinates; expected x and y of at least 3 points, an "
            "even number"
        )
    side = max(height, width)
    try:  # whole lists at once: a loop over a million coordinates would double the reading time
        low, high = min(polygon), max(polygon)
        total = sum(polygon)
        sound = -side <= low and high <= 2 * side and total == total
    except (TypeError, OverflowError):
        sound = False
    if not sound:
        raise ValueError(
            f"a polygon has coordinates that are no pixels in or near its image of {width}x{height}"
        )
    longest = (high - low) * len(polygon) / 2
    if longest <= OUTLINE / 100:
        return longest
    points = np.array(polygon, float).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, 0)).max(1).sum())


def refusal(path: Path, number: int, what: str, why: object) -> InputError:
    """The error that names the file and the annotation."""
    return InputError(f"{path}: annotation {number} {what}: {why}.")
