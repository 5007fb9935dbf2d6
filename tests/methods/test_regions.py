"""Masks on the grid against exact integer arithmetic in loops, and the order of painting."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tcig.data.layout import Layout, Region
from tcig.data.masks import encode
from tcig.methods.regions import grid_masks, painting_order, passes

quick = settings(max_examples=40, deadline=None, database=None)
pixels = st.integers(1, 12).flatmap(lambda side: arrays(bool, (side, side))).filter(np.any)


def layout_of(*masks):
    regions = [
        Region(annotation=number, label="cat", mask=encode(mask))
        for number, mask in enumerate(masks)
    ]
    return Layout(id="1", image="", side=len(masks[0]), caption="", regions=tuple(regions))


def rows_of(*heights):
    """A layout of masks that are so many rows high."""
    return layout_of(*(np.arange(8)[:, None].repeat(8, 1) < height for height in heights))


def nearest(mask, side):
    """What lies at the cells' centres, cell i's being (2i + 1) S / 2 side."""
    found = np.zeros((side, side), bool)
    for i, j in np.ndindex(found.shape):
        row, column = ((2 * k + 1) * len(mask) // (2 * side) for k in (i, j))
        found[i, j] = mask[row, column]
    return found


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


def agrees(mask, side, coverage, expected, refused):
    if not expected.any():
        with refused("layout 1: region 1 (cat) vanishes", f"{side}x{side}"):
            grid_masks(layout_of(mask), side, coverage)
        return
    found = grid_masks(layout_of(mask), side, coverage)
    assert (found.shape, found.dtype) == ((1, 1, side, side), torch.float32)
    assert np.array_equal(found[0, 0].numpy(), expected)


@quick
@given(pixels, st.integers(1, 16))
def test_a_cell_has_what_lies_at_its_centre(refused, mask, side):
    agrees(mask, side, None, nearest(mask, side), refused)


@quick
@given(pixels, st.integers(1, 7), st.data())
def test_a_cell_belongs_to_a_region_from_a_share_on(refused, mask, side, data):
    parts = data.draw(st.integers(0, mask.size - 1)) + 0.5  # no cell has just as much
    agrees(mask, side, parts / mask.size, covered(mask, side) >= parts, refused)


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
    assert grid_masks(layout, 32)[1].sum() == 1
    layout = box_layout(32, identity="8", bus=(0, 32, 0, 8), cat=(0, 16, 0, 16), dog=(0, 15, 1, 16))
    with refused("layout 8: region 3 (dog)", "cells of region 2 (cat)"):
        grid_masks(layout, 4)
    assert len(grid_masks(layout, 32)) == 3


@pytest.mark.parametrize(
    ("order", "expected"),
    [("large-first", [2, 0, 3, 1]), ("small-first", [1, 0, 3, 2]), ("given", [0, 1, 2, 3])],
)
def test_painting_order_is_by_area_and_keeps_equals_in_place(order, expected):
    assert painting_order(rows_of(3, 1, 5, 3), order) == expected


def test_passes_paint_every_region_once_in_order_one_of_a_layout_at_a_time(layouts):
    some = [layouts[name] for name in ("9", "7", "10")]  # of 2, 4 and 3 regions
    for order in ("large-first", "small-first", "given"):
        found = passes(some, order, 16)
        assert [rows for rows, _, _ in found] == [[0, 1, 2], [0, 1, 2], [1, 2], [1]]
        for number, layout in enumerate(some):
            masks, turns = grid_masks(layout, 16), painting_order(layout, order)
            own = [(rows.index(number), *rest) for rows, *rest in found if number in rows]
            for region, (row, mask, prompts) in zip(turns, own, strict=True):
                assert torch.equal(mask[row], masks[region])
                assert prompts[row] == layout.regions[region].prompt
