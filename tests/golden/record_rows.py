"""Records a golden image of each row, named after the row and its method's version.

    python tests/golden/record_rows.py           # rows whose version has no image yet
    python tests/golden/record_rows.py --all     # all of them: only where their inputs changed

An image that moves needs a new `version` of its method, so that runs of before are not resumed.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts
from tcig.methods.registry import ROWS, find_row, load_method
from tcig.profiles import load_profile
from tcig.run.spec import prepare

sys.path.append(str(Path(__file__).parents[1]))

from random_networks import write_controlnet, write_gligen

IMAGES = Path(__file__).parent / "rows"
FEW = {
    "direct-guidance": {"steps": 3, "recurrence": 2},
    "tcig": {"first.iterations": 3, "second.steps": 10},
}
"""Method -> options for few steps: fewer amplify less of the rounding between processors."""


def image_of(row: str, models: Path) -> Image.Image:
    """What a row makes of the first layout with seed 1.

    Args:
        row: its name.
        models: where the random weights of rows without miniatures are written.
    """
    open_rows = {"controlnet": ("control", write_controlnet), "gligen": ("weights", write_gligen)}
    settings = dict(FEW.get(ROWS[row].method, {}))
    if row in open_rows:
        option, write = open_rows[row]
        settings[option] = str(write(models / row))
    layout = hash_order(build_layouts(FOLDER, Filter())[1])[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, method = prepare(row, load_profile("smoke"), FOLDER, "0" * 64, settings)
        (image,) = method.generate([layout], [1])
    finally:
        torch.set_num_threads(threads)
    return image


def path_of(row: str) -> Path:
    """The golden image of a row at its method's present version."""
    kind, _ = load_method(find_row(row)[1])
    return IMAGES / f"{row}-v{kind.version}.png"


def main() -> None:
    """Writes the images that lack."""
    IMAGES.mkdir(exist_ok=True)
    with TemporaryDirectory() as models:
        for row in ROWS:
            if "--all" in sys.argv or not path_of(row).exists():
                image_of(row, Path(models)).save(path_of(row))
                print(path_of(row))


if __name__ == "__main__":
    main()
