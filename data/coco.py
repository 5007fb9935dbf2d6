"""Reads COCO's instances and captions and checks what the benchmark relies on."""

import gc
import hashlib
import json
import re
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tcig.data.errors import InputError
from tcig.data.masks import check_runs
from tcig.data.voc import BY_COCO_ID, VOC_WORDS

FAR = 1e5
"""Pixels from the origin beyond which a polygon is not drawn: pycocotools walks every pixel of its
outline."""


@dataclass(frozen=True)
class Source:
    """A file that was read, and its SHA-256."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Instances:
    """A checked instances file.

    `images` maps image id to COCO's record (`file_name`, `width`, `height`); `objects` maps image
    id to its annotations of the 20 VOC classes, in the file's order; images without any are absent.
    """

    source: Source
    images: dict[int, dict]
    objects: dict[int, list[dict]]


@dataclass(frozen=True)
class Captions:
    """A checked captions file: image id -> its captions in the order of their annotation ids."""

    source: Source
    texts: dict[int, list[str]]


def read_instances(folder: Path, year: int) -> Instances:
    """Reads and checks `folder/annotations/instances_val{year}.json`.

    Ids and references of all annotations are checked, masks those of the 20 VOC classes.

    Raises:
        InputError: the file is missing, not JSON or truncated; a part or a field is missing;
            an id stands twice; a category has another id than COCO's; an annotation is of an
            unknown image or category; a polygon has fewer than 3 points; an RLE has another size
            than its image.
    """
    path = folder / "annotations" / f"instances_val{year}.json"
    with _no_collection():
        content, source = _read(path)
        images = _index(path, content, "images", ("file_name", "width", "height"))
        for image in images.values():
            _check_image(path, image)
        categories = _index(path, content, "categories", ("name",))
        for number, category in categories.items():
            _check_category(path, number, category["name"])
        annotations = _index(
            path, content, "annotations", ("image_id", "category_id", "area", "segmentation")
        )
        objects = defaultdict(list)
        for number, annotation in annotations.items():
            owner, category = annotation["image_id"], annotation["category_id"]
            if type(owner) is not int or type(category) is not int:
                raise _bad(path, number, "has no image_id and category_id", "integers are needed")
            image = images.get(owner)
            if image is None:
                raise _bad(path, number, f"is of image {owner}", "no such image")
            if category in BY_COCO_ID:
                _check_mask(path, annotation, image)
                objects[owner].append(annotation)
            if category not in categories:
                raise _bad(path, number, f"is of category {category}", "no such category")
    return Instances(source, images, dict(objects))


def read_captions(folder: Path, year: int) -> Captions:
    """Reads and checks `folder/annotations/captions_val{year}.json`.

    Raises:
        InputError: as `read_instances`; the file is missing; a caption is not a text.
    """
    path = folder / "annotations" / f"captions_val{year}.json"
    with _no_collection():
        content, source = _read(path)
        images = _index(path, content, "images", ())
        annotations = _index(path, content, "annotations", ("image_id", "caption"))
    texts = defaultdict(list)
    for number in sorted(annotations):
        image, caption = annotations[number]["image_id"], annotations[number]["caption"]
        if type(image) is not int or image not in images:
            raise _bad(path, number, f"is of image {image}", "no such image")
        if not isinstance(caption, str) or not caption.strip() or not _encodable(caption):
            raise _bad(path, number, f"has the caption {caption!r}", "a text is needed")
        texts[image].append(" ".join(caption.split()))
    return Captions(source, dict(texts))


@contextmanager
def _no_collection():
    """Parsing makes millions of objects and no garbage: without this the collector scans them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(path: Path) -> tuple[dict, Source]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give --coco a folder of COCO's shape, "
            "or add --download."
        ) from None
    source = Source(path, hashlib.sha256(data).hexdigest())
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:  # also: numbers or nesting beyond all measure
        cut = data.lstrip()[:1] == b"{" and not data.rstrip().endswith(b"}")
        what = "is truncated" if cut else "is not JSON"
        raise InputError(
            f"{path} {what} ({error}): remove it and fetch it again with --download."
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not COCO's object of lists.")
    return content, source


def _index(path: Path, content: dict, part: str, fields: tuple[str, ...]) -> dict[int, dict]:
    """The records of one part by id, each with its `fields`."""
    records = content.get(part)
    if not isinstance(records, list):
        raise InputError(f"{path} has no list `{part}`: is it an annotation file of COCO?")
    try:
        index = {record["id"]: record for record in records}
        for field in fields:
            for record in records:
                record[field]
    except (KeyError, TypeError):
        raise _incomplete(path, part, records, ("id", *fields)) from None
    for number in index:
        if type(number) is not int or number < 0:
            raise InputError(f"{path}: id {number!r} in `{part}` is no integer from 0.")
    if len(index) < len(records):
        seen = set()
        twice = next(r["id"] for r in records if r["id"] in seen or seen.add(r["id"]))
        raise InputError(f"{path}: id {twice} stands twice in `{part}`; ids must differ.")
    return index


def _incomplete(path: Path, part: str, records: list, fields: tuple[str, ...]) -> InputError:
    """The first record that is no object, lacks a field, or has a list or an object as its id."""
    for place, record in enumerate(records):
        if not isinstance(record, dict):
            return InputError(f"{path}: no. {place} of `{part}` is no object.")
        name = f"no. {place} of" if "id" not in record else f"id {record['id']} in"
        for field in fields:
            if field not in record:
                return InputError(f"{path}: {name} `{part}` lacks `{field}`.")
        if isinstance(record["id"], list | dict):
            return InputError(f"{path}: {name} `{part}` is no integer from 0.")
    raise AssertionError(f"{path}: `{part}` is complete")


def _encodable(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON can hold and no file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_image(path: Path, image: dict) -> None:
    if not all(type(image[side]) is int and image[side] > 0 for side in ("width", "height")):
        raise InputError(f"{path}: image {image['id']} has no width and height in pixels.")
    name = image["file_name"]
    if type(name) is not str or not re.fullmatch(r"\w[\w-]*\.\w+", name, re.ASCII):
        raise InputError(
            f"{path}: image {image['id']} has the file name {name!r}: a plain name is needed."
        )


def _check_category(path: Path, number: int, name: str) -> None:
    """Its ids are COCO's: a file with ids of its own would have its cats taken for dogs."""
    known = BY_COCO_ID.get(number)
    if known and VOC_WORDS.get(name, name) != known.label:
        raise InputError(
            f"{path}: category {number} is {name!r}, in COCO it is {known.label!r}: give the "
            "annotations COCO's category ids."
        )


def _check_mask(path: Path, annotation: dict, image: dict) -> None:
    number, shape, area = annotation["id"], annotation["segmentation"], annotation["area"]
    if type(area) not in (int, float) or not 0 <= area <= 2 * image["width"] * image["height"]:
        raise _bad(path, number, f"has the area {area!r}", "pixels of its image are needed")
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise _bad(path, number, f"has iscrowd {annotation['iscrowd']!r}", "it is 0 or 1")
    if type(shape) is list:
        if not shape:
            raise _bad(path, number, "has no polygon", "its mask is unknown")
        for polygon in shape:
            _check_polygon(path, number, polygon)
    elif type(shape) is dict and {"size", "counts"} <= shape.keys():
        size = [image["height"], image["width"]]
        if shape["size"] != size:
            what = f"has an RLE of size {shape['size']}"
            raise _bad(path, number, what, f"its image {image['id']} is {size}")
        try:
            check_runs(shape)
        except ValueError as error:
            raise _bad(path, number, "has no readable RLE", str(error)) from None
    else:
        raise _bad(path, number, "has neither polygons nor an RLE", "its mask is unknown")


def _check_polygon(path: Path, number: int, polygon: list) -> None:
    if type(polygon) is not list or len(polygon) < 6 or len(polygon) % 2:
        length = len(polygon) if type(polygon) is list else 0
        what = f"has a polygon of {length} coordinates"
        raise _bad(path, number, what, "at least 3 points (6 coordinates) are needed")
    try:  # whole lists at once: a loop over a million coordinates would double the reading time
        total = sum(polygon)
        sound = max(polygon) <= FAR and min(polygon) >= -FAR and total == total
    except TypeError:
        sound = False
    if not sound:
        raise _bad(
            path,
            number,
            "has a polygon that is not of pixels",
            f"numbers up to {FAR:.0f} are needed",
        )


def _bad(path: Path, number: int, what: str, why: str) -> InputError:
    return InputError(f"{path}: annotation {number} {what}: {why}.")
