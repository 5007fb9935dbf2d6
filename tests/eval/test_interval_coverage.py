"""Intervals hold the truth as often as they say, on simulated layouts."""

import numpy as np
import pytest
from benchmarks.interval_coverage import BY_LAYOUT, IGNORED, cases, coverage
from scipy import stats

from tcig.eval.statistics import by_layout, interval

CASES = {case.name: case for case in cases()}


@pytest.mark.parametrize("name", CASES)
def test_the_simulation_has_the_truth_that_it_claims(name):
    case = CASES[name]
    ratio = case.draw(np.random.default_rng(1), 40_000)
    low, high = interval(by_layout(ratio, np.repeat(np.arange(40_000), case.seeds)), 0.9999)
    assert low < case.truth < high < low + 0.03


def within(held, number, low, high):
    """Whether a coverage is likely (1 in 10,000 outside) where the true one is low to high."""
    ends = stats.binom.ppf(5e-5, number, low), stats.binom.isf(5e-5, number, high)
    return ends[0] <= held * number <= ends[1]


@pytest.mark.parametrize("name", [name for name in CASES if "4 seeds" in name])
def test_intervals_hold_the_truth_and_would_not_without_layouts(name):
    found = coverage(CASES[name], 64, 1000)
    assert within(found[BY_LAYOUT].held, 1000, 0.94, 0.96)
    assert not within(found[IGNORED].held, 1000, 0.90, 1)


@pytest.mark.parametrize("name", ["`iou_region`, 1 seed", "`iou_dataset`, 1 seed"])
def test_intervals_of_ratios_hold_the_truth(name):
    found = coverage(CASES[name], 64, 1000)
    assert within(found[BY_LAYOUT].held, 1000, 0.94, 0.97)
