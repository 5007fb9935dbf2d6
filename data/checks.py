"""Checks of COCO's records: each passes what the benchmark can rely on, or says what is wrong."""

import re
from pathlib import Path

from tcig.data.errors import InputError
from tcig.data.masks import check_runs
from tcig.data.voc import BY_COCO_ID, VOC_WORDS

FAR = 1e5
"""Pixels from the origin beyond which a polygon is not drawn: pycocotools walks every pixel of its
outline."""


def encodable(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON can hold and no file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_image(path: Path, image: dict) -> None:
    """Refuses a size that is not of pixels, and a file name that could lead out of its folder."""
    if not all(type(image[side]) is int and image[side] > 0 for side in ("width", "height")):
        raise InputError(f"{path}: image {image['id']} has no width and height in pixels.")
    name = image["file_name"]
    if type(name) is not str or not re.fullmatch(r"\w[\w-]*\.\w+", name, re.ASCII):
        raise InputError(
            f"{path}: image {image['id']} has the file name {name!r}: a plain name is needed."
        )


def check_category(path: Path, number: int, name: str) -> None:
    """Refuses ids that are not COCO's: a file's cats would be taken for dogs."""
    known = BY_COCO_ID.get(number)
    if known and VOC_WORDS.get(name, name) != known.label:
        raise InputError(
            f"{path}: category {number} is {name!r}, in COCO it is {known.label!r}: give the "
            "annotations COCO's category ids."
        )


def check_object(path: Path, annotation: dict, image: dict) -> None:
    """Refuses an annotation whose area, crowd flag or mask cannot be its image's.

    Polygons of one object may overlap or leave the image, so an area may exceed it, but not twice.
    """
    number, shape, area = annotation["id"], annotation["segmentation"], annotation["area"]
    if type(area) not in (int, float) or not 0 <= area <= 2 * image["width"] * image["height"]:
        raise refusal(path, number, f"has the area {area!r}", "pixels of its image are needed")
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise refusal(path, number, f"has iscrowd {annotation['iscrowd']!r}", "it is 0 or 1")
    if type(shape) is list:
        if not shape:
            raise refusal(path, number, "has no polygon", "its mask is unknown")
        for polygon in shape:
            _check_polygon(path, number, polygon)
    elif type(shape) is dict and {"size", "counts"} <= shape.keys():
        size = [image["height"], image["width"]]
        if shape["size"] != size:
            what = f"has an RLE of size {shape['size']}"
            raise refusal(path, number, what, f"its image {image['id']} is {size}")
        try:
            check_runs(shape)
        except ValueError as error:
            raise refusal(path, number, "has no readable RLE", str(error)) from None
    else:
        raise refusal(path, number, "has neither polygons nor an RLE", "its mask is unknown")


def _check_polygon(path: Path, number: int, polygon: list) -> None:
    if type(polygon) is not list or len(polygon) < 6 or len(polygon) % 2:
        length = len(polygon) if type(polygon) is list else 0
        what = f"has a polygon of {length} coordinates"
        raise refusal(path, number, what, "at least 3 points (6 coordinates) are needed")
    try:  # whole lists at once: a loop over a million coordinates would double the reading time
        total = sum(polygon)
        sound = max(polygon) <= FAR and min(polygon) >= -FAR and total == total
    except TypeError:
        sound = False
    if not sound:
        raise refusal(
            path,
            number,
            "has a polygon that is not of pixels",
            f"numbers up to {FAR:.0f} are needed",
        )


def refusal(path: Path, number: int, what: str, why: str) -> InputError:
    """The error that names the file and the annotation."""
    return InputError(f"{path}: annotation {number} {what}: {why}.")
