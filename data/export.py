"""Writes layouts as plain files, for methods that live in another environment."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tcig.data.errors import InputError
from tcig.data.files import write_whole
from tcig.data.layout import Layout
from tcig.data.masks import encode_label_map, resize_nearest
from tcig.data.pictures import encode_png
from tcig.data.seeds import seed_of

UNFINISHED = ".unfinished-export"
"""Name of the file in an unfinished export that identifies its layouts and sizes."""


def export_layouts(layouts: Sequence[Layout], folder: Path, size: int, samples: int) -> None:
    """Writes masks, class maps and one JSON file of prompts, seeds and expected file names.

    `folder/layouts.json` lists the layouts; `folder/masks/LAYOUT-REGION.png` is 255 inside a
    region and 0 outside, `folder/classes/LAYOUT.png` the class map in the VOC palette, both
    `size` x `size` by nearest neighbour, as tcig's own methods see them.

    Raises:
        InputError: the folder holds something else than an unfinished export of the same layouts.
    """
    identity = json.dumps([[layout.id for layout in layouts], size, samples]).encode()
    marker = folder / UNFINISHED
    resumes = marker.is_file() and marker.read_bytes() == identity
    if folder.exists() and any(folder.iterdir()) and not resumes:
        raise InputError(f"{folder} is not empty; export to a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(marker, identity)
    for name in ("masks", "classes"):
        (folder / name).mkdir(exist_ok=True)
    records = []
    for layout in layouts:
        regions = []
        for number, region in enumerate(layout.regions):
            mask = f"masks/{layout.id}-{number}.png"
            pixels = resize_nearest(region.pixels, size).astype("uint8") * 255
            write_whole(folder / mask, encode_png(Image.fromarray(pixels)))
            regions.append({"label": region.label, "prompt": region.prompt, "mask": mask})
        classes = f"classes/{layout.id}.png"
        write_whole(folder / classes, encode_label_map(layout.class_map(size)))
        outputs = [
            {"sample": n, "seed": seed_of(layout.id, n), "image": f"{layout.id}-{n}.png"}
            for n in range(samples)
        ]
        records.append(
            {
                "id": layout.id,
                "prompt": layout.caption,
                "size": size,
                "classes": classes,
                "regions": regions,
                "outputs": outputs,
            }
        )
    write_whole(folder / "layouts.json", json.dumps(records, indent=1) + "\n")
    marker.unlink()
