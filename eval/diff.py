"""Two results lined up, or refused with the reason."""

from collections.abc import Container, Iterator
from typing import NamedTuple

import numpy as np

from tcig.data.files import InputError
from tcig.eval.results import DIGITS, VALUED, Result, ResultRow
from tcig.eval.rows import CEILING
from tcig.eval.statistics import Paired, holm, layout_means, paired_test


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
    check_comparable(first, second)
    common = _keys(first) & _keys(second)
    if not common:
        one, other = (", ".join(dict.fromkeys(row.row for row in r.rows)) for r in (first, second))
        raise InputError(f"the results have no row in common: {one} in one, {other} in the other.")
    one, other = _by_key(first, common), _by_key(second, common)
    pairs = [(row, other[key]) for key, row in one.items()]
    matched = [_matched(a, b, name) for a, b in pairs]
    tests = [paired_test(b, a, layouts, layouts) for a, b, layouts in matched]
    adjusted = holm([test.p for test in tests])
    return [
        Line(
            *a.key,
            _mean(values, layouts),
            _mean(others, layouts),
            test,
            float(p),
            tuple(_notes(a, b)),
        )
        for (a, b), (values, others, layouts), test, p in zip(
            pairs, matched, tests, adjusted, strict=True
        )
    ]


def alone(first: Result, second: Result) -> tuple[list[str], list[str]]:
    """Returns the names of each result's rows that the other has under no judge of both."""
    common = _keys(first) & _keys(second)
    lined_up = {name for name, _, _ in common}
    ours, theirs = (
        [name for name in dict.fromkeys(row.row for row in result.rows) if name not in lined_up]
        for result in (first, second)
    )
    return ours, theirs


def _keys(result: Result) -> set[tuple[str, str, str]]:
    return {row.key for row in result.rows}


def _by_key(result: Result, common: Container) -> dict[tuple[str, str, str], ResultRow]:
    """Returns the rows that both results have; others may share a key, as edited methods do."""
    rows = {}
    for row in result.rows:
        if row.key in common:
            if row.key in rows:
                raise InputError(
                    f"one of the results has two rows {row.row} under the judge {row.judge}: "
                    "leave one of their folders out, or score it again with --name."
                )
            rows[row.key] = row
    return rows


def check_comparable(first: Result, second: Result) -> None:
    """Checks that two results measured the same thing.

    Raises:
        InputError: see `compare`.
    """
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
    for judge in common:
        for field in ("identity", "score_size", "image_size"):
            one, other = (str(getattr(judged[judge], field)) for judged in (ours, theirs))
            if one != other:
                raise InputError(
                    f"the judge {judge} differs in {field} ({one} and {other}): score both alike."
                )
    one, other = (
        "/".join(sorted({row.judged.ignore for row in result.rows if row.row != CEILING}))
        for result in results
    )
    if one and other and one != other:
        raise InputError(
            f"dropped objects count differently (--ignore {one} and {other}): make both results "
            "with the same --ignore."
        )


def _matched(
    first: ResultRow, second: ResultRow, name: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns both rows' values and layouts, of the samples that both have.

    A row with more seeds is the same row. NaN in both where either has no value.
    """
    places = {pair: place for place, pair in enumerate(second.samples)}
    kept = [place for place, pair in enumerate(first.samples) if pair in places]
    others = [places[first.samples[place]] for place in kept]
    a, b = (row.value_of(name).round(DIGITS) for row in (first, second))
    a, b = a[kept], b[others]
    lacking = np.isnan(a) | np.isnan(b)
    a[lacking] = b[lacking] = np.nan
    return a, b, [first.layouts[place] for place in kept]


def _mean(values: np.ndarray, layouts: list[str]) -> float:
    _, means = layout_means(values, layouts)
    return float(means.mean()) if len(means) else float("nan")


def _notes(first: ResultRow, second: ResultRow) -> Iterator[str]:
    """Yields what else differs: samples, code, options, weights, packages, devices."""
    if first.samples != second.samples:
        yield f"{len(first.samples)} and {len(second.samples)} samples"
    if first.judged.resized != second.judged.resized:
        yield "one was resized"
    one, other = first.drawn, second.drawn
    if one is None or other is None:
        return
    for name in ("version", "code", "profile", "size", "batch", "device", "arithmetic", "seeds"):
        a, b = getattr(one.spec, name), getattr(other.spec, name)
        if a != b:
            yield f"{name} {a} and {b}"
    yield from _differing("options", one.spec.options, other.spec.options)
    yield from _differing("weights", one.spec.weights, other.spec.weights)
    yield from _differing("versions", one.packages, other.packages)
    if one.devices != other.devices:
        yield f"drawn on {', '.join(one.devices)} and on {', '.join(other.devices)}"


def _differing(what: str, one: dict, other: dict) -> Iterator[str]:
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differing(f"{what} {key}", a, b)
        elif a != b:
            yield f"{what} {key}: {str(a)[:24]} and {str(b)[:24]}"
