"""Where a row's variance comes from, and how many layouts tell two rows apart."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import f, ncf


class Spread(NamedTuple):
    """Standard deviations of a value, NaN where they cannot be told apart."""

    seeds: float
    """Over the seeds of one layout."""
    layouts: float
    """Over layouts, of what is left of a layout's mean with endless seeds."""
    mean: float
    """Of the mean over all samples: its standard error."""


def spread(values: np.ndarray, layouts: Sequence[str]) -> Spread:
    """One-way random effects, layouts as groups, by the analysis of variance.

    Mean squares are set equal to their expectations, for groups of different sizes with k0 =
    (N - sum of n_i^2 / N) / (k - 1) in place of the size (Searle, Casella & McCulloch 1992,
    Variance Components). The variance over layouts so found can be negative, and is then
    clipped to 0: `layouts` is biased upwards where the true one is near 0.

    Args:
        values: a value per sample, (N,), NaN where there is none.
        layouts: their layouts, N ids.

    Returns:
        NaN for fewer than two layouts, or with one sample per layout. `mean` weighs all samples
        alike, as the mean of the values does.
    """
    values = np.asarray(values, float)
    there = ~np.isnan(values)
    values = values[there]
    _, groups, sizes = np.unique(
        np.asarray(layouts)[there], return_inverse=True, return_counts=True
    )
    n, k = len(values), len(sizes)
    if k < 2 or n == k:
        return Spread(*[float("nan")] * 3)
    means = np.bincount(groups, values) / sizes
    within = np.sum((values - means[groups]) ** 2) / (n - k)
    between = np.sum(sizes * (means - values.mean()) ** 2) / (k - 1)
    squares = np.sum(sizes**2) / n
    over = max(0.0, (between - within) * (k - 1) / (n - squares))
    return Spread(*np.sqrt([within, over, (over * squares + within) / n]).tolist())


def layouts_needed(
    difference: float, sd: float, power: float = 0.8, level: float = 0.95
) -> int | None:
    """The fewest layouts with which a paired t test tells two rows apart (Cohen 1988).

    Args:
        difference: between the rows' means.
        sd: of the layouts' differences.
        power: the chance that the test finds the difference, above 1 - level and below 1.
        level: 1 minus the two-sided test's level of significance.

    Returns:
        At least 2; None where the difference is 0, or either is NaN: no number will do.

    Raises:
        ValueError: a power or level outside these.
    """
    if not 0 < level < 1 or not 1 - level < power < 1:
        raise ValueError(f"no number of layouts for a power of {power} at a level of {level}")
    if not abs(difference) > 0 or np.isnan(sd):
        return None
    if not sd:
        return 2

    def enough(n: int) -> bool:  # t^2 is F's of 1 and n - 1; scipy's nct has NaN at shifts of 10
        limit = f.isf(1 - level, 1, n - 1)
        return ncf.sf(limit, 1, n - 1, n * (difference / sd) ** 2) >= power

    few, many = 1, 2
    while not enough(many):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many
