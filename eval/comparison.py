"""Rows against one another on the same layouts.

Layouts are the units, as in `tcig.eval.statistics`: samples of one layout are averaged first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tcig.eval.statistics import EQUAL, by_layout, interval, mean_of

EXACT = 16
"""Layouts up to which all 2^n flips are enumerated."""
FLIPS = 99_999
"""Random flips above that: with the observed one 100,000, so that p has a step of 1e-5."""
AT_ONCE = 1 << 22
"""Random signs at a time: 32 MB as floats."""


class Paired(NamedTuple):
    """Two rows, a and b, on the layouts that both have a value for; NaN where that is undefined."""

    difference: float
    """Mean over layouts of a minus b."""
    low: float
    high: float
    """Ends of its confidence interval."""
    p: float
    """Two-sided, of the sign-flip permutation test."""
    n: int
    """Common layouts."""
    effect: float
    """Cohen's d_z: the difference over the standard deviation (ddof 1) of the differences."""
    won: float
    """Share of layouts in which a is larger; a tie is half."""


def paired_test(
    a: np.ndarray,
    b: np.ndarray,
    layouts_a: Sequence[str],
    layouts_b: Sequence[str],
    level: float = 0.95,
    flips: int = FLIPS,
    seed: int = 0,
) -> Paired:
    """Whether two rows differ, tested on the layouts' means.

    Under the null hypothesis a layout's difference is as likely to have the other sign: the test
    flips signs independently (Fisher 1935; Good 2005, Permutation, Parametric and Bootstrap Tests
    of Hypotheses). Exact up to `EXACT` layouts that differ, else (1 + hits) / (1 + flips) (Phipson
    & Smyth 2010), which is never 0. `paired_test(b, a, ...)` has the same p.

    Args:
        a: a value per sample, (N,), NaN where there is none.
        b: the same of the other row, (M,).
        layouts_a: their layouts, N ids.
        layouts_b: M ids.
        level: of the interval, `tcig.eval.statistics.interval` of the differences.
        flips: random ones.
        seed: of the random flips.

    Returns:
        All but `n` NaN without a common layout; the interval NaN with one. `effect` is NaN where
        the differences are equal.
    """
    (ids_a, means_a), (ids_b, means_b) = layout_means(a, layouts_a), layout_means(b, layouts_b)
    _, in_a, in_b = np.intersect1d(ids_a, ids_b, assume_unique=True, return_indices=True)
    first, second = means_a[in_a], means_b[in_b]
    n = len(first)
    if not n:
        return Paired(*[float("nan")] * 4, n, *[float("nan")] * 2)
    differences = np.where(np.isclose(first, second, EQUAL, 0), 0, first - second)
    mean = float(differences.mean())
    low, high = interval(mean_of(differences), level)
    effect = mean / float(differences.std(ddof=1)) if high > low else float("nan")
    won = float(np.mean(differences > 0) + np.mean(differences == 0) / 2)
    return Paired(mean, low, high, sign_flip(differences, flips, seed), n, effect, won)


def layout_means(values: np.ndarray, layouts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the layouts that have a value, sorted, and the means of their values."""
    sums = by_layout(mean_of(values), layouts)
    there = sums.present[:, 0]
    return np.unique(layouts)[there], (sums.numerators[there] / sums.denominators[there])[:, 0]


def sign_flip(differences: np.ndarray, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of differences (n,) whose signs may flip: `paired_test` has the details."""
    differences = differences[differences != 0]  # their signs change no sum
    observed = abs(differences.sum()) - EQUAL * np.abs(differences).sum()
    if len(differences) <= EXACT:
        sums = np.zeros(1)
        for each in differences:
            sums = np.concatenate([sums + each, sums - each])
        return float(np.mean(np.abs(sums) >= observed))
    rng = np.random.default_rng(seed)
    width = -(-len(differences) // 8)
    step = max(1, AT_ONCE // (8 * width))
    hits = 0
    for start in range(0, flips, step):
        rows = min(step, flips - start)
        octets = np.frombuffer(rng.bytes(rows * width), np.uint8).reshape(rows, width)
        flipped = np.unpackbits(octets, axis=1, count=len(differences)).astype(float)
        sums = differences.sum() - 2 * (flipped @ differences)
        hits += int(np.sum(np.abs(sums) >= observed))
    return (1 + hits) / (1 + flips)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for their number (Holm 1979), in their order; NaN stays and counts none.

    Those at most alpha are the hypotheses to reject, with a chance of at most alpha that any of
    them is true.
    """
    p_values = np.asarray(p_values, float)
    adjusted = np.full(p_values.shape, np.nan)
    order = np.argsort(p_values)[: int(np.sum(~np.isnan(p_values)))]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted
