"""Intervals of a row's figures, with layouts as the units.

Samples (seeds) of one layout are not independent: they stay together wherever layouts are resampled
or left out. Every reduction of `tcig.eval.iou`, and the mean of any other value per sample, is a
mean over K parts of ratios of sums over layouts, so that one machinery serves all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from tcig.eval.iou import REDUCTIONS, Samples, class_counts

EQUAL = 1e-12
"""Values that differ by less than this share of themselves are equal: rounding made the rest."""


class Ratio(NamedTuple):
    """Rows to sum (samples, or layouts) of K parts: arrays (N, K), the first two float64.

    The figure is the mean, over the parts that any row has `present` (bool), of the sum of
    `numerators` over the sum of `denominators`.
    """

    numerators: np.ndarray
    denominators: np.ndarray
    present: np.ndarray


class Interval(NamedTuple):
    """Ends of a confidence interval; not cut to the range of the values."""

    low: float
    high: float


def mean_of(values: np.ndarray) -> Ratio:
    """The mean of the values, (N,) or (N, M), that are not NaN: one part, sums over counts."""
    values = values if values.ndim > 1 else values[:, None]
    counted = ~np.isnan(values)
    numbers = counted.sum(1, keepdims=True)
    return Ratio(np.nansum(values, 1, keepdims=True), numbers.astype(float), numbers > 0)


def parts(samples: Samples, name: str) -> Ratio:
    """The reduction `name`, one of `tcig.eval.iou.NAMES`, a row per sample.

    `iou_dataset` has 21 parts, the classes' intersections and unions; the others are means. It
    takes a class to have pixels in the truth in layouts alone that have the class.
    """
    plain = name.removesuffix("_with_background")
    if plain == "iou_dataset":
        intersection, union, counted = class_counts(samples, background=plain != name)
        return Ratio(intersection.astype(float), union.astype(float), counted)
    return mean_of(REDUCTIONS[plain](samples, background=plain != name))


def by_layout(ratio: Ratio, layouts: Sequence[str]) -> Ratio:
    """Samples summed to a row per layout, in the order of the sorted ids; `layouts` has N."""
    ids, places = np.unique(np.asarray(layouts), return_inverse=True)
    sums = np.zeros((3, len(ids), ratio.numerators.shape[1]))
    for total, each in zip(sums, ratio, strict=True):
        np.add.at(total, places, each)
    return Ratio(sums[0], sums[1], sums[2] > 0)


def _figures(numerators: np.ndarray, denominators: np.ndarray, present: np.ndarray) -> np.ndarray:
    """From sums (R, K), of which `present` counts rows."""
    there = present > 0
    ratios = np.divide(numerators, denominators, out=np.zeros(there.shape), where=there)
    number = there.sum(1)
    return np.divide(ratios.sum(1), number, out=np.full(len(ratios), np.nan), where=number > 0)


def interval(ratio: Ratio, level: float = 0.95) -> Interval:
    """Confidence interval of a figure whose rows are layouts: `by_layout(parts(...), layouts)`.

    The figure ± Student's t with n - 1 degrees of freedom times the jackknife's standard error
    (Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 11), which for a mean is the
    textbook interval. A simulation chose it (results/coverage.md): at 95% it held the truth in
    93.7% to 96.0% of the rows of 64 layouts and in 94.2% to 95.6% of those of 500; of 24 layouts in
    94.2% to 95.7%, but in 97.2% for `iou_dataset`, and in 91.2% where half of the values are 0 and
    there is one seed.

    Args:
        ratio: a row per layout. Those in which nothing counts (all denominators 0) are left out.
        level: confidence, 0 to 1.

    Returns:
        NaN for fewer than two layouts, or where leaving one out leaves nothing; the figure twice
        where leaving any one out changes nothing, as for equal values.

    Raises:
        ValueError: a level outside 0 to 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"no interval at {level}")
    ratio = Ratio(*(each[ratio.denominators.any(1)] for each in ratio))
    n = len(ratio.numerators)
    totals = [each.sum(0, dtype=float, keepdims=True) for each in ratio]
    left = _figures(*(total - each for total, each in zip(totals, ratio, strict=True)))
    if n < 2 or np.isnan(left).any():
        return Interval(float("nan"), float("nan"))
    figure = float(_figures(*totals)[0])
    if np.ptp(left) <= EQUAL * np.abs(left).max():
        return Interval(figure, figure)
    error = np.sqrt((n - 1) / n * np.sum((left.mean() - left) ** 2))
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    return Interval(*(figure + t.ppf(tails, n - 1) * error).tolist())
