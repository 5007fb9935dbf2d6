"""How often 95% confidence intervals hold the true figure, on simulated IoUs.

    python tests/benchmarks/interval_coverage.py [--repetitions 3000] [--out results/coverage.md]

Writes the table. Ends with an error where the coverage at 64 or more layouts is not 93% to 97%.
"""

import argparse
import time
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tcig.data.files import write_whole
from tcig.eval.statistics import Ratio, by_layout, interval, mean_of

LAYOUTS = (24, 64, 500)
BY_LAYOUT, IGNORED = "by layout", "layouts ignored"
"""The right way, and the wrong one: samples as units, though seeds share their layout."""
BOUNDS = (0.93, 0.97)


SHAPES = {
    "as `text-only`": (0.18, 0.10, 0.04),
    "as `paste`": (0.11, 0.17, 0.54),
    "as TCIG published": (0.30, 0.26, 0.20),
    "as `tcig`": (0.42, 0.18, 0.0),
    "as `si`": (0.55, 0.12, 0.0),
    "as `real`": (0.86, 0.09, 0.0),
}
"""Mean and standard deviation of a sample's IoU, and the share of layouts in which all seeds have
0, after results/mini/table.md (judge `miniature`); the published one's share of zeros is ours."""


class Case(NamedTuple):
    """`draw(rng, n)` gives a ratio of n layouts' samples, seeds of a layout one after another."""

    name: str
    draw: Callable[[np.random.Generator, int], Ratio]
    truth: float
    seeds: int = 1


def beta(rng: np.random.Generator, mean: np.ndarray, variance: float, size: tuple) -> np.ndarray:
    """Of these moments; means within 0 and 1."""
    mean = np.clip(mean, 1e-9, 1 - 1e-9)
    size_of_both = mean * (1 - mean) / variance - 1
    return rng.beta(mean * size_of_both, (1 - mean) * size_of_both, size)


def ious(
    rng: np.random.Generator, n: int, shape: tuple[float, float, float], seeds: int
) -> np.ndarray:
    """(n, seeds): half of the variance is over layouts, half over seeds.

    A layout is wholly 0 with the shape's probability, else has a mean from a beta distribution, and
    its seeds another about that mean.
    """
    overall, std, zero = shape
    found, half = 1 - zero, std**2 / 2
    mean = overall / found
    over_layouts = (half + overall**2) / found - mean**2
    # seeds' betas of one size, so that E[m(1 - m)] / (size + 1) is their variance on average
    size = (mean * (1 - mean) - over_layouts) / (half / found) - 1
    means = np.clip(beta(rng, np.array(mean), over_layouts, (n, 1)), 1e-9, 1 - 1e-9)
    values = rng.beta(means * size, (1 - means) * size, (n, seeds))
    return values * (rng.random((n, 1)) < found)


REGION_MEANS = np.array([0.55, 0.45, 0.35, 0.25])
"""Mean IoU of a class by the number of the layout's classes: layouts of one class are easier."""


def regions(rng: np.random.Generator, n: int) -> Ratio:
    """As `iou_region`: layouts of 1 to 4 classes, (n, 4) with NaN."""
    number = rng.integers(1, 5, (n, 1))
    means = beta(rng, REGION_MEANS[number - 1], 0.015, (n, 1))
    values = rng.beta(means * 8, (1 - means) * 8, (n, 4))
    return mean_of(np.where(np.arange(4) < number, values, np.nan))


FREQUENCY = np.linspace(0.04, 0.25, 20)
"""How often a layout has a class; 2.9 classes a layout."""
CLASS_MEANS = np.random.default_rng(5).uniform(0.25, 0.6, 20)
AREA, AREA_SPREAD = 0.15, 0.5
"""Union's median, and its logarithm's standard deviation."""
ELSEWHERE, ELSEWHERE_AREA = 0.05, 0.05
"""Share of the layouts without a class in which it is predicted, and the area."""


def classes(rng: np.random.Generator, n: int) -> Ratio:
    """As `iou_dataset`: intersections and unions of 20 classes."""
    present = rng.random((n, 20)) < FREQUENCY
    union = AREA * np.exp(AREA_SPREAD * rng.normal(size=(n, 20)))
    intersection = np.where(present, union * beta(rng, CLASS_MEANS, 0.04, (n, 20)), 0)
    elsewhere = (rng.random((n, 20)) < ELSEWHERE) * ELSEWHERE_AREA
    return Ratio(intersection, np.where(present, union, elsewhere), present)


def cases() -> list[Case]:
    """The shapes with one and four seeds, and the two reductions that are no mean of samples."""
    found = []
    for (name, shape), seeds in product(SHAPES.items(), (1, 4)):
        title = f"{name}, {seeds} seed{'s' * (seeds > 1)}"
        draw = lambda rng, n, a=(shape, seeds): mean_of(ious(rng, n, *a).ravel())  # noqa: E731
        found.append(Case(title, draw, shape[0], seeds))
    weights = np.arange(1, 5)
    truth = float(weights @ REGION_MEANS / weights.sum())
    area = AREA * np.exp(AREA_SPREAD**2 / 2) * FREQUENCY
    wrong = (1 - FREQUENCY) * ELSEWHERE * ELSEWHERE_AREA
    pooled = float(np.mean(area * CLASS_MEANS / (area + wrong)))
    found.append(Case("`iou_region`, 1 seed", regions, truth))
    return [*found, Case("`iou_dataset`, 1 seed", classes, pooled)]


class Coverage(NamedTuple):
    """Share of the intervals that hold the truth, and their mean width."""

    held: float
    width: float


def coverage(case: Case, n: int, repetitions: int) -> dict[str, Coverage]:
    """By layout and, where there are several seeds, with layouts ignored."""
    ends = {name: [] for name in ((BY_LAYOUT, IGNORED) if case.seeds > 1 else (BY_LAYOUT,))}
    ids = np.repeat(np.arange(n), case.seeds)
    for repetition in range(repetitions):
        rng = np.random.default_rng([zlib.crc32(case.name.encode()), n, repetition])
        samples = case.draw(rng, n)
        for name, each in ends.items():
            each.append(interval(samples if name == IGNORED else by_layout(samples, ids)))
    found = {}
    for name, each in ends.items():
        low, high = np.array(each).T
        held = (low <= case.truth) & (case.truth <= high)
        found[name] = Coverage(float(held.mean()), float((high - low).mean()))
    return found


PAGE = f"""# Coverage of 95% confidence intervals

This page shows how often 95% confidence intervals contain the true value, on simulated
layouts. Regenerate it with
`python tests/benchmarks/interval_coverage.py --repetitions {{number}}`.

- `{BY_LAYOUT}` is the interval of all tables.
- `{IGNORED}` treats the samples of one layout as independent, which is wrong.

The table has these columns and lines:

- Each cell has the per cent of the intervals that contain the true value.
- The number in brackets is the mean width of the intervals.
- Each cell has {{number}} repetitions. At 95, its standard error is {{error:.2f}}.
- The column `values` names the simulated distribution. The script defines it.
- With 4 seeds, half of the variance is between layouts, the other half between seeds.
- The last line for a number of layouts has the mean and the largest distance from 95.

| layouts | values | {BY_LAYOUT} | {IGNORED} |
|---|---|---|---|"""


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path("results/coverage.md"))
    arguments = parser.parse_args()
    started = time.process_time()
    number = arguments.repetitions
    error = 100 * np.sqrt(0.95 * 0.05 / number)
    lines = [PAGE.format(number=number, error=error)]
    outside = []
    for n in LAYOUTS:
        away = []
        for case in cases():
            found = coverage(case, n, number)
            cells = [f"{100 * each.held:.1f} ({each.width:.3f})" for each in found.values()]
            cells += [""] * (2 - len(cells))
            lines.append(f"| {n} | {case.name} | {' | '.join(cells)} |")
            held = found[BY_LAYOUT].held
            away.append(abs(100 * held - 95))
            if n > LAYOUTS[0] and not BOUNDS[0] <= held <= BOUNDS[1]:
                outside.append(f"{n} layouts, {case.name}: {100 * held:.1f}%")
        ends = f"{np.mean(away):.1f}, {np.max(away):.1f}"
        lines.append(f"| {n} | **away from 95: on average, at most** | {ends} | |")
    write_whole(arguments.out, "\n".join(lines) + "\n")
    print(f"{time.process_time() - started:.0f} s of the processor")
    if outside:
        raise SystemExit(f"outside 93% to 97%: {'; '.join(outside)}")


if __name__ == "__main__":
    main()
