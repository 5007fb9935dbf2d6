"""A layout's regions as masks on a grid, and the order in which they are painted."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tcig.data.files import InputError
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest

Order = Literal["large-first", "small-first", "given"]
"""By area, or as the layout has them. No paper states an order. With the largest first, the smaller
object is painted last, and it lies on top in the class map."""


def grid_masks(layout: Layout, side: int, coverage: float | None = None) -> Tensor:
    """The regions' masks on a latent grid, (R, 1, side, side) of 0 and 1.

    Args:
        layout: has R regions.
        side: cells along a side.
        coverage: share of a cell that a region must cover to own it; None: what lies at the cell's
            centre (nearest, as MultiDiffusion's code: region_based.py, preprocess_mask).

    Raises:
        InputError: a region has no cell, or two have the same.
    """
    masks = [_grid_mask(region.pixels, side, coverage) for region in layout.regions]
    for number, (region, mask) in enumerate(zip(layout.regions, masks, strict=True)):
        name = f"layout {layout.id}: region {number + 1} ({region.label})"
        if not mask.any():
            raise InputError(
                f"{name} vanishes on the latent grid of {side}x{side}: draw it larger or generate "
                "at a larger size."
            )
        for earlier in range(number):
            if (mask == masks[earlier]).all():
                raise InputError(
                    f"{name} covers just the cells of region {earlier + 1} "
                    f"({layout.regions[earlier].label}): keep one of them."
                )
    return torch.from_numpy(np.stack(masks)).float()[:, None]


def _grid_mask(pixels: np.ndarray, side: int, coverage: float | None) -> np.ndarray:
    if coverage is None:
        return resize_nearest(pixels, side)
    # In units in which pixels are `side` long and cells len(pixels): all overlaps are integers.
    native = len(pixels)
    starts, cells = side * np.arange(native), native * np.arange(side)[:, None]
    ends = np.minimum(starts + side, cells + native)
    overlap = (ends - np.maximum(starts, cells)).clip(min=0)
    return overlap @ pixels @ overlap.T >= coverage * native**2


def painting_order(layout: Layout, order: Order) -> list[int]:
    """Indices of the regions in the order in which a progressive method paints them."""
    numbers = range(len(layout.regions))
    if order == "given":
        return list(numbers)
    sign = -1 if order == "large-first" else 1
    return sorted(numbers, key=lambda n: sign * int(layout.regions[n].pixels.sum()))


class Pass(NamedTuple):
    """One pass of a progressive method over many layouts at once: a region of each."""

    rows: list[int]
    """Indices of the layouts that still have a region."""
    masks: Tensor
    """Their regions on the latent grid, (len(rows), 1, side, side)."""
    prompts: list[str]


def passes(
    layouts: Sequence[Layout], order: Order, side: int, coverage: float | None = None
) -> list[Pass]:
    """The passes of a progressive method: the first region of every layout, then the second, ...

    Raises:
        InputError: see `grid_masks`.
    """
    orders = [painting_order(layout, order) for layout in layouts]
    masks = [grid_masks(layout, side, coverage) for layout in layouts]
    found = []
    for turn in range(max(map(len, orders))):
        painted = {n: each[turn] for n, each in enumerate(orders) if turn < len(each)}
        prompts = [layouts[n].regions[region].prompt for n, region in painted.items()]
        stacked = torch.stack([masks[n][region] for n, region in painted.items()])
        found.append(Pass(list(painted), stacked, prompts))
    return found
