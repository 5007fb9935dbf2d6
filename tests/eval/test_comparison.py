"""Paired tests against SciPy and by hand; Holm's correction against statsmodels."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tcig.eval import comparison
from tcig.eval.comparison import EXACT, FLIPS, holm, paired_test, sign_flip


def drawn(seed, n):
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


@pytest.mark.parametrize("n", range(2, 13))
@pytest.mark.parametrize("seed", range(4))
def test_sign_flips_are_scipys_where_all_are_enumerated(seed, n):
    differences = drawn(seed, n)
    assert sign_flip(differences) == pytest.approx(scipys(differences, n_resamples=np.inf))


@pytest.mark.parametrize("n", [17, 24, 65])
@pytest.mark.parametrize("seed", range(4))
def test_random_flips_agree_with_scipys(seed, n):
    differences = drawn(seed, n) - 0.04
    expected = scipys(differences, n_resamples=FLIPS, rng=seed, batch=9999)
    found = sign_flip(differences)
    assert 1 / (1 + FLIPS) < found < 1
    assert found == pytest.approx(
        expected, abs=5 * math.sqrt(2 * expected * (1 - expected) / FLIPS)
    )
    assert sign_flip(differences) == found
    assert sign_flip(differences, seed=1) != found


@pytest.mark.parametrize("pieces", [1 << 22, 999])
def test_random_flips_agree_with_all_flips(monkeypatch, pieces):
    monkeypatch.setattr(comparison, "EXACT", 0)
    monkeypatch.setattr(comparison, "AT_ONCE", pieces)
    for seed in range(4):
        differences = drawn(seed, 11)
        exact = scipys(differences, n_resamples=np.inf)
        error = math.sqrt(exact * (1 - exact) / FLIPS)
        assert sign_flip(differences) == pytest.approx(exact, abs=5 * error + 2 / FLIPS)


def test_the_smallest_p_is_never_zero():
    assert sign_flip(np.full(EXACT, 0.1)) == 2 / 2**EXACT
    assert sign_flip(np.full(60, 0.1)) == 1 / 100_000
    assert sign_flip(np.full(60, 0.1), flips=99) == 1 / 100


def test_layouts_that_do_not_differ_leave_the_test_exact():
    differences = np.concatenate([np.zeros(40), [0.1, 0.2, 0.3, -0.05]])
    assert sign_flip(differences) == sign_flip(differences[40:]) == 4 / 16


def test_under_the_null_hypothesis_p_is_below_alpha_that_often():
    rng = np.random.default_rng(0)
    found = np.array([sign_flip(rng.standard_t(3, 10)) for _ in range(4000)])
    for alpha in (0.01, 0.05, 0.3):
        expected = math.floor(alpha * 512) / 512  # p are multiples of 2 / 2^10
        assert np.mean(found <= alpha) == pytest.approx(
            expected, abs=4 * math.sqrt(expected / 4000)
        )


def test_rows_by_hand():
    a = np.array([0.5, 0.7, 0.4, np.nan, 0.9, 0.2, 0.3])
    layouts_a = ["x", "x", "y", "y", "only a", "z", "w"]
    b = np.array([0.2, 0.3, 0.4, 0.1, np.nan, 0.8])
    layouts_b = ["w", "z", "y", "x", "nothing", "only b"]
    # differences: w 0.3 - 0.2, x 0.6 - 0.1, y 0.4 - 0.4, z 0.2 - 0.3
    differences = np.array([0.1, 0.5, 0, -0.1])
    found = paired_test(a, b, layouts_a, layouts_b, level=0.9)
    assert found.n == 4
    assert found.difference == pytest.approx(0.125)
    # 8 flips of 0.1, 0.5, 0.1: sums of 0.7, 0.5, 0.5, 0.3 and their negatives; 0.5 is observed
    assert found.p == 6 / 8
    assert found.won == (2 + 0.5) / 4
    assert found.effect == pytest.approx(0.125 / differences.std(ddof=1))
    ends = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    assert found[1:3] == pytest.approx(tuple(ends))


@pytest.mark.parametrize("n", [9, 40])
def test_rows_of_one_seed_are_scipys_paired_test(n):
    rng = np.random.default_rng(n)
    a, b = rng.random((2, n))
    ids = [f"{i}" for i in range(n)]
    found = paired_test(a, b, ids, ids)
    theirs = stats.ttest_rel(a, b)
    assert found[1:3] == pytest.approx(tuple(theirs.confidence_interval()))
    assert found.effect * math.sqrt(n) == pytest.approx(theirs.statistic)
    assert found.p == pytest.approx(theirs.pvalue, abs=0.03)


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


@pytest.mark.parametrize("seed", range(8))
def test_holm_is_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p_values = np.round(rng.random(rng.integers(1, 30)) ** 3, 2)  # ties
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected)
    gaps = np.insert(p_values, 1, [np.nan, np.nan])
    assert holm(gaps) == pytest.approx(np.insert(expected, 1, [np.nan, np.nan]), nan_ok=True)


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert len(holm([])) == 0
