"""Masks as a hasty user draws them: TCIG loosens its second stage "to address imperfect masks".

The paper names no kind and no amount of imperfection: all here is our choice. An amount is a share
of the object's own size, the square root of its area, so that it affects small and large objects
alike.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import shift as move

from tcig.data.errors import InputError
from tcig.data.layout import Layout, Region
from tcig.data.masks import encode

TRUE = "true"
"""Masks as they are."""
VERTICES = 8
"""Corners of a rough polygon."""
STROKES = 6
"""Points that a scribble passes through."""


def eroded(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Removes a border of the amount's depth, but never the core of the object."""
    depth = distance_transform_edt(mask)
    return depth > min(amount * _size(mask), 0.7 * depth.max())


def dilated(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Adds a border of the amount's width."""
    return distance_transform_edt(~mask) <= amount * _size(mask)


def shifted(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Moves by the amount in a random direction; what leaves the square is lost."""
    angle = rng.uniform(0, 2 * np.pi)
    offset = np.rint(amount * _size(mask) * np.array([np.sin(angle), np.cos(angle)]))
    return move(mask, offset, order=0)


def polygon(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Joins the farthest pixels of `VERTICES` sectors, each moved at random by the amount."""
    points = np.argwhere(mask)
    away = points - points.mean(0)
    sectors = ((np.arctan2(*away.T) + np.pi) / (2 * np.pi) * VERTICES).astype(int) % VERTICES
    distance = np.hypot(*away.T)
    corners = []
    for sector in np.unique(sectors):
        inside = np.flatnonzero(sectors == sector)
        farthest = points[inside[distance[inside].argmax()]]
        corners.append(farthest + rng.normal(0, amount * _size(mask), 2))
    if len(corners) < 3:
        return mask
    canvas = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(canvas).polygon([(x, y) for y, x in corners], fill=1)
    return np.array(canvas)


def scribble(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Draws a stroke of the amount's width through `STROKES` random points of the object."""
    points = np.argwhere(mask)
    chosen = points[rng.integers(len(points), size=STROKES)]
    centred = points - points.mean(0)
    axis = np.linalg.svd(centred.T @ centred)[0][:, 0]
    chosen = chosen[np.argsort(chosen @ axis)]
    canvas = Image.new("1", mask.shape[::-1])
    width = max(1, round(amount * _size(mask)))
    ImageDraw.Draw(canvas).line([(x, y) for y, x in chosen.tolist()], 1, width, "curve")
    return np.array(canvas)


def _size(mask: np.ndarray) -> float:
    return float(np.sqrt(mask.sum()))


KINDS: dict[str, tuple[Callable, float]] = {
    "eroded": (eroded, 0.05),
    "dilated": (dilated, 0.08),
    "shifted": (shifted, 0.1),
    "polygon": (polygon, 0.05),
    "scribble": (scribble, 0.2),
}
"""Each kind with its default amount. Over the regions of the 97 embedded layouts, the defaults
leave a mean IoU with the true masks of 0.64 to 0.67, a scribble 0.28."""


def parse_masks(text: str) -> tuple[str, float]:
    """`KIND` or `KIND:AMOUNT` as a pair, `true` with amount 0.

    Raises:
        InputError: an unknown kind, or an amount that is not from 0 to 1.
    """
    kind, colon, amount = text.partition(":")
    if text == TRUE:
        return TRUE, 0.0
    if kind not in KINDS:
        kinds = ", ".join(KINDS)
        raise InputError(f"unknown masks {text!r}; available: {TRUE}, {kinds}, as dilated:0.1.")
    try:
        value = float(amount) if colon else KINDS[kind][1]
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"masks {text!r}: the amount must be from 0 to 1, as dilated:0.1.")
    return kind, value


def imperfect(layouts: Sequence[Layout], masks: str) -> list[Layout]:
    """The layouts with imperfect masks, as a user would draw them; `masks` as in `parse_masks`.

    An object's imperfection depends on its annotation alone. An object that would leave the square,
    or vanish, keeps its mask.
    """
    kind, amount = parse_masks(masks)
    if kind == TRUE:
        return list(layouts)

    def change(region: Region) -> Region:
        rng = np.random.default_rng([region.annotation, *kind.encode()])
        mask = KINDS[kind][0](region.pixels, amount, rng)
        return region.model_copy(update={"mask": encode(mask)}) if mask.any() else region

    return [
        layout.model_copy(update={"regions": tuple(map(change, layout.regions))})
        for layout in layouts
    ]
