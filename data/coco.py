"""Reads COCO's instances and captions and checks what the benchmark relies on."""

import gc
import hashlib
import json
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tcig.data.errors import InputError
from tcig.data.voc import BY_COCO_ID


@dataclass(frozen=True)
class Source:
    """A file that was read: its name and SHA-256."""

    file: str
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
            an id stands twice; an annotation is of an unknown image or category; a polygon has
            fewer than 3 points; an RLE has another size than its image.
    """
    path = folder / "annotations" / f"instances_val{year}.json"
    with _no_collection():
        content, source = _read(path)
        images = _index(path, content, "images", ("file_name", "width", "height"))
        categories = _index(path, content, "categories", ())
        annotations = _index(
            path, content, "annotations", ("image_id", "category_id", "area", "segmentation")
        )
        objects = defaultdict(list)
        for number, annotation in annotations.items():
            image = images.get(annotation["image_id"])
            category = annotation["category_id"]
            if image is None:
                raise _bad(path, number, f"is of image {annotation['image_id']}", "no such image")
            if category in BY_COCO_ID:
                _check_mask(path, annotation, image)
                objects[annotation["image_id"]].append(annotation)
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
        if image not in images:
            raise _bad(path, number, f"is of image {image}", "no such image")
        if not isinstance(caption, str) or not caption.strip():
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
    source = Source(path.name, hashlib.sha256(data).hexdigest())
    try:
        content = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        end = getattr(error, "pos", 0) >= len(data.rstrip()) or "Unterminated" in str(error)
        what = "is truncated" if end and data.strip() else "is not JSON"
        raise InputError(f"{path} {what} ({error}): fetch it again.") from None
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
        wanted = ("id", *fields)
        place, record = next(
            (i, r)
            for i, r in enumerate(records)
            if not isinstance(r, dict) or any(f not in r for f in wanted)
        )
        name = (
            f"id {record['id']}" if isinstance(record, dict) and "id" in record else f"no. {place}"
        )
        raise InputError(f"{path}: `{part}` {name} lacks one of {', '.join(wanted)}.") from None
    if len(index) < len(records):
        seen = set()
        twice = next(r["id"] for r in records if r["id"] in seen or seen.add(r["id"]))
        raise InputError(f"{path}: id {twice} stands twice in `{part}`; ids must differ.")
    return index


def _check_mask(path: Path, annotation: dict, image: dict) -> None:
    shape = annotation["segmentation"]
    area = annotation["area"]
    if type(area) not in (int, float) or not area >= 0:
        raise _bad(path, annotation["id"], f"has the area {area!r}", "pixels are needed")
    if type(shape) is list:
        if not shape:
            raise _bad(path, annotation["id"], "has no polygon", "its mask is unknown")
        for polygon in shape:
            if type(polygon) is not list or len(polygon) < 6 or len(polygon) % 2:
                length = len(polygon) if type(polygon) is list else 0
                raise _bad(
                    path,
                    annotation["id"],
                    f"has a polygon of {length} coordinates",
                    "at least 3 points (6 coordinates) are needed",
                )
    elif type(shape) is dict and {"size", "counts"} <= shape.keys():
        if list(shape["size"]) != [image["height"], image["width"]]:
            raise _bad(
                path,
                annotation["id"],
                f"has an RLE of size {shape['size']}",
                f"its image {image['id']} is {[image['height'], image['width']]}",
            )
        if (
            type(shape["counts"]) is list
            and sum(shape["counts"]) != image["height"] * image["width"]
        ):
            raise _bad(
                path,
                annotation["id"],
                f"has an RLE of {sum(shape['counts'])} pixels",
                f"its image {image['id']} has {image['height'] * image['width']}",
            )
    else:
        raise _bad(path, annotation["id"], "has neither polygons nor an RLE", "its mask is unknown")


def _bad(path: Path, number: int, what: str, why: str) -> InputError:
    return InputError(f"{path}: annotation {number} {what}: {why}.")
