"""Grids of pictures: what stands where."""

import numpy as np
from PIL import Image

from tcig.data.voc import COLOURS
from tcig.eval.pictures import CELL, GAP, MARGIN, draw_cell, write_grid


def test_a_grid_places_rows_and_columns(tmp_path):
    colours = ["red", "lime", "blue"]
    images = [Image.new("RGB", (8, 8), colour) for colour in colours]
    write_grid(tmp_path / "grid.png", [images, images[::-1][:2]], ["first", "second"], colours)
    sheet = Image.open(tmp_path / "grid.png").convert("RGB")
    head = sheet.height - 2 * (CELL + GAP)
    assert sheet.width == MARGIN + 3 * (CELL + GAP)

    def at(row, column):
        x, y = (start + place * (CELL + GAP) + CELL // 2
                for start, place in ((MARGIN, column), (head, row)))  # fmt: skip
        return sheet.getpixel((x, y))

    assert [at(0, c) for c in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert [at(1, c) for c in range(3)] == [(0, 0, 255), (0, 255, 0), (255, 255, 255)]
    assert np.asarray(sheet)[:head, MARGIN : MARGIN + CELL].min() < 128  # the name "red"


def test_masks_have_class_colours_and_names(layouts):
    layout = layouts[0]
    cell = np.asarray(draw_cell(layout, 64))
    labels = layout.class_map(64)
    for index in layout.classes:
        shown = (cell[labels == index] == COLOURS[index]).all(-1)
        assert 0.2 < shown.mean() < 1, "under the name"
    np.testing.assert_array_equal(np.asarray(draw_cell(labels, 64)), np.array(COLOURS)[labels])
