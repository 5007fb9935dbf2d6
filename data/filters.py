"""The benchmark's filter: every reading of "2 to 4 foreground objects" as a named option.

The published sentence (MultiDiffusion, arXiv 2302.08113; in short also TCIG): "a subset from the
validation set, obtained by filtering examples which consists of 2 to 4 foreground
objects, excluding people, and masks that occupy less than 5% of the image". What it leaves open
are the fields of `Filter`; their defaults are this project's choice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, Literal, NamedTuple

from tcig.data.coco import Instances
from tcig.data.files import InputError
from tcig.data.masks import area, crop_square, decode, to_rle
from tcig.data.voc import BY_COCO_ID, PERSON


@dataclass(frozen=True)
class Filter:
    """Which images become layouts, and which of their objects become regions."""

    year: Literal[2014, 2017] = 2017
    """COCO's validation set: val2014 or val2017. The paper does not say which."""
    reading: Literal["masks", "images"] = "masks"
    """What a small mask does: it is dropped, or its whole image is."""
    people: Literal["ignore", "drop"] = "ignore"
    """People are not regions; "drop" leaves out their images too."""
    crowd: Literal["ignore", "count", "drop"] = "ignore"
    """Crowd annotations of the other 19 classes: left out, taken as objects, or their image
    left out."""
    area_from: Literal["field", "pixels"] = "field"
    """An object's area: COCO's `area` field or its decoded pixels."""
    area_on: Literal["original", "square"] = "original"
    """The image that the area is a share of: as it is, or its centre square (of decoded pixels)."""
    count_by: Literal["instance", "class"] = "instance"
    """What "objects" counts: instances, or distinct classes."""
    caption: int | None = 0
    """Which of an image's captions, in the order of their annotation ids; None: no captions are
    read, for the row `real`, which needs none."""
    min_area: float = 0.05
    """Smallest share of the image; an object of exactly this share stays."""
    min_objects: int = 2
    """Objects that a layout has at least."""
    max_objects: int = 4
    """Objects that a layout has at most."""
    min_cropped_area: float = 0.005
    """Share of the centre square below which a cropped object is dropped."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self):
        if self.area_on == "square" and self.area_from == "field":
            raise InputError(
                "area_on=square needs area_from=pixels: COCO's area field knows no crop."
            )
        if not 0 <= self.min_area < 1 or not 0 <= self.min_cropped_area < 1:
            raise InputError("min_area and min_cropped_area are shares from 0 up to 1.")
        if not 1 <= self.min_objects <= self.max_objects:
            raise InputError("min_objects must be at least 1 and at most max_objects.")
        if self.caption is not None and self.caption < 0:
            raise InputError(f"caption {self.caption} must be at least 0, the first.")

    def number_of(self, labels: list[str]) -> int:
        """How many objects these labels of instances count as."""
        return len(labels) if self.count_by == "instance" else len(set(labels))


class Candidate(NamedTuple):
    """An annotated object of a VOC class and its share of the image's area (0..1)."""

    annotation: dict
    label: str
    share: float


def candidates(instances: Instances, options: Filter) -> Iterator[tuple[dict, list[Candidate]]]:
    """Each image that has objects of the VOC classes, with these, in the order of the image ids."""
    for number in sorted(instances.objects):
        image = instances.images[number]
        sides = image["width"], image["height"]
        total = min(sides) ** 2 if options.area_on == "square" else sides[0] * sides[1]
        objects = []
        for annotation in instances.objects[number]:
            label = BY_COCO_ID[annotation["category_id"]].label
            objects.append(Candidate(annotation, label, _area(annotation, image, options) / total))
        yield image, objects


def _area(annotation: dict, image: dict, options: Filter) -> float:
    if options.area_from == "field":
        return annotation["area"]
    height, width = image["height"], image["width"]
    rle = to_rle(annotation["segmentation"], height, width)
    if options.area_on == "original" or height == width:
        return area(rle)
    return int(crop_square(decode(rle)).sum())


def select(
    objects: list[Candidate], options: Filter
) -> tuple[list[Candidate], dict[str, list[Candidate]]] | None:
    """Parts an image's objects into those that count and those that do not, by reason.

    Returns:
        The objects that count, in their order, and `{"person": [...], "crowd": [...],
        "small": [...]}`; None where the image becomes no layout (before the crop).
    """
    kept, dropped = [], {"person": [], "crowd": [], "small": []}
    for candidate in objects:
        if candidate.label == PERSON.label:
            dropped["person"].append(candidate)
        elif candidate.annotation.get("iscrowd") and options.crowd != "count":
            dropped["crowd"].append(candidate)
        elif candidate.share < options.min_area:
            dropped["small"].append(candidate)
        else:
            kept.append(candidate)
    count = options.number_of([candidate.label for candidate in kept])
    if (
        not options.min_objects <= count <= options.max_objects
        or (options.people == "drop" and dropped["person"])
        or (options.crowd == "drop" and dropped["crowd"])
        or (options.reading == "images" and dropped["small"])
    ):
        return None
    return kept, dropped


def choose(instances: Instances, options: Filter) -> list[tuple[dict, list, dict]]:
    """The images that pass the filter: COCO's record, objects that count, those dropped."""
    return [
        (image, *parts)
        for image, objects in candidates(instances, options)
        if (parts := select(objects, options))
    ]


READINGS = {
    "reading": ("masks", "images"),
    "people": ("ignore", "drop"),
    "crowd": ("ignore", "count", "drop"),
    "count_by": ("instance", "class"),
}
AREAS = (("field", "original"), ("pixels", "original"), ("pixels", "square"))


def count_table(instances: Instances, options: Filter) -> list[dict]:
    """How many images every combination of the readings leaves, before the square crop.

    Masks are decoded once per way to measure the area, not once per combination.

    Returns:
        A row per combination: the readings and `images`.
    """
    rows = []
    for area_from, area_on in AREAS:
        measured = replace(options, area_from=area_from, area_on=area_on)
        images = [objects for _, objects in candidates(instances, measured)]
        for values in product(*READINGS.values()):
            reading = dict(zip(READINGS, values, strict=True))
            variant = replace(measured, **reading)
            count = sum(select(objects, variant) is not None for objects in images)
            count_by = reading.pop("count_by")
            last = {"area": f"{area_from}, {area_on}", "count_by": count_by, "images": count}
            rows.append(reading | last)
    return sorted(rows, key=lambda row: (row["reading"] != "masks", row["people"] != "ignore"))
