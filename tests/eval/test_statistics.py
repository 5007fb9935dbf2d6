"""Intervals against plain loops over `reduce`, SciPy, and simulated layouts of known truth."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from tcig.eval import statistics
from tcig.eval.iou import NAMES, Samples, reduce
from tcig.eval.statistics import Ratio, by_layout, figures, interval, mean_of, parts, resampled

METHODS = ("t", "percentile", "bca")
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_figures_are_the_reductions(name, seed):
    samples, ids = draw(seed)
    ratio = parts(samples, name)
    expected = reduce(samples, name).mean
    ones = figures(ratio, np.ones((1, len(ids))))
    assert ones == pytest.approx(expected, rel=1e-14)
    grouped = by_layout(ratio, ids)
    assert len(grouped.numerators) == len(set(ids))
    assert figures(grouped, np.ones((1, 7))) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_weight_is_so_many_copies(name, seed):
    samples, ids = draw(seed)
    random = np.random.default_rng(seed).integers(0, 3, (30, 7))
    weights = np.concatenate([np.zeros((1, 7), int), np.eye(7, dtype=int), random])
    found = figures(by_layout(parts(samples, name), ids), weights)
    for value, weight in zip(found, weights, strict=True):
        of_sample = weight[np.unique(ids, return_inverse=True)[1]]
        expected = reduce(taken(samples, np.repeat(np.arange(len(ids)), of_sample)), name).mean
        assert value == pytest.approx(expected, rel=1e-13, nan_ok=True)
    assert np.isnan(found[0])


def test_a_value_per_sample_is_its_mean_without_nan():
    values = np.array([0.2, np.nan, 0.4, 0.9])
    assert figures(mean_of(values), np.ones((1, 4))) == pytest.approx(0.5)
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
    found = interval(by_layout(parts(samples, name), ids), level=0.9, method="t")
    assert found == pytest.approx((mean - reach, mean + reach), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_percentiles_are_of_the_reductions_of_resampled_layouts(name):
    """And SciPy's BCa of the same resamples, with its own jackknife, is ours."""
    samples, ids = draw(0, layouts=20)
    layouts = held(samples, ids, name)
    ratio = by_layout(parts(samples, name), ids)

    def reduced(chosen):
        places = [np.flatnonzero(ids == layouts[each]) for each in chosen.astype(int)]
        return reduce(taken(samples, np.concatenate(places)), name).mean

    counts = resampled(len(layouts), 200, 5)
    drawn = np.array([reduced(np.repeat(np.arange(len(layouts)), each)) for each in counts])
    drawn = drawn[~np.isnan(drawn)]
    found = interval(ratio, 0.8, "percentile", 200, seed=5)
    assert found == pytest.approx(np.quantile(drawn, [0.1, 0.9]), rel=1e-12)
    theirs = scipys_bca(np.arange(len(layouts)), reduced, drawn, 0.8)
    assert theirs != pytest.approx(found, rel=1e-4)
    assert interval(ratio, 0.8, "bca", 200, seed=5) == pytest.approx(theirs, rel=1e-9)


def scipys_bca(data, statistic, drawn, level):
    """SciPy's interval of figures that were drawn elsewhere."""
    found = stats.bootstrap(
        (data,),
        statistic,
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=drawn),
        confidence_level=level,
        vectorized=False,
        method="BCa",
    )
    return tuple(found.confidence_interval)


def test_bca_with_ties_is_scipys():
    """Half of the resamples that are as the figure count as below it."""
    values = np.array([0.0] * 5 + [1.0] * 3)
    drawn = resampled(8, 500, 0) @ values / 8
    assert np.mean(drawn == values.mean()) > 0.2
    found = interval(mean_of(values), 0.9, "bca", 500)
    assert found == pytest.approx(scipys_bca(values, np.mean, drawn, 0.9), rel=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 3, 24])
def test_t_of_a_mean_is_the_textbooks(n, level):
    values = np.random.default_rng(n).random(n)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert interval(mean_of(values), level) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
@pytest.mark.parametrize("seed", SEEDS)
def test_resampling_agrees_with_scipy(method, theirs, seed):
    """Within what 99,999 resamples leave: 0.02 standard errors at each end, five times that."""
    values = np.random.default_rng(seed).beta(0.3, 1.5, 24)  # skewed, as misses make it
    found = interval(mean_of(values), 0.95, method, 99_999)
    expected = stats.bootstrap(
        (values,), np.mean, method=theirs, n_resamples=99_999, rng=seed, batch=9999
    ).confidence_interval
    assert found == pytest.approx(tuple(expected), abs=0.1 * stats.sem(values))


def test_resamples_are_multinomial_and_shared():
    counts = resampled(6, 40_000, 3)
    assert (counts.sum(1) == 6).all()
    assert counts.mean(0) == pytest.approx(np.ones(6), abs=5 * np.sqrt(5 / 6 / 40_000))
    expected = 5 / 6 * np.eye(6) - 1 / 6 * (1 - np.eye(6))
    assert np.cov(counts.T) == pytest.approx(expected, abs=0.03)
    assert resampled(6, 40_000, 3) is counts
    assert (resampled(6, 40_000, 4) != counts).any()
    with pytest.raises(ValueError, match="read-only"):
        counts[0] = 0


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_resamples_in_pieces_are_the_same(method, monkeypatch):
    samples, ids = draw(2)
    ratio = by_layout(parts(samples, "iou_dataset"), ids)
    whole = interval(ratio, method=method, resamples=200)
    resampled.cache_clear()
    monkeypatch.setattr(statistics, "AT_ONCE", 100)
    assert interval(ratio, method=method, resamples=200) == pytest.approx(whole, rel=1e-12)
    resampled.cache_clear()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_copies_of_seeds_and_the_order_of_samples_change_nothing(name, method):
    samples, ids = draw(4, layouts=12)
    one = interval(by_layout(parts(samples, name), ids), method=method)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(ids)), 4))
    copies = parts(taken(samples, order), name)
    assert interval(by_layout(copies, ids[order]), method=method) == pytest.approx(one)
    ignored = interval(copies, method=method)
    assert ignored.high - ignored.low < 0.8 * (one.high - one.low)


@pytest.mark.parametrize("method", METHODS)
def test_intervals_move_stretch_and_turn_with_the_values(method):
    values = np.random.default_rng(7).beta(0.5, 2, 24)
    low, high = interval(mean_of(values), 0.9, method)
    assert interval(mean_of(5 * values + 2), 0.9, method) == pytest.approx(
        (5 * low + 2, 5 * high + 2)
    )
    assert interval(mean_of(-values), 0.9, method) == pytest.approx((-high, -low))
    wider = interval(mean_of(values), 0.99, method)
    assert wider.low < low < values.mean() < high < wider.high


@pytest.mark.parametrize("method", METHODS)
def test_where_there_is_no_interval(method):
    nothing = (np.nan, np.nan)
    for values in ([], [0.3], [np.nan] * 3, [np.nan, 0.3, np.nan]):
        found = interval(mean_of(np.array(values, float)), method=method)
        np.testing.assert_array_equal(found, nothing)
    assert interval(mean_of(np.array([0.3, np.nan] * 5)), method=method) == (0.3, 0.3)
    assert interval(mean_of(np.full(24, 0.1)), method=method) == pytest.approx((0.1, 0.1))
    assert len(set(interval(mean_of(np.full(24, 0.1)), method=method))) == 1
    assert interval(mean_of(np.zeros(24)), method=method) == (0, 0)
    # all of the classes are of one layout; the other has wrong predictions alone
    alone = Ratio(np.array([[2.0], [0.0]]), np.array([[4.0], [1.0]]), np.array([[True], [False]]))
    np.testing.assert_array_equal(interval(alone, method=method), nothing)


def test_bca_of_a_figure_beyond_all_resamples_is_percentile():
    """A class in every layout is 0, one in each alone about 1: resamples lose of the latter."""
    values = np.concatenate([np.zeros((30, 1)), np.diag(np.linspace(0.9, 1, 30))], 1)
    present = np.concatenate([np.ones((30, 1)), np.eye(30)], 1)
    ratio = Ratio(values, present, present > 0)
    assert figures(ratio, np.ones((1, 30))) > figures(ratio, resampled(30, 9999, 0)).max()
    low, high = interval(ratio, method="bca")
    assert (low, high) == interval(ratio, method="percentile")
    assert low < high


@pytest.mark.parametrize("arguments", [(1.0, "t"), (0.0, "bca"), (95, "t"), (0.95, "auto")])
def test_other_methods_and_levels_are_refused(arguments):
    with pytest.raises(ValueError, match="no interval by"):
        interval(mean_of(np.arange(9.0)), *arguments)
