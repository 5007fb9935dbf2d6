"""Reads COCO's instances and captions and checks what the benchmark relies on."""

import gc
import hashlib
import re
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tcig.data.checks import check_category, check_image, check_object, encodable, refusal
from tcig.data.errors import InputError
from tcig.data.files import read_file
from tcig.data.parsing import parse_json
from tcig.data.voc import BY_COCO_ID


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
            check_image(path, image)
        categories = _index(path, content, "categories", ("name",))
        for number, category in categories.items():
            check_category(path, number, category["name"])
        annotations = _index(
            path, content, "annotations", ("image_id", "category_id", "area", "segmentation")
        )
        objects = defaultdict(list)
        for number, annotation in annotations.items():
            owner, category = annotation["image_id"], annotation["category_id"]
            if type(owner) is not int or type(category) is not int:
                raise refusal(
                    path, number, "has no image_id and category_id", "integers are needed"
                )
            image = images.get(owner)
            if image is None:
                raise refusal(path, number, f"is of image {owner}", "no such image")
            if category in BY_COCO_ID:
                check_object(path, annotation, image)
                objects[owner].append(annotation)
            if category not in categories:
                raise refusal(path, number, f"is of category {category}", "no such category")
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
            raise refusal(path, number, f"is of image {image}", "no such image")
        if not isinstance(caption, str) or not caption.strip() or not encodable(caption):
            raise refusal(path, number, f"has the caption {caption!r}", "a text is needed")
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
    fix = "give --coco a folder of COCO's shape, or add --download"
    if path.name.startswith("captions"):
        fix += ", or for the row `real`, which needs none, --caption None"
    years = {year: path.with_name(re.sub("20..", year, path.name)) for year in ("2014", "2017")}
    other = next((year for year, place in years.items() if place.is_file()), None)
    if other and not path.exists():
        fix = f"the folder has the annotations of {other}: give --year {other}, or add --download"
    data = read_file(path, fix)
    cut = data.lstrip()[:1] == b"{" and not data.rstrip().endswith(b"}")
    source = f"{path} is truncated and" if cut else path
    content = parse_json(data, source, "remove it and fetch it again with --download")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not COCO's object of lists.")
    return content, Source(path, hashlib.sha256(data).hexdigest())


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
