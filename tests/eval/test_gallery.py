import numpy as np
from PIL import Image

from tcig.eval.gallery import CELL, GAP, HEAD, MARGIN, write_grid


def test_a_grid_places_rows_and_columns(tmp_path):
    path = tmp_path / "grid.png"
    colours = ["red", "lime", "blue"]
    images = [Image.new("RGB", (8, 8), colour) for colour in colours]
    write_grid(path, [images, images[::-1][:2]], ["first", "second"], colours)
    with Image.open(path) as file:
        sheet = file.convert("RGB")
    assert sheet.size == (MARGIN + 3 * (CELL + GAP), HEAD + 2 * (CELL + GAP))
    middle = CELL // 2
    at = lambda row, column: sheet.getpixel(  # noqa: E731
        (MARGIN + column * (CELL + GAP) + middle, HEAD + row * (CELL + GAP) + middle)
    )
    assert [at(0, c) for c in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert [at(1, c) for c in range(3)] == [(0, 0, 255), (0, 255, 0), (255, 255, 255)]
    assert np.asarray(sheet)[:HEAD, MARGIN : MARGIN + CELL].min() < 128  # the name "red"
