"""Makes a result of scored folders: every estimate of a table or report is computed here, once."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tcig.data.files import InputError
from tcig.data.records import run_rows
from tcig.eval.iou import NAMES, reduce
from tcig.eval.provenance import provenance
from tcig.eval.quality_records import FolderQuality, MetricValues, read_quality, to_array
from tcig.eval.results import (
    VALUED,
    Comparison,
    Drawn,
    Estimate,
    Judged,
    Result,
    ResultRow,
    Scorers,
)
from tcig.eval.rows import CEILING, GUIDES, Ignore, Row, read_rows
from tcig.eval.statistics import by_layout, holm, interval, mean_of, paired_test, parts


def result_of(folders: Sequence[Path], ignore: Ignore, command: Sequence[str] = ()) -> Result:
    """Returns the result of scored folders; see `read_rows` for the arguments and errors.

    Args:
        folders: folders of scored images, or of such folders.
        ignore: see `read_rows`.
        command: that makes the result.
    """
    return build_result(read_rows(folders, ignore), command)


def build_result(rows: Sequence[Row], command: Sequence[str] = ()) -> Result:
    """Returns the result of rows, in their order."""
    folders = {row.folder: row for row in rows}  # each is read once for all of its judges
    drawn = {folder: drawn_of(row) for folder, row in folders.items()}
    quality = {folder: _read_quality(folder) for folder in folders}
    return Result(
        made=provenance(command),
        manifest=rows[0].score.manifest,
        rows=[
            _row(row, comparison, drawn[row.folder], *quality[row.folder])
            for row, comparison in zip(rows, compare_rows(rows), strict=True)
        ],
    )


def _read_quality(folder: Path) -> tuple[FolderQuality | None, str | None]:
    """Returns the quality of a folder, or why it cannot be used."""
    try:
        return read_quality(folder), None
    except InputError as error:
        return None, str(error)


def _row(
    row: Row,
    comparison: Comparison,
    drawn: Drawn | None,
    quality: FolderQuality | None,
    stale: str | None,
) -> ResultRow:
    score = row.score
    figures, scorers = {name: _estimate(row, name) for name in NAMES}, None
    if quality and not _is_current(row, quality):
        stale = (
            f"quality of {row.folder} is not of the images and scores that are there now: "
            f"run `tcig quality {row.folder} --layouts MANIFEST` again."
        )
    elif quality:
        figures |= _quality_estimates(row, quality)
        weights = row.run.spec.weights.values() if row.run else ()
        header = quality.quality
        scorers = Scorers(
            scorer=header.scorer_identity,
            features=header.features_identity,
            scored_by=header.scorer,
            seen_by=header.features,
            clip_guided=header.scorer_identity in weights,
        )
    return ResultRow(
        row=row.name,
        judged=Judged(
            judge=score.judge,
            identity=score.identity,
            ignore=row.ignore,
            image_size=score.image_size,
            score_size=score.score_size,
            resized=score.resized,
            guided=row.guided,
            independence=row.independence,
        ),
        drawn=drawn,
        failed=score.failed,
        figures=figures,
        samples=list(score.samples),
        values={name: [_number(value) for value in row.value_of(name)] for name in VALUED},
        suffix=row.suffix,
        scorers=scorers,
        stale=stale,
        comparison=comparison,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _estimate(row: Row, name: str) -> Estimate:
    mean, std, n = reduce(row.samples, name)
    low, high = map(_number, interval(by_layout(parts(row.samples, name), row.layouts)))
    return Estimate(mean=_number(mean), std=_number(std), n=n, low=low, high=high)


def _is_current(row: Row, found: FolderQuality) -> bool:
    """Returns whether quality was measured on the row's images and scores."""
    same = found.images == row.images and found.quality.manifest == row.score.manifest
    return same and row.metrics is not None


def _quality_estimates(row: Row, found: FolderQuality) -> dict[str, Estimate]:
    """Returns the estimates of quality, without a judge's where dropped objects are ignored."""
    metrics = dict(found.values)
    if row.ignore == "none":
        for name in dict.fromkeys(name for each in row.metrics for name in each):
            values = to_array(each.get(name) for each in row.metrics)
            metrics[name] = MetricValues(np.array(row.layouts), values)
    estimates = {}
    for name, (layouts, every) in metrics.items():
        values = every[~np.isnan(every)]
        mean, std = (float(values.mean()), float(values.std())) if len(values) else (None, None)
        low, high = map(_number, interval(by_layout(mean_of(every), layouts)))
        estimates[name] = Estimate(mean=mean, std=std, n=len(values), low=low, high=high)
    for name, each in found.quality.distances.items():
        estimates[name] = Estimate(mean=each.value, std=each.std, n=each.n, low=None, high=None)
    return estimates


def drawn_of(row: Row) -> Drawn | None:
    """Returns how a row's images were generated; None for a folder of images from elsewhere."""
    if row.run is None:
        return None
    records = [each for each in run_rows(row.folder) if not each["error"]]

    def values(name: str) -> list:
        return [each[name] for each in records if each.get(name) is not None]

    return Drawn(
        spec=row.run.spec,
        packages=records[-1].get("versions", {}) if records else {},
        devices=sorted(set(filter(None, values("device")))),
        seconds=round(float(np.mean(values("seconds"))), 4) if values("seconds") else None,
        peak_mib=max(values("peak_mib"), default=None),
        peak_device_mib=max(values("peak_device_mib"), default=None),
    )


def compare_rows(rows: Sequence[Row]) -> list[Comparison]:
    """Compares every row with the others of its judge and treatment of dropped objects."""
    means = [float(np.nanmean(row.value_of())) for row in rows]
    conditions = [(row.judge, row.ignore) for row in rows]
    ceilings = {
        condition: mean
        for condition, row, mean in zip(conditions, rows, means, strict=True)
        if row.name == CEILING
    }
    shares = [
        mean / ceilings[condition] if ceilings.get(condition) else None
        for condition, mean in zip(conditions, means, strict=True)
    ]
    best = p_of_best(rows, means)
    return [
        Comparison(ceiling_share=share, p_best=p, leakage=leakage)
        for share, p, leakage in zip(shares, best, leakages(rows), strict=True)
    ]


def p_of_best(rows: Sequence[Row], means: Sequence[float]) -> list[float | None]:
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
        adjusted = holm([paired_test(*_pair(rows[best], rows[n])).p for n in others])
        for number, p in zip([best, *others], [1.0, *adjusted], strict=True):
            found[number] = _number(p)
    return found


def leakages(rows: Sequence[Row]) -> list[tuple[float, float, float] | None]:
    """Returns IoU under a guide of TCIG minus that of the same images under another judge.

    The other judge is the first independent one of the folder. None for rows of judges that do not
    guide, and without an independent judge. A row that nothing guided shows how far the judges
    differ anyway.
    """
    independent = {}
    for row in rows:
        known = row.score.kind == "built-in" or row.independence == "independent"
        if row.judge not in GUIDES and known and not row.guided:
            independent.setdefault((row.folder, row.ignore), row)
    others = [independent.get((row.folder, row.ignore)) for row in rows]
    return [
        tuple(paired_test(*_pair(row, other))[:3]) if other and row.judge in GUIDES else None
        for row, other in zip(rows, others, strict=True)
    ]


def _pair(first: Row, second: Row) -> tuple:
    return first.value_of(), second.value_of(), first.layouts, second.layouts
