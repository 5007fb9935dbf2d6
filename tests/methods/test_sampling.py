"""Masks on the grid against exact integer arithmetic in loops."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tcig.data.layout import Layout, Region
from tcig.data.masks import encode
from tcig.methods.sampling import grid_masks

pixels = st.integers(1, 12).flatmap(lambda side: arrays(bool, (side, side))).filter(np.any)


def layout_of(mask):
    region = Region(annotation=1, label="cat", mask=encode(mask))
    return Layout(id="1", image="", side=len(mask), caption="", regions=(region,))


def covered(mask, side):
    """Parts that lie in each cell, of S * S: in units of 1/side pixel everything is whole."""
    native = len(mask)
    found = np.zeros((side, side), int)
    for i, j, row, column in itertools.product(*[range(side)] * 2, *[range(native)] * 2):
        height, width = (
            min((cell + 1) * native, (pixel + 1) * side) - max(cell * native, pixel * side)
            for cell, pixel in ((i, row), (j, column))
        )
        found[i, j] += int(mask[row, column]) * max(height, 0) * max(width, 0)
    return found


@settings(max_examples=40, deadline=None, database=None)
@given(pixels, st.integers(1, 7), st.data())
def test_a_cell_belongs_to_a_region_from_a_share_on(refused, mask, side, data):
    parts = data.draw(st.integers(0, mask.size - 1)) + 0.5  # no cell has just as much
    expected, coverage = covered(mask, side) >= parts, parts / mask.size
    if not expected.any():
        with refused("layout 1: region 1 (cat) vanishes", f"{side}x{side}"):
            grid_masks(layout_of(mask), side, coverage)
        return
    found = grid_masks(layout_of(mask), side, coverage)
    assert (found.shape, found.dtype) == ((1, 1, side, side), torch.float32)
    assert np.array_equal(found[0, 0].numpy(), expected)


def test_the_share_itself_is_enough():
    mask = np.zeros((8, 8), bool)
    mask[:2], mask[2:4, ::2], mask[4, ::2] = True, True, True
    shares = np.array([1, 0.5, 0.25, 0])[:, None].repeat(4, 1)
    for coverage in (0.25, 0.5, 0.75, 1.0):
        assert np.array_equal(grid_masks(layout_of(mask), 4, coverage)[0, 0], shares >= coverage)
    whole = layout_of(np.ones((427, 427), bool))  # rounding would leave cells uncovered
    assert grid_masks(whole, 96, 1.0).all()


def test_regions_that_vanish_or_are_alike_are_named(box_layout, refused):
    layout = box_layout(32, identity="7_b", cat=(0, 16, 0, 16), dog=(0, 1, 0, 1))
    with refused("layout 7_b: region 2 (dog) vanishes", "4x4", "larger"):
        grid_masks(layout, 4)
    assert np.array_equal(grid_masks(layout, 32)[:, 0], [r.pixels for r in layout.regions])
    layout = box_layout(32, identity="8", bus=(0, 32, 0, 8), cat=(0, 16, 0, 16), dog=(0, 15, 1, 16))
    with refused("layout 8: region 3 (dog)", "cells of region 2 (cat)"):
        grid_masks(layout, 4)
    assert len(grid_masks(layout, 32)) == 3
