"""Every two methods of a result against each other, and where a row's deviation comes from."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from tcig.eval.results import ResultRow
from tcig.eval.rows import HEADLINE
from tcig.eval.statistics import holm, layouts_needed, paired_test, spread

ALPHA = 0.05
"""Level of significance, for all tests of a judge together."""


def pairs(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """Compares every two methods under a judge, on the layouts that both have.

    Returns:
        `judge`, `a`, `b`, `difference` (a minus b, a the better), `low`, `high`, `p` (adjusted per
        judge), `effect` (d_z), `won` (share of layouts), `n` (common layouts), `needed` (layouts
        for a power of 80% at such a difference and deviation).
    """
    records = []
    for judge in dict.fromkeys(row.judge for row in rows):
        methods = [row for row in rows if row.judge == judge and row.is_method]
        ranked = sorted(methods, key=lambda row: -np.nanmean(row.value_of()))
        tests = [
            (a, b, paired_test(a.value_of(), b.value_of(), a.layouts, b.layouts))
            for a, b in combinations(ranked, 2)
        ]
        adjusted = holm([test.p for _, _, test in tests])
        for (a, b, test), p in zip(tests, adjusted, strict=True):
            record = {"judge": judge, "a": a.label, "b": b.label} | test._asdict() | {"p": p}
            sd = test.difference / test.effect if test.effect else np.nan
            records.append(record | {"needed": layouts_needed(test.difference, sd)})
    return pd.DataFrame(records)


def spreads(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """Returns where a row's ± comes from: `row`, `judge`, `ignore`, and `Spread`'s deviations.

    They need several samples of a layout.
    """
    return pd.DataFrame(
        {"row": row.label, "judge": row.judge, "ignore": row.judged.ignore}
        | spread(row.value_of(), row.layouts)._asdict()
        for row in rows
    )


def render(rows: Sequence[ResultRow]) -> str:
    """Returns `pairs` and, where layouts have several samples, `spreads`, as markdown."""
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
    paragraphs = [f"{HEADLINE}, every two methods on the layouts of both:"]
    paragraphs.append(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True))
    paragraphs.append(
        "* significant at 5% after Holm's correction over a judge's pairs; d_z: the mean "
        "difference over its standard deviation; layouts needed: for a paired t test to find such "
        "a difference with a power of 80%."
    )
    deviations = spreads(rows).dropna()
    if len(deviations):
        paragraphs.append("Where ± comes from (standard deviations, one-way random effects):")
        paragraphs.append(deviations.to_markdown(index=False, floatfmt=".3f"))
    return "\n\n".join(paragraphs) + "\n"
