"""Variance components and numbers of layouts against closed forms, statsmodels and simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.power import TTestPower

from tcig.eval.variance import layouts_needed, spread

UNBALANCED = np.repeat(np.arange(40), [1, 2, 3, 4] * 10)


def drawn(rng, layouts, over_layouts, over_seeds):
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
    values = drawn(np.random.default_rng(seed), UNBALANCED, 0.3, 0.1)
    found = spread(values, [f"{i}" for i in UNBALANCED])
    groups = [values[i == UNBALANCED] for i in range(40)]
    ratio = stats.f_oneway(*groups).statistic
    size = (100 - sum(len(g) ** 2 for g in groups) / 100) / 39
    assert 1 + size * (found.layouts / found.seeds) ** 2 == pytest.approx(ratio)


@pytest.mark.parametrize("seed", range(3))
def test_spread_of_balanced_groups_is_restricted_likelihood(seed):
    layouts = np.repeat(np.arange(15), 4)
    values = drawn(np.random.default_rng(seed), layouts, 0.2, 0.1)
    fitted = MixedLM(values, np.ones((60, 1)), groups=layouts).fit(reml=True)
    found = spread(values, layouts)
    assert found.seeds**2 == pytest.approx(fitted.scale, rel=1e-3)
    assert found.layouts**2 == pytest.approx(fitted.cov_re[0, 0], rel=1e-3)
    means = values.reshape(15, 4).mean(1)
    assert found.mean == pytest.approx(stats.sem(means))


def test_spread_finds_what_was_drawn():
    rng = np.random.default_rng(0)
    runs = [drawn(rng, UNBALANCED, 0.15, 0.2) for _ in range(1500)]
    found = np.array([spread(values, UNBALANCED) for values in runs]) ** 2
    error = found.std(0) / math.sqrt(1500)
    of_mean = np.var([values.mean() for values in runs])
    expected = [0.2**2, 0.15**2, of_mean]
    assert (np.abs(found.mean(0) - expected) < 4 * error + [0, 0, 4 * of_mean / 27]).all()
    assert (error[:2] < 0.02 * np.array(expected[:2])).all()


def test_a_negative_variance_is_clipped():
    """Layouts that do not differ: about half of the estimates would be negative."""
    rng = np.random.default_rng(1)
    found = np.array([spread(drawn(rng, UNBALANCED, 0, 0.2), UNBALANCED) for _ in range(400)])
    assert 0.4 < np.mean(found[:, 1] == 0) < 0.7
    assert found[:, 0].mean() == pytest.approx(0.2, abs=0.005)
    assert spread(np.array([1.0, 3, 3, 1]), list("aabb")).layouts == 0


def test_a_spread_of_equal_seeds_is_over_layouts_alone():
    found = spread(np.repeat([0.1, 0.4, 0.7], 2), np.repeat(["a", "b", "c"], 2))
    assert found == pytest.approx((0, 0.3, 0.3 / math.sqrt(3)))


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


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("effect", [0.05, 0.2, 0.5, 1, 2])
def test_layouts_needed_are_the_fewest_by_statsmodels(effect, power, level):
    n = layouts_needed(-0.1 * effect, 0.1, power, level)
    theirs = TTestPower()
    assert theirs.power(effect, n, 1 - level) >= power
    assert n == 2 or theirs.power(effect, n - 1, 1 - level) < power


def test_layouts_needed_find_the_difference_that_often():
    n = layouts_needed(0.05, 0.1)
    assert n == 34
    drawn = np.random.default_rng(0).normal(0.05, 0.1, (6000, n))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)
    assert found == pytest.approx(0.8, abs=0.03)


def test_layouts_needed_at_the_edges():
    assert layouts_needed(0, 0.1) is None
    assert layouts_needed(math.nan, 0.1) is None
    assert layouts_needed(0.1, math.nan) is None
    assert layouts_needed(0.1, 0) == 2
    assert layouts_needed(100, 0.1) == 2
    normal = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) ** 2
    assert layouts_needed(1e-5, 0.1) == pytest.approx(normal * 1e8, rel=1e-3)


@pytest.mark.parametrize(("power", "level"), [(0.05, 0.95), (1, 0.95), (0.8, 1), (0.8, 0), (80, 5)])
def test_powers_and_levels_without_a_number_are_refused(power, level):
    with pytest.raises(ValueError, match="no number of layouts"):
        layouts_needed(0.1, 0.1, power, level)
