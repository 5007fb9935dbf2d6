"""What the rows say about one another: the ceiling's share, leakage, who differs from whom."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from tcig.eval.comparison import holm, paired_test
from tcig.eval.iou import REDUCTIONS
from tcig.eval.rows import CEILING, GUIDES, Row
from tcig.eval.variance import layouts_needed, spread

HEADLINE = "iou_image"
"""The reduction that tests and shares are of: a value per sample."""
ALPHA = 0.05
"""Level of significance, for all tests of a judge together."""


def values(row: Row, name: str = HEADLINE) -> np.ndarray:
    """A value per sample, NaN where there is none."""
    return REDUCTIONS[name](row.samples)


def ceiling_shares(rows: Sequence[Row]) -> list[float]:
    """Each row's mean as a share of the photographs' under the same judge and treatment of dropped
    objects; NaN where they were not scored."""
    means = [float(np.nanmean(values(row))) for row in rows]
    ceilings = {
        (row.score.judge, row.ignore): mean
        for row, mean in zip(rows, means, strict=True)
        if row.name == CEILING
    }
    found = [ceilings.get((row.score.judge, row.ignore), np.nan) for row in rows]
    return [m / c if c else np.nan for m, c in zip(means, found, strict=True)]


def leakages(rows: Sequence[Row]) -> pd.DataFrame:
    """IoU under a guide of TCIG minus that of the same images under the first independent judge.

    Given for the rows of a judge that guides; NaN elsewhere, and where no independent judge saw the
    folder. A row that nothing guided shows how far the judges differ anyway.

    Returns:
        `leakage`, `leakage_low` and `leakage_high`, the 95% interval, a record for each row.
    """
    independent = {}
    for row in rows:
        known = row.score.kind == "built-in" or row.independence == "independent"
        if row.score.judge not in GUIDES and known and not row.guided:
            independent.setdefault((row.folder, row.ignore), row)
    found = []
    for row in rows:
        other = independent.get((row.folder, row.ignore))
        if row.score.judge not in GUIDES or other is None:
            found.append([np.nan] * 3)
        else:
            found.append(_paired(row, other)[:3])
    return pd.DataFrame(found, columns=["leakage", "leakage_low", "leakage_high"])


def against_best(rows: Sequence[Row]) -> list[float]:
    """p that a method is as good as the best one under its judge, adjusted (Holm); 1 for that one.

    NaN for rows that are no method, and for all where there is but one.
    """
    found = np.full(len(rows), np.nan)
    for judge in dict.fromkeys(row.score.judge for row in rows):
        places = [p for p, row in enumerate(rows) if row.score.judge == judge and row.is_method]
        if len(places) < 2:
            continue
        best = max(places, key=lambda place: np.nanmean(values(rows[place])))
        others = [place for place in places if place != best]
        found[others] = holm([_paired(rows[best], rows[place]).p for place in others])
        found[best] = 1.0
    return found.tolist()


def pairs(rows: Sequence[Row]) -> pd.DataFrame:
    """Every two methods under a judge, on the layouts that both have, p adjusted per judge.

    Returns:
        `judge`, `a`, `b`, `difference` (a minus b, a the better), `low`, `high`, `p`, `effect`
        (d_z), `won` (share of layouts), `n` (common layouts), `needed` (layouts for a power of 80%
        at a difference and spread such as these).
    """
    records = []
    for judge in dict.fromkeys(row.score.judge for row in rows):
        of_judge = [row for row in rows if row.score.judge == judge and row.is_method]
        ranked = sorted(of_judge, key=lambda row: -np.nanmean(values(row)))
        found = [(a, b, _paired(a, b)) for a, b in combinations(ranked, 2)]
        adjusted = holm([paired.p for _, _, paired in found])
        for (a, b, paired), p in zip(found, adjusted, strict=True):
            record = {"judge": judge, "a": a.label, "b": b.label} | paired._asdict() | {"p": p}
            sd = paired.difference / paired.effect if paired.effect else np.nan
            records.append(record | {"needed": layouts_needed(paired.difference, sd)})
    return pd.DataFrame(records)


def spreads(rows: Sequence[Row]) -> pd.DataFrame:
    """Where a row's ± comes from: `row`, `judge`, `ignore`, and the standard deviations of
    `tcig.eval.variance.Spread`, which needs several samples of a layout."""
    return pd.DataFrame(
        {"row": row.label, "judge": row.score.judge, "ignore": row.ignore}
        | spread(values(row), row.layouts)._asdict()
        for row in rows
    )


def render(rows: Sequence[Row]) -> str:
    """`pairs` and, where layouts have several samples, `spreads`, as markdown."""
    lines = [
        {
            "judge": each["judge"],
            "a - b": f"{each['a']} - {each['b']}",
            "difference": f"{each['difference']:+.3f} [{each['low']:+.3f}, {each['high']:+.3f}]",
            "p (Holm)": f"{each['p']:.2g}" + (" *" if each["p"] < ALPHA else ""),
            "d_z": f"{each['effect']:+.2f}",
            "a wins": f"{each['won']:.0%}",
            "n": each["n"],
            "layouts needed": "" if pd.isna(each["needed"]) else int(each["needed"]),
        }
        for each in pairs(rows).to_dict("records")
    ]
    if not lines:
        return "No two methods under one judge: nothing to compare.\n"
    parts = [f"{HEADLINE}, every two methods on the layouts of both:"]
    parts.append(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True))
    parts.append(
        "* significant at 5% after Holm's correction over a judge's pairs; d_z: the mean "
        "difference over its standard deviation; layouts needed: for a paired t test to find such "
        "a difference with a power of 80%."
    )
    found = spreads(rows).dropna()
    if len(found):
        parts.append("Where ± comes from (standard deviations, one-way random effects):")
        parts.append(found.to_markdown(index=False, floatfmt=".3f"))
    return "\n\n".join(parts) + "\n"


def _paired(first: Row, second: Row):
    return paired_test(values(first), values(second), first.layouts, second.layouts)
