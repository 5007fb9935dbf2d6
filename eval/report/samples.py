"""A record for every layout and sample: its caption, and what each folder made of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tcig.data.layout import Layout, hash_order
from tcig.data.runs import run_rows
from tcig.eval.iou import class_iou, foreground_iou, image_iou
from tcig.eval.results import rounded
from tcig.eval.rows import Ignore, Row

Pair = tuple[str, int]
"""(layout, sample)."""


class Column(NamedTuple):
    """A folder's images, and the row of each judge that saw them."""

    folder: Path
    rows: dict[str, Row]
    """By judge, dropped objects treated as the report does."""

    @property
    def name(self) -> str:
        """Of its row, told from others of its name."""
        return next(iter(self.rows.values())).label


class Sample(NamedTuple):
    """One line of the gallery."""

    layout: Layout
    sample: int
    cells: list[dict | None]
    """By column: `{"judged": {judge: ...}}`, `{"error": ...}`, or None where nothing was asked."""


def columns_of(rows: Sequence[Row], ignore: Ignore) -> list[Column]:
    """A column for each folder, in the rows' order."""
    found: dict[Path, dict[str, Row]] = {}
    for row in rows:
        if row.ignore == ignore:
            found.setdefault(row.folder, {})[row.score.judge] = row
    return [Column(folder, judged) for folder, judged in found.items()]


def gallery_of(columns: Sequence[Column], layouts: Sequence[Layout]) -> list[Sample]:
    """Every sample that any column has or failed at, in the manifest's order."""
    ordered = hash_order(layouts)
    by_column = [_failures(column, ordered) | _judged(column) for column in columns]
    pairs = {pair for cells in by_column for pair in cells}
    numbers = sorted({sample for _, sample in pairs})
    return [
        Sample(layout, sample, [cells.get((layout.id, sample)) for cells in by_column])
        for layout in ordered
        for sample in numbers
        if (layout.id, sample) in pairs
    ]


def _judged(column: Column) -> dict[Pair, dict]:
    """What each judge says of each image: `iou_image`, `iou_foreground`, and the IoU of the
    layout's classes in the order of `Layout.classes`, None where one is wholly covered."""
    cells: dict[Pair, dict] = {}
    for judge, row in column.rows.items():
        values = zip(
            row.score.samples,
            row.samples.drawn,
            image_iou(row.samples),
            foreground_iou(row.samples),
            class_iou(row.samples),
            strict=True,
        )
        for pair, drawn, image, foreground, classes in values:
            said = {"iou": rounded(image), "foreground": rounded(foreground)}
            said["classes"] = [rounded(value) for value in classes[drawn]]
            cells.setdefault(pair, {"judged": {}})["judged"][judge] = said
    return cells


def _failures(column: Column, ordered: Sequence[Layout]) -> dict[Pair, dict]:
    """Why the samples failed that the scores count as failed: those of the first layouts, as many
    as were asked for when the folder was scored."""
    errors = {(row["layout"], row["sample"]): row["error"] for row in run_rows(column.folder)}
    found = {}
    for row in column.rows.values():
        scored = set(row.score.samples)
        numbers = sorted({sample for _, sample in (*errors, *scored)})
        pairs = [(layout.id, sample) for layout in ordered for sample in numbers]
        failed = [pair for pair in pairs if errors.get(pair) and pair not in scored]
        found |= {pair: {"error": str(errors[pair])} for pair in failed[: row.score.failed]}
    return found
