"""Writes small folders of COCO's shape, for the tests of the data package and of the commands."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tcig.data.voc import BY_LABEL

OTHERS = {"banana": 52, "book": 84}  # categories of COCO that are no VOC classes
IDS = {label: voc.coco_id for label, voc in BY_LABEL.items()} | OTHERS


def box(left, top, width, height):
    """A rectangle of exactly width x height pixels, as COCO's polygons."""
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(*counts, size=(100, 100)):
    """Uncompressed RLE, column by column: the lengths of zeros, ones, zeros, ..."""
    return {"size": list(size), "counts": list(counts)}


def thing(label, shape, **fields):
    """An annotation without ids; `shape` is (left, top, width, height) or a segmentation."""
    boxed = isinstance(shape, tuple)
    record = {"segmentation": box(*shape) if boxed else shape, "category_id": IDS[label]}
    return record | {"area": shape[2] * shape[3] if boxed else 0, "iscrowd": 0} | fields


@dataclass
class CocoFolder:
    """What is in the folder; change the lists at will, then `write`."""

    root: Path
    year: int = 2017
    images: list = field(default_factory=list)
    annotations: list = field(default_factory=list)
    captions: list = field(default_factory=list)
    categories: list = field(
        default_factory=lambda: [{"id": number, "name": name} for name, number in IDS.items()]
    )

    @property
    def instances_file(self):
        return self.root / "annotations" / f"instances_val{self.year}.json"

    @property
    def captions_file(self):
        return self.root / "annotations" / f"captions_val{self.year}.json"

    def add(self, number, *things, width=100, height=100, captions=("two things",)):
        """An image with `things`, numbered 10 * image, 10 * image + 1, ... in their order."""
        name = f"{number:012}.jpg"
        if self.year == 2014:
            name = f"COCO_val2014_{name}"
        self.images.append({"id": number, "file_name": name, "width": width, "height": height})
        for place, record in enumerate(things):
            self.annotations.append({"id": 10 * number + place, "image_id": number} | record)
        for place, text in enumerate(captions):
            record = {"id": 10 * number + place, "image_id": number, "caption": text}
            self.captions.append(record)
        return self

    def write(self, photographs=False):
        """Writes the annotations, and grey photographs if asked; returns the folder."""
        self.instances_file.parent.mkdir(parents=True, exist_ok=True)
        parts = {name: getattr(self, name) for name in ("images", "annotations", "categories")}
        self.instances_file.write_text(json.dumps(parts))
        parts = {"images": self.images, "annotations": self.captions}
        self.captions_file.write_text(json.dumps(parts))
        for image in self.images if photographs else ():
            path = self.root / f"val{self.year}" / image["file_name"]
            path.parent.mkdir(exist_ok=True)
            pixels = np.full((image["height"], image["width"], 3), 128, np.uint8)
            Image.fromarray(pixels).save(path)
        return self.root
