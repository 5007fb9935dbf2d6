"""Masks as a hasty user draws them: TCIG loosens its second stage "to address imperfect masks".

The paper names no kind and no amount of imperfection: all here is ours. An amount is a share of
the object's own size, the root of its area, so that small and large objects suffer alike.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from tcig.data.errors import InputError
from tcig.data.layout import Layout, Region
from tcig.data.masks import encode

TRUE = "true"
"""Masks as they are."""
VERTICES = 8
"""Of a rough polygon."""
STROKES = 6
"""Points that a scribble passes through."""


def eroded(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Without what is nearer to its border than the amount; its core stays whatever that is."""
    depth = distance_transform_edt(mask)
    return depth > min(amount * _size(mask), 0.7 * depth.max())


def dilated(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """With all that is no further from it than the amount."""
    return distance_transform_edt(~mask) <= amount * _size(mask)


def shifted(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Moved by the amount in a random direction; what leaves the square is lost."""
    angle = rng.uniform(0, 2 * np.pi)
    down, right = np.rint(amount * _size(mask) * np.array([np.sin(angle), np.cos(angle)])).astype(
        int
    )
    moved = np.zeros_like(mask)
    height, width = mask.shape
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = mask[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return moved


def polygon(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """A polygon: the farthest pixels of `VERTICES` sectors, each moved at random by the amount."""
    points = np.argwhere(mask)
    centre = points.mean(0)
    away = points - centre
    sectors = ((np.arctan2(*away.T) + np.pi) / (2 * np.pi) * VERTICES).astype(int) % VERTICES
    distance = np.hypot(*away.T)
    corners = []
    for sector in np.unique(sectors):
        farthest = np.flatnonzero(sectors == sector)[distance[sectors == sector].argmax()]
        corners.append(points[farthest] + rng.normal(0, amount * _size(mask), 2))
    if len(corners) < 3:
        return mask
    canvas = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(canvas).polygon([(x, y) for y, x in corners], fill=1)
    return np.array(canvas)


def scribble(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """A stroke of the amount's width through `STROKES` random points of it, in their order along
    its longer axis."""
    points = np.argwhere(mask)
    chosen = points[rng.integers(len(points), size=STROKES)]
    centred = points - points.mean(0)
    axis = np.linalg.svd(centred.T @ centred)[0][:, 0]
    chosen = chosen[np.argsort(chosen @ axis)]
    canvas = Image.new("1", mask.shape[::-1])
    width = max(1, round(amount * _size(mask)))
    ImageDraw.Draw(canvas).line([(x, y) for y, x in chosen.tolist()], 1, width, "curve")
    return np.array(canvas)


KINDS: dict[str, Callable] = {
    each.__name__: each for each in (eroded, dilated, shifted, polygon, scribble)
}
AMOUNTS = {"eroded": 0.05, "dilated": 0.08, "shifted": 0.1, "polygon": 0.05, "scribble": 0.2}
"""Where none is given: over the regions of the 97 embedded layouts these leave a mean IoU with the
true masks of 0.64 to 0.67, a scribble 0.28."""


def parse_masks(text: str) -> tuple[str, float]:
    """`KIND` or `KIND:AMOUNT` as a pair, `true` with amount 0.

    Raises:
        InputError: another kind, or an amount that is none.
    """
    kind, colon, amount = text.partition(":")
    if text == TRUE:
        return TRUE, 0.0
    if kind not in KINDS:
        raise InputError(
            f"no masks {text!r}: there are {TRUE}, {', '.join(KINDS)}, as dilated:0.1."
        )
    try:
        value = float(amount) if colon else AMOUNTS[kind]
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"masks {text!r}: an amount is a share of an object's size, 0 to 1.")
    return kind, value


def imperfect(layouts: Sequence[Layout], masks: str) -> list[Layout]:
    """The layouts with imperfect masks, as a user would draw them; `masks` as in `parse_masks`.

    An object's imperfection depends on its annotation alone. One that would leave the square, or
    vanish, keeps its mask.
    """
    kind, amount = parse_masks(masks)
    if kind == TRUE:
        return list(layouts)
    return [
        layout.model_copy(
            update={"regions": tuple(_imperfect(each, kind, amount) for each in layout.regions)}
        )
        for layout in layouts
    ]


def _imperfect(region: Region, kind: str, amount: float) -> Region:
    rng = np.random.default_rng([region.annotation, *kind.encode()])
    found = KINDS[kind](region.pixels, amount, rng)
    return region.model_copy(update={"mask": encode(found)}) if found.any() else region


def _size(mask: np.ndarray) -> float:
    return float(np.sqrt(mask.sum()))
