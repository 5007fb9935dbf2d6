"""Reads COCO's instances and captions and checks what the benchmark relies on."""

import gc
import hashlib
import re
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcig.data.files import InputError, encodable, parse_json, read_file, shown
from tcig.data.masks import check_runs
from tcig.data.pictures import check_size
from tcig.data.voc import BY_COCO_ID, CLASSES, class_of

MAX_OUTLINE = 4_000_000
"""Longest outline of an object's polygons in pixels (our choice): pycocotools allocates about 100
bytes for each pixel of it."""


@dataclass(frozen=True)
class Instances:
    """A checked instances file and its SHA-256.

    `images` maps image id to COCO's record (`file_name`, `width`, `height`); `objects` maps image
    id to its annotations of the 20 VOC classes, in the file's order; images without any are absent.
    """

    path: Path
    sha256: str
    images: dict[int, dict]
    objects: dict[int, list[dict]]


@dataclass(frozen=True)
class Captions:
    """A checked captions file: image id -> its captions in the order of their annotation ids."""

    path: Path
    sha256: str
    texts: dict[int, list[str]]


def read_instances(folder: Path, year: int) -> Instances:
    """Reads and checks `folder/annotations/instances_val{year}.json`.

    Ids and references of all annotations are checked, masks those of the 20 VOC classes.

    Raises:
        InputError: the file is missing or not JSON; a field is missing; an id is a duplicate; a
            category has another id than COCO's; an annotation has an unknown image or category, or
            a mask that cannot be its image's.
    """
    path = folder / "annotations" / f"instances_val{year}.json"
    with _no_collection():
        content, digest = _read(path)
        images = _index(path, content, "images", {"file_name", "width", "height"})
        for image in images.values():
            _check_image(path, image)
        categories = _index(path, content, "categories", {"name"})
        for number, category in categories.items():
            check_category(path, number, category["name"])
        fields = {"image_id", "category_id", "area", "segmentation"}
        objects = defaultdict(list)
        for annotation in _index(path, content, "annotations", fields).values():
            _check_reference(path, annotation, "category_id", categories)
            _check_reference(path, annotation, "image_id", images)
            if annotation["category_id"] in BY_COCO_ID:
                _check_object(path, annotation, images[annotation["image_id"]])
                objects[annotation["image_id"]].append(annotation)
    return Instances(path, digest, images, dict(objects))


def read_captions(folder: Path, year: int) -> Captions:
    """Reads and checks `folder/annotations/captions_val{year}.json`.

    Raises:
        InputError: as `read_instances`; a caption is not a text.
    """
    path = folder / "annotations" / f"captions_val{year}.json"
    with _no_collection():
        content, digest = _read(path)
        images = _index(path, content, "images", set())
        annotations = _index(path, content, "annotations", {"image_id", "caption"})
    texts = defaultdict(list)
    for number, annotation in sorted(annotations.items()):
        caption = annotation["caption"]
        _check_reference(path, annotation, "image_id", images)
        if not isinstance(caption, str) or not caption.strip() or not encodable(caption):
            raise _refusal(path, number, f"expected a text as its caption, got {shown(caption)}")
        texts[annotation["image_id"]].append(" ".join(caption.split()))
    return Captions(path, digest, dict(texts))


@contextmanager
def _no_collection():
    """Parsing makes millions of objects and no garbage: without this the collector scans them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read(path: Path) -> tuple[dict, str]:
    """The content of an annotation file, and its SHA-256."""
    fix = "give --coco a folder of COCO's shape, or add --download"
    if path.name.startswith("captions"):
        fix += ", or for the row `real`, which needs none, --caption None"
    for year in ("2014", "2017"):
        if not path.exists() and path.with_name(re.sub("20..", year, path.name)).is_file():
            fix = f"the folder has the annotations of {year}: give --year {year}, or add --download"
    data = read_file(path, fix)
    content = parse_json(data, path, "remove it and fetch it again with --download")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not COCO's object of lists.")
    return content, hashlib.sha256(data).hexdigest()


def _index(path: Path, content: dict, part: str, fields: set[str]) -> dict[int, dict]:
    """The records of one part by id, each with its `fields`."""
    records = content.get(part)
    if not isinstance(records, list):
        raise InputError(f"{path} has no list `{part}`: is it an annotation file of COCO?")
    index: dict[int, dict] = {}
    for place, record in enumerate(records):
        number = record.get("id") if isinstance(record, dict) else None
        if type(number) is not int or number < 0:
            raise InputError(
                f"{path}: expected an object with an integer of at least 0 as its id for no. "
                f"{place} of `{part}`, got {shown(record)}."
            )
        if missing := fields - record.keys():
            raise InputError(f"{path}: id {number} in `{part}` lacks {', '.join(sorted(missing))}.")
        if number in index:
            raise InputError(f"{path}: duplicate id {number} in `{part}`.")
        index[number] = record
    return index


def _check_reference(path: Path, annotation: dict, field: str, known: dict[int, dict]) -> None:
    number = annotation[field]
    if type(number) is not int or number not in known:
        raise _refusal(path, annotation["id"], f"unknown {field} {shown(number)}")


def _check_image(path: Path, image: dict) -> None:
    """Refuses a size that is not of pixels, and a file name that could lead out of its folder."""
    try:
        check_size(image["width"], image["height"])
    except ValueError as error:
        raise InputError(f"{path}: image {image['id']} has the {error}.") from None
    name = image["file_name"]
    if type(name) is not str or not re.fullmatch(r"\w[\w-]*\.\w+", name, re.ASCII):
        raise InputError(
            f"{path}: image {image['id']} has the file_name {shown(name)}; expected a name without "
            "folders, of letters, digits, _ and -, with one extension, as 000000000139.jpg."
        )


def check_category(path: Path, number: int, name: object) -> None:
    """Refuses ids that are not COCO's: a file's cats would be taken for dogs, or left out.

    Raises:
        InputError: the name is not a text, or does not belong to the id.
    """
    known = BY_COCO_ID.get(number)
    if type(name) is not str or class_of(name) != (known.label if known else None):
        ids = ", ".join(f"{voc.coco_id} {voc.label}" for voc in CLASSES)
        raise InputError(
            f"{path}: category {number} has the name {shown(name)}; expected COCO's ids: {ids}."
        )


def _check_object(path: Path, annotation: dict, image: dict) -> None:
    """Refuses an annotation whose area, crowd flag or mask cannot be its image's.

    Polygons of one object may overlap or leave the image, so an area may exceed it, but not twice.
    """
    number, area, crowd = annotation["id"], annotation["area"], annotation.get("iscrowd", 0)
    if type(area) not in (int, float) or not 0 <= area <= 2 * image["width"] * image["height"]:
        raise _refusal(path, number, f"expected pixels of its image as its area, got {shown(area)}")
    if crowd not in (0, 1):
        raise _refusal(path, number, f"expected 0 or 1 as iscrowd, got {shown(crowd)}")
    try:
        check_segmentation(annotation["segmentation"], image["height"], image["width"])
    except ValueError as error:
        raise _refusal(path, number, f"unusable mask, {error}") from None


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
        outline = sum(_check_polygon(polygon, height, width) for polygon in segmentation)
        if outline > MAX_OUTLINE:
            raise ValueError(
                f"its outline has {outline:.0f} pixels; expected at most {MAX_OUTLINE}"
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
            f"a polygon has {len(polygon)} coordinates; expected x and y of at least 3 points"
        )
    side = max(height, width)
    try:  # whole lists at once: a loop over a million coordinates would double the reading time
        low, high, total = min(polygon), max(polygon), sum(polygon)
        fits = -side <= low and high <= 2 * side and total == total  # a NaN is not itself
    except (TypeError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(
            f"a polygon has coordinates that are no pixels in or near its image of {width}x{height}"
        )
    longest = (high - low) * len(polygon) / 2
    if longest <= MAX_OUTLINE / 100:
        return longest
    points = np.array(polygon, float).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, 0)).max(1).sum())


def _refusal(path: Path, number: int, problem: str) -> InputError:
    return InputError(f"{path}: annotation {number}: {problem}.")
