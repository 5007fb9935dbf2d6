"""Finding runs below a folder, and their images."""

import json
from pathlib import Path

from PIL import Image

from tcig.data.files import sha256
from tcig.data.layout import Layout


def find_runs(folder: Path, manifest: Path) -> dict[str, Path]:
    """The folder of each row's run on `manifest`, the newest where there are several."""
    name, found = sha256(manifest), {}
    for record in sorted(folder.glob("*/run.json"), key=lambda path: path.stat().st_mtime):
        spec = json.loads(record.read_bytes())["spec"]
        if spec["manifest"] == name:
            found[spec["method"]] = record.parent
    return found


def image_of(run: Path, layout: Layout, sample: int = 0) -> Image.Image | None:
    """A sample's image, None where the run lacks it."""
    path = run / f"{layout.id}-{sample}.png"
    if not path.exists():
        return None
    with Image.open(path) as file:
        return file.convert("RGB")
