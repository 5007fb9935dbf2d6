"""Writes a split of the emoji data set in COCO's own folder shape, or renders the glyphs.

    python -m tcig.data.emoji.make --split tuning --count 64 --out FOLDER
    python -m tcig.data.emoji.make --glyphs NotoColorEmoji.ttf fluentui-emoji/icons/flat twemoji/svg

With no arguments it makes the shipped validation split again, byte for byte (at the Pillow
version of the lock file: another may compress PNG differently). `--glyphs` needs resvg-py; the
sources and licences are in glyphs/ATTRIBUTION.md.
"""

import argparse
import io
import json
from operator import attrgetter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
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
GLYPHS = {
    "airplane": ("2708", "airplane"),
    "bicycle": ("1f6b2", "bicycle"),
    "bird": ("1f426", "bird"),
    "boat": ("26f5", "sailboat"),
    "bottle": ("1f37e", "bottle-with-popping-cork"),
    "bus": ("1f68c", "bus"),
    "car": ("1f697", "automobile"),
    "cat": ("1f408", "cat"),
    "chair": ("1fa91", "chair"),
    "cow": ("1f404", "cow"),
    "dining table": ("1f37d", "fork-and-knife-with-plate"),
    "dog": ("1f415", "dog"),
    "horse": ("1f40e", "horse"),
    "motorcycle": ("1f3cd", "motorcycle"),
    "person": ("1f9cd", "person-standing-default"),
    "potted plant": ("1fab4", "potted-plant"),
    "sheep": ("1f411", "ewe"),
    "couch": ("1f6cb", "couch-and-lamp"),
    "train": ("1f686", "train"),
    "tv": ("1f4fa", "television"),
}
"""Class -> code point (Noto, Twemoji) and file name (Fluent)."""


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


def _noto(font: Path, codepoint: str) -> Image.Image:
    canvas = Image.new("RGBA", (160, 160))
    face = ImageFont.truetype(font, 109)  # the font's only bitmap size
    ImageDraw.Draw(canvas).text((10, 10), chr(int(codepoint, 16)), font=face, embedded_color=True)
    return canvas


def _svg(path: Path) -> Image.Image:
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=192, height=192))
    return Image.open(io.BytesIO(png)).convert("RGBA")


def render_glyphs(noto: Path, fluent: Path, twemoji: Path) -> None:
    """Renders the committed glyphs: each trimmed to its visible pixels, its longer side 128."""
    for label, (codepoint, name) in GLYPHS.items():
        glyphs = {
            "noto": _noto(noto, codepoint),
            "fluent": _svg(fluent / f"{name}.svg"),
            "twemoji": _svg(twemoji / f"{codepoint}.svg"),
        }
        for style, glyph in glyphs.items():
            glyph = glyph.crop(glyph.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
            size = [max(1, round(side * (128 / max(glyph.size)))) for side in glyph.size]
            path = FOLDER.parent / "glyphs" / style / f"{label.replace(' ', '_')}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            glyph.resize(size, Image.Resampling.LANCZOS).save(path, optimize=True)


def main() -> None:
    """Writes the split or the glyphs that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--out", type=Path, help="default: the shipped files themselves")
    parser.add_argument("--glyphs", type=Path, nargs=3, metavar=("NOTO", "FLUENT", "TWEMOJI"))
    options = parser.parse_args()
    if options.glyphs:
        return render_glyphs(*options.glyphs)
    shipped = (options.split, options.count) == ("validation", COUNT)
    if options.out is None and not shipped:
        parser.error("give --out FOLDER: without it the shipped validation split is made")
    return make_split(options.split, options.count, options.out or FOLDER)


if __name__ == "__main__":
    main()
