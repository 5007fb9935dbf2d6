"""Rows compared: those of one result, and those of two results, lined up or refused."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcig.data.files import InputError
from tcig.eval.records import Score
from tcig.eval.results import (
    CEILING,
    DIGITS,
    HEADLINE,
    VALUED,
    Comparison,
    Judged,
    Result,
    ResultRow,
)
from tcig.eval.statistics import Paired, holm, layout_means, layouts_needed, paired_test, spread

ALPHA = 0.05
"""Level of significance, for all tests of a judge together."""
GUIDES = ("guide", "deeplabv3_resnet101")
"""Judges that guide TCIG: their rows stand below those of the independent ones."""


def check_alike(scores: Sequence[Judged | Score], fields: Sequence[str]) -> None:
    """Checks that the scores of each judge have the same conditions.

    Raises:
        InputError: they differ in one of the fields.
    """
    for judge in dict.fromkeys(each.judge for each in scores):
        for field in fields:
            values = dict.fromkeys(str(getattr(s, field)) for s in scores if s.judge == judge)
            if len(values) > 1:
                raise InputError(
                    f"the scores of the judge {judge} differ in {field} ({' and '.join(values)}): "
                    "score all rows alike."
                )


def _paired(first: ResultRow, second: ResultRow) -> Paired:
    return paired_test(first.value_of(), second.value_of(), first.layouts, second.layouts)


def compared(rows: Sequence[ResultRow], others: Sequence[ResultRow | None]) -> list[ResultRow]:
    """Returns the rows with their `comparison` to the others of their judge.

    The leakage is to `others`: the same images under an independent judge, where there is one. A
    row that nothing guided shows how far the judges differ anyway.
    """
    means = [float(np.nanmean(row.value_of())) for row in rows]
    ceilings = {
        (row.judge, row.judged.ignore): mean
        for row, mean in zip(rows, means, strict=True)
        if row.row == CEILING
    }
    found = []
    for row, other, mean, p in zip(rows, others, means, _p_of_best(rows, means), strict=True):
        ceiling = ceilings.get((row.judge, row.judged.ignore))
        leakage = _paired(row, other)[:3] if other and row.judge in GUIDES else None
        share = mean / ceiling if ceiling else None
        comparison = Comparison(ceiling_share=share, p_best=p, leakage=leakage)
        found.append(row.model_copy(update={"comparison": comparison}))
    return found


def _p_of_best(rows: Sequence[ResultRow], means: Sequence[float]) -> list[float | None]:
    """Returns p that a method is as good as the best one under its judge, adjusted (Holm).

    1 for the best one itself; None for rows that are not methods, and for a single method.
    """
    found: list[float | None] = [None] * len(rows)
    for judge in dict.fromkeys(row.judge for row in rows):
        methods = [n for n, row in enumerate(rows) if row.judge == judge and row.is_method]
        if len(methods) < 2:
            continue
        best = max(methods, key=lambda number: means[number])
        others = [number for number in methods if number != best]
        adjusted = holm([_paired(rows[best], rows[n]).p for n in others])
        for number, p in zip([best, *others], [1.0, *adjusted], strict=True):
            found[number] = p
    return found


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
        tests = [(a, b, _paired(a, b)) for a, b in combinations(ranked, 2)]
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


def render_pairs(rows: Sequence[ResultRow]) -> str:
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


class Line(NamedTuple):
    """A row that both results have: the second minus the first, on the samples of both."""

    row: str
    judge: str
    ignore: str
    first: float
    """Mean over the layouts of both, of each the mean of the samples that both have."""
    second: float
    paired: Paired
    p: float
    """Adjusted for the number of lines (Holm 1979)."""
    notes: tuple[str, ...]
    """What of its conditions differs, though it may be compared."""


def compare(first: Result, second: Result, name: str) -> list[Line]:
    """Compares every row that both results have, under each judge.

    Args:
        first: the one that is subtracted.
        second: the other.
        name: of `tcig.eval.results.VALUED`.

    Raises:
        InputError: another manifest; a judge of other weights, score size or image size; another
            treatment of dropped objects; no row in common, or two of its name in a result; a
            reduction whose values are not kept.
    """
    if name not in VALUED:
        raise InputError(
            f"{name} cannot be compared sample by sample: a result keeps the values of "
            f"{' and '.join(VALUED)}."
        )
    _check_comparable(first, second)
    ours, theirs = ({row.key: row for row in result.rows} for result in (first, second))
    common = [key for key in ours if key in theirs]
    if not common:
        one, other = (", ".join(dict.fromkeys(row.row for row in r.rows)) for r in (first, second))
        raise InputError(f"the results have no row in common: {one} in one, {other} in the other.")
    for result in (first, second):
        keys = [row.key for row in result.rows]
        if twice := next((key for key in common if keys.count(key) > 1), None):
            raise InputError(
                f"one of the results has two rows {twice[0]} under the judge {twice[1]}: leave "
                "one of their folders out, or score it again with --name."
            )
    lines = [_line(ours[key], theirs[key], name) for key in common]
    adjusted = holm([line.p for line in lines])
    return [line._replace(p=float(p)) for line, p in zip(lines, adjusted, strict=True)]


def alone(first: Result, second: Result) -> tuple[list[str], list[str]]:
    """Returns the names of each result's rows that the other has under no judge of both."""
    common = {row.key for row in first.rows} & {row.key for row in second.rows}
    lined_up = {name for name, _, _ in common}
    ours, theirs = (
        [name for name in dict.fromkeys(row.row for row in result.rows) if name not in lined_up]
        for result in (first, second)
    )
    return ours, theirs


def _check_comparable(first: Result, second: Result) -> None:
    """Checks that two results measured the same thing, see `compare`."""
    results = first, second
    if first.manifest != second.manifest:
        raise InputError(
            f"the results are of different layouts (manifests {first.manifest[:8]} and "
            f"{second.manifest[:8]}): figures on different images are not compared; score both on "
            "one manifest."
        )
    ours, theirs = ({row.judge: row.judged for row in result.rows} for result in results)
    common = [judge for judge in ours if judge in theirs]
    if not common:
        raise InputError(
            f"the results have no judge in common ({', '.join(ours)} and {', '.join(theirs)}): "
            "score one of them by the other's."
        )
    judged = [side[judge] for judge in common for side in (ours, theirs)]
    check_alike(judged, ("identity", "score_size", "image_size"))
    one, other = (
        "/".join(sorted({row.judged.ignore for row in result.rows if row.row != CEILING}))
        for result in results
    )
    if one and other and one != other:
        raise InputError(
            f"dropped objects count differently (--ignore {one} and {other}): make both results "
            "with the same --ignore."
        )


def _line(first: ResultRow, second: ResultRow, name: str) -> Line:
    """Compares a row of both results on the samples that both have; its p is not adjusted.

    A row with more seeds is the same row. NaN in both where either has no value.
    """
    ours, theirs = (
        dict(zip(row.samples, row.value_of(name).round(DIGITS), strict=True))
        for row in (first, second)
    )
    common = [pair for pair in first.samples if pair in theirs]
    a, b = (np.array([values[pair] for pair in common], float) for values in (ours, theirs))
    lacking = np.isnan(a) | np.isnan(b)
    a[lacking] = b[lacking] = np.nan
    layouts = [layout for layout, _ in common]
    test = paired_test(b, a, layouts, layouts)
    means = [layout_means(values, layouts)[1] for values in (a, b)]
    means = [float(each.mean()) if len(each) else float("nan") for each in means]
    return Line(*first.key, *means, test, test.p, tuple(_notes(first, second)))


def _notes(first: ResultRow, second: ResultRow) -> Iterator[str]:
    """Yields what else differs: samples, code, options, weights, packages, devices."""
    if first.samples != second.samples:
        yield f"{len(first.samples)} and {len(second.samples)} samples"
    if first.judged.resized != second.judged.resized:
        yield "one was resized"
    one, other = first.drawn, second.drawn
    if one is None or other is None:
        return
    yield from _differing("", one.spec.model_dump(), other.spec.model_dump())
    yield from _differing("versions ", one.packages, other.packages)
    if one.devices != other.devices:
        yield f"drawn on {', '.join(one.devices)} and on {', '.join(other.devices)}"


def _differing(where: str, one: dict, other: dict) -> Iterator[str]:
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differing(f"{where}{key} ", a, b)
        elif a != b:
            yield f"{where}{key}: {str(a)[:24]} and {str(b)[:24]}"
