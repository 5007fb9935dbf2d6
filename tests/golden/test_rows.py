"""Each row's image is that of its method's version: one that moves needs another version."""

import numpy as np
import pytest
from PIL import Image
from record_rows import IMAGES, image_of, path_of

from tcig.methods.registry import ROWS

LEVELS = 0.5
"""Grey levels on the mean over an image by which processors may differ; on one processor, none."""


@pytest.mark.parametrize("row", ROWS)
def test_an_image_moves_only_with_its_methods_version(row, tmp_path):
    assert path_of(row).exists(), "the version is new: run python tests/golden/record_rows.py"
    expected = np.asarray(Image.open(path_of(row))).astype(int)
    found = np.asarray(image_of(row, tmp_path)).astype(int)
    assert np.abs(found - expected).mean() <= LEVELS, "raise the version of the row's method"


def test_no_image_is_of_another_version():
    assert {path.name for path in IMAGES.iterdir()} == {path_of(row).name for row in ROWS}
