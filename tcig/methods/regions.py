"""A layout's regions as masks on a grid, and the order in which they are painted."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest

Order = Literal["large-first", "small-first", "given"]
"""By area, or as the layout has them. No paper says; large first lets the smaller object, which
lies on top in the truth, be painted last."""


def grid_masks(layout: Layout, side: int, coverage: float | None = None) -> Tensor:
    """The regions' masks on a latent grid, (R, 1, side, side) of 0 and 1.

    Args:
        layout: as said.
        side: cells a side.
        coverage: share of a cell from which on it belongs to a region, instead of what lies at its
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


def passes(layouts: Sequence[Layout], order: Order) -> Iterator[list[tuple[int, int]]]:
    """The passes of a progressive method over many layouts at once.

    Yields:
        For each pass, the (layout, region) indices that it paints: the first region of every
        layout, then the second of those that have one, and so on.
    """
    orders = [painting_order(layout, order) for layout in layouts]
    for turn in range(max(map(len, orders))):
        yield [(n, each[turn]) for n, each in enumerate(orders) if turn < len(each)]
