"""Writes layouts as plain files, for methods that live in another environment."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tcig.data.errors import InputError
from tcig.data.files import write_whole
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest, save_label_map
from tcig.data.seeds import seed_of

UNFINISHED = ".unfinished-export"
"""File that an export has until it is finished: what it says names the layouts and sizes."""


def export_layouts(
    layouts: Sequence[Layout],
    folder: Path,
    size: int,
    samples: int,
) -> None:
    """Writes masks, class maps and one JSON file of prompts, seeds and expected file names.

    `folder/layouts.json` lists the layouts; `folder/masks/LAYOUT-REGION.png` is 255 inside a
    region and 0 outside, `folder/classes/LAYOUT.png` the class map in the VOC palette, both
    `size` x `size` by nearest neighbour, as tcig's own methods see them.

    Raises:
        InputError: the folder holds something else than an unfinished export of the same layouts.
    """
    own = json.dumps([[layout.id for layout in layouts], size, samples])
    mark = folder / UNFINISHED
    if folder.exists() and any(folder.iterdir()) and not (mark.is_file() and _says(mark, own)):
        raise InputError(f"{folder} is not empty; export to a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(mark, own)
    for name in ("masks", "classes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    records = []
    for layout in layouts:
        regions = []
        for number, region in enumerate(layout.regions):
            mask = f"masks/{layout.id}-{number}.png"
            _save(resize_nearest(region.pixels, size), folder / mask)
            regions.append({"label": region.label, "prompt": region.prompt, "mask": mask})
        save_label_map(layout.class_map(size), folder / "classes" / f"{layout.id}.png")
        outputs = [
            {"sample": n, "seed": seed_of(layout.id, n), "image": f"{layout.id}-{n}.png"}
            for n in range(samples)
        ]
        records.append(
            {
                "id": layout.id,
                "prompt": layout.caption,
                "size": size,
                "classes": f"classes/{layout.id}.png",
                "regions": regions,
                "outputs": outputs,
            }
        )
    write_whole(folder / "layouts.json", json.dumps(records, indent=1) + "\n")
    mark.unlink()


def _says(mark: Path, own: str) -> bool:
    return mark.read_bytes() == own.encode()


def _save(mask: np.ndarray, path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    write_whole(path, buffer.getvalue())
