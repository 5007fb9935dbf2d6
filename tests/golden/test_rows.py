"""Each row's image is that of its method's version: one that moves needs another version.

Runs of the version before are then not resumed. This records golden images, named after the row and
its method's version:

    python tests/golden/test_rows.py           # rows whose version has no image yet
    python tests/golden/test_rows.py --all     # all of them: only where their inputs changed
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
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

LEVELS = 0.5
"""Grey levels on the mean over an image by which processors may differ; on one processor, none."""
IMAGES = Path(__file__).parent / "rows"
FEW = {
    "direct-guidance": {"steps": 3, "recurrence": 2},
    "tcig": {"first.iterations": 3, "second.steps": 10},
}
"""Method -> options for few steps: fewer amplify less of the rounding between processors."""


def image_of(row: str, models: Path) -> Image.Image:
    """What a row makes of the first layout with seed 1; its random weights go to `models`."""
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


@pytest.mark.parametrize("row", ROWS)
def test_an_image_moves_only_with_its_methods_version(row, tmp_path):
    assert path_of(row).exists(), "the version is new: run python tests/golden/test_rows.py"
    expected = np.asarray(Image.open(path_of(row))).astype(int)
    found = np.asarray(image_of(row, tmp_path)).astype(int)
    assert np.abs(found - expected).mean() <= LEVELS, "raise the version of the row's method"


def test_no_image_is_of_another_version():
    assert {path.name for path in IMAGES.iterdir()} == {path_of(row).name for row in ROWS}


if __name__ == "__main__":
    with TemporaryDirectory() as models:
        for row in ROWS:
            if "--all" in sys.argv or not path_of(row).exists():
                image_of(row, Path(models)).save(path_of(row))
                print(path_of(row))
