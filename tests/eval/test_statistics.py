"""Intervals against plain loops over `reduce`, SciPy, and simulated layouts of known truth."""

import numpy as np
import pytest
from scipy import stats

from tcig.eval.iou import NAMES, Samples, reduce
from tcig.eval.statistics import Ratio, by_layout, interval, mean_of, parts

SEEDS = range(6)


def draw(seed, layouts=7):
    """Samples of so many layouts, 1 to 4 of each, in any order, and their layouts' ids.

    Some classes have no pixel in the truth, some layouts none at all, some classes one layout.
    """
    rng = np.random.default_rng(seed)
    confusions, classes, ids = [], [], []
    for layout in range(layouts):
        own = rng.choice(np.arange(1, 21), rng.integers(1, 5), replace=False)
        there = own[: rng.integers(0, len(own) + 1)]
        for _ in range(rng.integers(1, 5)):
            confusion = np.zeros((21, 21), np.int64)
            for label in (0, *there):
                confusion[label] = rng.integers(0, 9, 21) * (rng.random(21) < 0.3)
                confusion[label, label] += rng.integers(1, 60)
            confusions.append(confusion)
            classes.append(own)
            ids.append(f"layout {layout}")
    order = rng.permutation(len(ids))
    samples = Samples.of(confusions, classes)
    return Samples(*(each[order] for each in samples)), np.array(ids)[order]


def taken(samples, places):
    return Samples(*(each[places] for each in samples))


def test_a_layouts_values_are_summed_without_nan():
    values = np.array([0.2, np.nan, 0.4, 0.9])
    grouped = by_layout(mean_of(values), ["b", "a", "b", "c"])
    np.testing.assert_allclose(grouped.numerators[:, 0], [0, 0.6, 0.9])
    np.testing.assert_array_equal(grouped.denominators[:, 0], [0, 2, 1])
    np.testing.assert_array_equal(grouped.present[:, 0], [False, True, True])


def held(samples, ids, name):
    """Layouts in which anything counts."""
    own = by_layout(parts(samples, name), ids).denominators.any(1)
    return np.unique(ids)[own]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_t_is_the_jackknife_over_layouts(name, seed):
    samples, ids = draw(seed)
    layouts = held(samples, ids, name)
    left = [reduce(taken(samples, ids != layout), name).mean for layout in layouts]
    n = len(layouts)
    error = np.sqrt((n - 1) / n * sum((each - np.mean(left)) ** 2 for each in left))
    reach = stats.t.ppf(0.95, n - 1) * error
    mean = reduce(samples, name).mean
    found = interval(by_layout(parts(samples, name), ids), level=0.9)
    assert found == pytest.approx((mean - reach, mean + reach), rel=1e-9)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 3, 24])
def test_t_of_a_mean_is_the_textbooks(n, level):
    values = np.random.default_rng(n).random(n)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert interval(mean_of(values), level) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_interval_of_many_layouts_is_scipys_bca(seed):
    """Another way to the same: of 400 layouts both are within a tenth of their width."""
    values = np.random.default_rng(seed).beta(0.3, 1.5, 400)  # skewed, as misses make it
    found = interval(mean_of(values))
    expected = stats.bootstrap((values,), np.mean, method="BCa", rng=seed, batch=1000)
    width = found.high - found.low
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.1 * width)


@pytest.mark.parametrize("name", NAMES)
def test_copies_of_seeds_and_the_order_of_samples_change_nothing(name):
    samples, ids = draw(4, layouts=12)
    one = interval(by_layout(parts(samples, name), ids))
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(ids)), 4))
    copies = parts(taken(samples, order), name)
    assert interval(by_layout(copies, ids[order])) == pytest.approx(one)
    ignored = interval(copies)
    assert ignored.high - ignored.low < 0.8 * (one.high - one.low)


def test_intervals_move_stretch_and_turn_with_the_values():
    values = np.random.default_rng(7).beta(0.5, 2, 24)
    low, high = interval(mean_of(values), 0.9)
    assert interval(mean_of(5 * values + 2), 0.9) == pytest.approx((5 * low + 2, 5 * high + 2))
    assert interval(mean_of(-values), 0.9) == pytest.approx((-high, -low))
    wider = interval(mean_of(values), 0.99)
    assert wider.low < low < values.mean() < high < wider.high


def test_where_there_is_no_interval():
    nothing = (np.nan, np.nan)
    for values in ([], [0.3], [np.nan] * 3, [np.nan, 0.3, np.nan]):
        found = interval(mean_of(np.array(values, float)))
        np.testing.assert_array_equal(found, nothing)
    assert interval(mean_of(np.array([0.3, np.nan] * 5))) == (0.3, 0.3)
    assert interval(mean_of(np.full(24, 0.1))) == pytest.approx((0.1, 0.1))
    assert len(set(interval(mean_of(np.full(24, 0.1))))) == 1
    assert interval(mean_of(np.zeros(24))) == (0, 0)
    # all of the classes are of one layout; the other has wrong predictions alone
    alone = Ratio(np.array([[2.0], [0.0]]), np.array([[4.0], [1.0]]), np.array([[True], [False]]))
    np.testing.assert_array_equal(interval(alone), nothing)


@pytest.mark.parametrize("level", [1.0, 0.0, 95])
def test_other_levels_are_refused(level):
    with pytest.raises(ValueError, match="no interval at"):
        interval(mean_of(np.arange(9.0)), level)
