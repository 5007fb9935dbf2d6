"""A row's IoU taken apart: by class, by the size of what is drawn, by the number of objects.

Each part is a mean over some of the values of a reduction of `tcig.eval.iou`, with the interval of
`tcig.eval.statistics`, so that the parts of a row, weighted by their n, give the table's mean.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tcig.data.voc import NUM_LABELS
from tcig.eval.iou import class_iou, image_iou
from tcig.eval.rows import Row
from tcig.eval.statistics import by_layout, interval, mean_of

SHARES = (0.05, 0.1, 0.2, 0.4)
"""Where bins of size meet, as shares of the image; ours. The papers' filter keeps objects of 5% and
more of the photograph, of which the centre square keeps more or less."""
SHARE_NAMES = ("under 5%", "5 to 10%", "10 to 20%", "20 to 40%", "40% or more")


class Part(NamedTuple):
    """Mean of n values and its 95% interval by layout; NaN where there is none."""

    mean: float
    low: float
    high: float
    n: int


def by_class(row: Row) -> list[Part]:
    """Of each class 0 to 20 the values of `iou_region`; the background has none."""
    values = class_iou(row.samples)
    return [_part(values[:, [index]], row) for index in range(NUM_LABELS)]


def by_size(row: Row) -> list[Part]:
    """Of each bin of `SHARES` the values of `iou_region`.

    A value is of all objects of a class in an image, which a semantic judge does not tell apart:
    its size is their pixels in the truth over all pixels of the image.
    """
    values = class_iou(row.samples)
    bins = np.digitize(row.samples.confusion.sum(2) / row.score.score_size**2, SHARES)
    return [
        _part(np.where(bins == number, values, np.nan), row) for number in range(len(SHARES) + 1)
    ]


def by_objects(row: Row, objects: Mapping[str, int], numbers: Sequence[int]) -> list[Part]:
    """Of each of `numbers` the values of `iou_image` of layouts with so many objects.

    Args:
        row: of N samples.
        objects: how many a layout has, by its id.
        numbers: of objects.
    """
    values = image_iou(row.samples)
    found = np.array([objects[layout] for layout in row.layouts])
    return [_part(np.where(found == number, values, np.nan)[:, None], row) for number in numbers]


def _part(values: np.ndarray, row: Row) -> Part:
    """Of the values, (N, M), that are not NaN."""
    ratio = mean_of(values)
    n = int(ratio.denominators.sum())
    if not n:
        return Part(np.nan, np.nan, np.nan, 0)
    ends = interval(by_layout(ratio, row.layouts))
    return Part(float(ratio.numerators.sum() / n), *ends, n)
