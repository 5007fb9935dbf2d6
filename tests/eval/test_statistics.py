"""Intervals, tests and variance components against SciPy, statsmodels, loops and simulation."""

import math

import numpy as np
import pytest
from benchmarks.interval_coverage import BY_LAYOUT, IGNORED, cases, coverage
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from tcig.eval.iou import NAMES, Samples, reduce
from tcig.eval.statistics import (
    EXACT,
    FLIPS,
    Ratio,
    by_layout,
    holm,
    interval,
    layouts_needed,
    mean_of,
    paired_test,
    parts,
    sign_flip,
    spread,
)

SEEDS = range(4)
UNBALANCED = np.repeat(np.arange(40), [1, 2, 3, 4] * 10)


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
    reach = stats.t.ppf(0.975, n - 1) * error
    mean = reduce(samples, name).mean
    found = interval(by_layout(parts(samples, name), ids))
    assert found == pytest.approx((mean - reach, mean + reach), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 24])
def test_t_of_a_mean_is_the_textbooks(n):
    values = np.random.default_rng(n).random(n)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert interval(mean_of(values)) == pytest.approx(tuple(expected))


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


def differences_of(seed, n):
    """Differences with ties, and with zeros."""
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(0.1, 0.2, n), 1 if seed % 2 else 9)


def scipys(differences, **options):
    found = stats.permutation_test(
        (differences,),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        vectorized=True,
        **options,
    )
    return found.pvalue


@pytest.mark.parametrize("n", [2, 5, 12])
@pytest.mark.parametrize("seed", range(4))
def test_sign_flips_are_scipys_where_all_are_enumerated(seed, n):
    differences = differences_of(seed, n)
    assert sign_flip(differences) == pytest.approx(scipys(differences, n_resamples=np.inf))


@pytest.mark.parametrize("n", [17, 65])
@pytest.mark.parametrize("seed", range(4))
def test_random_flips_agree_with_scipys(seed, n):
    differences = differences_of(seed, n) - 0.04
    expected = scipys(differences, n_resamples=FLIPS, rng=seed, batch=9999)
    found = sign_flip(differences)
    assert 1 / (1 + FLIPS) < found < 1
    assert found == pytest.approx(
        expected, abs=5 * math.sqrt(2 * expected * (1 - expected) / FLIPS)
    )
    assert sign_flip(differences) == found


def test_intervals_contain_the_truth_and_would_not_without_layouts():
    (case,) = (case for case in cases() if case.name == "as `si`, 4 seeds")
    found = coverage(case, 64, 400)
    assert 0.91 < found[BY_LAYOUT].held < 0.98  # 1 in 10,000 is outside, where the truth is 0.95
    assert found[IGNORED].held < 0.85


def test_the_smallest_p_is_never_zero():
    assert sign_flip(np.full(EXACT, 0.1)) == 2 / 2**EXACT
    assert sign_flip(np.full(60, 0.1)) == 1 / 100_000


def test_rows_by_hand():
    a = np.array([0.5, 0.7, 0.4, np.nan, 0.9, 0.2, 0.3])
    layouts_a = ["x", "x", "y", "y", "only a", "z", "w"]
    b = np.array([0.2, 0.3, 0.4, 0.1, np.nan, 0.8])
    layouts_b = ["w", "z", "y", "x", "nothing", "only b"]
    # differences: w 0.3 - 0.2, x 0.6 - 0.1, y 0.4 - 0.4, z 0.2 - 0.3
    differences = np.array([0.1, 0.5, 0, -0.1])
    found = paired_test(a, b, layouts_a, layouts_b)
    assert found.n == 4
    assert found.difference == pytest.approx(0.125)
    # 8 flips of 0.1, 0.5, 0.1: sums of 0.7, 0.5, 0.5, 0.3 and their negatives; 0.5 is observed
    assert found.p == 6 / 8
    assert found.won == (2 + 0.5) / 4
    assert found.effect == pytest.approx(0.125 / differences.std(ddof=1))
    ends = stats.ttest_1samp(differences, 0).confidence_interval()
    assert found[1:3] == pytest.approx(tuple(ends))


def test_rows_swapped_are_mirrored_and_their_order_does_not_matter():
    rng = np.random.default_rng(1)
    a, b, ids = rng.random(90), rng.random(90), np.repeat([f"{i}" for i in range(30)], 3)
    one, other = paired_test(a, b, ids, ids), paired_test(b, a, ids, ids)
    assert other.p == one.p
    expected = (-one.difference, -one.high, -one.low, one.p, 30, -one.effect, 1 - one.won)
    assert other == pytest.approx(expected)
    order = rng.permutation(90)
    assert paired_test(a[order], b, ids[order], ids) == pytest.approx(one)


def test_rows_that_are_alike_or_have_no_layout_in_common():
    ids = ["p", "q", "r"] * 3
    a = np.array([0.1, 0.2, 0.4] * 3) * np.repeat([1, 2, 3], 3)
    backwards = a.reshape(3, 3)[::-1].ravel()
    assert sum(a[::3]) != sum(backwards[::3]), "layout p, its seeds in another order"
    same = paired_test(a, backwards, ids, ids)
    assert same[:5] == (0, 0, 0, 1, 3)
    assert np.isnan(same.effect)
    assert same.won == 0.5
    shifted = paired_test(np.full(3, 0.4), np.full(3, 0.1), ids[:3], ids[:3])
    assert shifted[:3] == pytest.approx((0.3, 0.3, 0.3))
    assert (shifted.p, shifted.won) == (2 / 8, 1)
    assert np.isnan(shifted.effect)
    single = paired_test(np.array([0.4]), np.array([0.1]), ["a"], ["a"])
    assert single.difference == pytest.approx(0.3)
    assert (single.p, single.n, single.won) == (1, 1, 1)
    assert np.isnan([single.low, single.high, single.effect]).all()
    none = paired_test(np.array([0.4]), np.array([0.1]), ["a"], ["b"])
    assert none.n == 0
    assert np.isnan(np.delete(none, 4)).all()


@pytest.mark.parametrize("seed", range(4))
def test_holm_is_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p_values = np.round(rng.random(rng.integers(1, 30)) ** 3, 2)  # ties
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected)
    gaps = np.insert(p_values, 1, [np.nan, np.nan])
    assert holm(gaps) == pytest.approx(np.insert(expected, 1, [np.nan, np.nan]), nan_ok=True)


def simulated(rng, layouts, over_layouts, over_seeds):
    effects = rng.normal(0, over_layouts, layouts.max() + 1)
    return 0.5 + effects[layouts] + rng.normal(0, over_seeds, len(layouts))


def test_spread_by_hand():
    """Groups (1, 3) and (4, 5, 9): mean squares 16/3 and 13 1/3 - 2/15, k0 = 5 - 13/5 = 12/5."""
    values, ids = np.array([1.0, 4, 3, 5, 9]), ["a", "b", "a", "b", "b"]
    within = (2 + 14) / 3
    between = 2 * (2 - 4.4) ** 2 + 3 * (6 - 4.4) ** 2
    over = (between - within) / (12 / 5)
    found = spread(values, ids)
    assert found.seeds == pytest.approx(math.sqrt(within))
    assert found.layouts == pytest.approx(math.sqrt(over))
    assert found.mean == pytest.approx(math.sqrt(over * (4 + 9) / 25 + within / 5))
    assert spread(np.append(values, np.nan), [*ids, "c"]) == found
    assert spread(-3 * values, ids) == pytest.approx([3 * each for each in found])


@pytest.mark.parametrize("seed", range(4))
def test_spread_has_the_mean_squares_of_scipys_analysis_of_variance(seed):
    values = simulated(np.random.default_rng(seed), UNBALANCED, 0.3, 0.1)
    found = spread(values, [f"{i}" for i in UNBALANCED])
    groups = [values[i == UNBALANCED] for i in range(40)]
    ratio = stats.f_oneway(*groups).statistic
    size = (100 - sum(len(g) ** 2 for g in groups) / 100) / 39
    assert 1 + size * (found.layouts / found.seeds) ** 2 == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ([0.1, 0.2, 0.3], "abc"),
        ([0.1, np.nan, 0.3, 0.5, np.nan], "aabcc"),
        ([0.1, 0.2, 0.3], "aaa"),
        ([0.1], "a"),
        ([], ""),
    ],
)
def test_one_sample_per_layout_or_one_layout_has_no_spread(values, ids):
    assert np.isnan(spread(np.array(values, float), list(ids))).all()


@pytest.mark.parametrize("effect", [0.05, 0.2, 0.5, 1, 2])
def test_layouts_needed_are_the_fewest_by_statsmodels(effect):
    n = layouts_needed(-0.1 * effect, 0.1)
    theirs = TTestPower()
    assert theirs.power(effect, n, 0.05) >= 0.8
    assert n == 2 or theirs.power(effect, n - 1, 0.05) < 0.8


def test_layouts_needed_at_the_edges():
    assert layouts_needed(0, 0.1) is None
    assert layouts_needed(math.nan, 0.1) is None
    assert layouts_needed(0.1, math.nan) is None
    assert layouts_needed(0.1, 0) == 2
    assert layouts_needed(100, 0.1) == 2
    normal = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) ** 2
    assert layouts_needed(1e-5, 0.1) == pytest.approx(normal * 1e8, rel=1e-3)
