"""Writes a split of the emoji data set in COCO's own folder shape.

    python -m tcig.data.emoji.make --split tuning --count 64 --out FOLDER

With no arguments it makes the shipped validation split again, byte for byte (at the Pillow
version of the lock file: another may compress PNG differently).
"""

import argparse
import json
from operator import attrgetter
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from tcig.data.emoji import FOLDER
from tcig.data.emoji.scenes import SIZE, SPLITS, Scene, scene
from tcig.data.files import write_whole
from tcig.data.masks import area, encode
from tcig.data.pictures import encode_png
from tcig.data.voc import BY_LABEL, CLASSES

COUNT = 128
"""Images of the shipped validation split."""
FIRST_ID = {"validation": 1, "tuning": 1_000_001, "training": 2_000_001}


def make_split(split: str, count: int, folder: Path) -> None:
    """Draws the first `count` scenes of `split` into `folder`: images, instances, captions."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "val2017").mkdir(exist_ok=True)
    images, annotations, captions = [], [], []
    for index in tqdm(range(count), split, disable=None):
        drawn = scene(split, index)
        number = FIRST_ID[split] + index
        name = f"{number:012}.png"
        picture = encode_png(Image.fromarray(drawn.image), compress_level=9)
        write_whole(folder / "val2017" / name, picture)
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
        annotations += _annotations(drawn, number)
        for place, caption in enumerate(drawn.captions):
            record = {"id": 10 * number + place, "image_id": number, "caption": caption}
            captions.append(record)
    categories = [
        {"id": c.coco_id, "name": c.label} for c in sorted(CLASSES, key=attrgetter("coco_id"))
    ]
    info = {"description": f"tcig emoji scenes, {split} split", "version": "1"}
    _write(
        folder / "annotations" / "instances_val2017.json",
        {"info": info, "images": images, "annotations": annotations, "categories": categories},
    )
    _write(
        folder / "annotations" / "captions_val2017.json",
        {"info": info, "images": images, "annotations": captions},
    )


def _annotations(drawn: Scene, image: int) -> list[dict]:
    records = []
    for place, thing in enumerate(drawn.things):
        rle = encode(np.asarray(thing.mask))
        records.append(
            {
                "id": 100 * image + place,
                "image_id": image,
                "category_id": BY_LABEL[thing.label].coco_id,
                "segmentation": rle,
                "area": area(rle),
                "bbox": coco_mask.toBbox(rle).tolist(),
                "iscrowd": int(thing.crowd),
            }
        )
    return records


def _write(path: Path, content: dict) -> None:
    """One record a line, so that differences can be read."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(record) for record in value)
            parts.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    write_whole(path, "{" + ",\n".join(parts) + "}\n")


def main() -> None:
    """Writes the split that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--out", type=Path, help="default: the shipped files themselves")
    options = parser.parse_args()
    shipped = (options.split, options.count) == ("validation", COUNT)
    if options.out is None and not shipped:
        parser.error("give --out FOLDER: without it the shipped validation split is made")
    make_split(options.split, options.count, options.out or FOLDER)


if __name__ == "__main__":
    main()
