"""What the page says, as one dictionary that JSON can hold: no NaN, no arrays.

The figures are those of `tcig table`, made and written by the same functions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tcig.data.layout import Header, Layout
from tcig.data.voc import COLOURS, LABELS
from tcig.eval.estimates import build_result
from tcig.eval.iou import REDUCTIONS
from tcig.eval.pairs import ALPHA
from tcig.eval.published import published
from tcig.eval.quality_table import metrics_of, quality_cell, quality_notes
from tcig.eval.report.breakdown import SHARE_NAMES, Part, by_class, by_objects, by_size
from tcig.eval.report.samples import Column, Sample, columns_of, gallery_of
from tcig.eval.results import Estimate, ResultRow
from tcig.eval.rows import CEILING, GUIDES, Ignore, Row
from tcig.eval.table import is_best, leakage, remarks, share, written


def report_data(
    rows: Sequence[Row],
    manifest: tuple[Header, Sequence[Layout]],
    ignore: Ignore,
    command: Sequence[str],
) -> tuple[dict[str, Any], list[Column], list[Sample]]:
    """All that the page shows but the pictures, and of what those are to be made.

    Args:
        rows: of `tcig.eval.rows.read_rows`, under the same `ignore`.
        manifest: the rows' own.
        ignore: how dropped objects are treated in all rows but one of the ceiling's two.
        command: that makes the report.
    """
    header, layouts = manifest
    columns = columns_of(rows, ignore)
    samples = gallery_of(columns, layouts)
    objects = {layout.id: len(layout.regions) for layout in layouts}
    numbers = sorted({objects[layout] for row in rows for layout in row.layouts})
    result = build_result(rows, command)
    measured = metrics_of(result)
    data = {
        "made": result.made.model_dump(),
        "manifest": rows[0].score.manifest,
        "header": header.model_dump(mode="json"),
        "ignore": ignore,
        "alpha": ALPHA,
        "judges": _judges(rows),
        "labels": list(LABELS),
        "colours": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in COLOURS],
        "sizes": list(SHARE_NAMES),
        "objects": numbers,
        "same_samples": len({tuple(sorted(row.samples)) for row in result.rows}) == 1,
        "columns": _columns(columns, rows, result.rows),
        "quality": dict(zip(measured, quality_notes(result, measured), strict=False)),
        "rows": [
            _row(record, row, measured) | _breakdown(row, objects, numbers)
            for record, row in zip(result.rows, rows, strict=True)
        ],
        "published": [figure._asdict() for figure in published()],
        "samples": [_sample(sample) for sample in samples],
    }
    places = {column.folder: place for place, column in enumerate(columns)}
    for row, record in zip(rows, data["rows"], strict=True):
        record["column"] = places[row.folder]
    return data, columns, samples


def _judges(rows: Sequence[Row]) -> list[dict]:
    judges = {row.score.judge: row.score for row in rows}
    return [
        {
            "name": name,
            "identity": score.identity,
            "guide": name in GUIDES,
            "guided": [r.name for r in rows if r.score.judge == name and r.guided],
            "unknown": [
                r.name for r in rows if r.score.judge == name and r.independence == "unknown"
            ],
            "score_size": score.score_size,
        }
        for name, score in judges.items()
    ]


def _columns(
    columns: Sequence[Column], rows: Sequence[Row], results: Sequence[ResultRow]
) -> list[dict]:
    """Names and how the images came to be."""
    found = []
    by_folder = {row.folder: result for row, result in zip(rows, results, strict=True)}
    for column in columns:
        row = next(iter(column.rows.values()))
        drawn = by_folder[column.folder].drawn
        found.append(
            {
                "name": column.name,
                "folder": column.folder.name,
                "method": row.is_method,
                "drawn": drawn.model_dump() if drawn else None,
            }
        )
    return found


def _row(record: ResultRow, row: Row, measured: Sequence[str]) -> dict:
    """A line of the table, with what of quality was `measured`."""
    return {
        "name": row.name,
        "judge": row.score.judge,
        "ignore": row.ignore,
        "remarks": remarks(record),
        "ceiling": row.name == CEILING,
        "method": row.is_method,
        "best": is_best(record),
        "n": len(record.samples),
        "failed": record.failed,
        "figures": {name: _figure(record, name) for name in REDUCTIONS}
        | {name: _quality(record, name) for name in measured},
        "share": {"value": record.comparison.ceiling_share, "text": share(record)},
        "leakage": {"value": (record.comparison.leakage or (None,))[0], "text": leakage(record)},
    }


def _figure(record: ResultRow, name: str) -> dict:
    text, ends = written(record, name)
    return _estimate(record.figures[name]) | {"text": text, "ends": ends}


def _estimate(estimate: Estimate) -> dict:
    return {name: getattr(estimate, name) for name in ("mean", "low", "high", "n")}


def _quality(record: ResultRow, name: str) -> dict:
    estimate = record.figures.get(name)
    if estimate is None or estimate.mean is None:
        return {"mean": None, "low": None, "high": None, "n": 0, "text": "", "ends": ""}
    text, bracket, ends = quality_cell(record, name).partition(" [")
    return _estimate(estimate) | {"text": text, "ends": bracket.strip() + ends}


def _breakdown(row: Row, objects: dict[str, int], numbers: Sequence[int]) -> dict:
    return {
        "by_class": [_part(part) for part in by_class(row)],
        "by_size": [_part(part) for part in by_size(row)],
        "by_objects": [_part(part) for part in by_objects(row, objects, numbers)],
    }


def _part(part: Part) -> dict | None:
    if not part.n:
        return None
    return {name: _number(value) for name, value in part._asdict().items()}


def _number(value: float) -> float | None:
    """JSON has no NaN; whole numbers stay whole."""
    return None if np.isnan(value) else value


def _sample(sample: Sample) -> dict:
    return {
        "layout": sample.layout.id,
        "sample": sample.sample,
        "caption": sample.layout.caption,
        "classes": list(sample.layout.classes),
        "objects": len(sample.layout.regions),
        "cells": sample.cells,
    }
