"""The numbers of the report under each judge: the table, and IoU by class, size and object number.

Each part of a breakdown is a mean over some of the values of a reduction of `tcig.eval.iou`. The
parts of a row, weighted by their n, give the mean in the table.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tcig.data.layout import Layout
from tcig.data.voc import NUM_LABELS
from tcig.eval.comparison import GUIDES
from tcig.eval.iou import REDUCTIONS, class_iou, image_iou
from tcig.eval.results import CEILING, HEADLINE, Drawn, Estimate, Ignore, Result, ResultRow
from tcig.eval.rows import Row, estimate
from tcig.eval.table import INDEPENDENT, LEAKAGE, SHARE, cells, metrics_of, remarks

UNIT_METRICS = (*REDUCTIONS, "boundary_iou", "recall_iou", "recall_iou_dense")
"""Metrics with values in [0, 1]: the report cuts their intervals there."""
SIZES = (0.05, 0.1, 0.2, 0.4)
"""Inner edges of the size bins, as shares of the image (our choice). The papers' filter keeps
objects of 5% and more of the photograph; the centre square may hold more or less of them."""
SIZE_NAMES = ("<5", "5–10", "10–20", "20–40", "40+")
"""Bins of size in percent of the image."""


def by_class(row: Row) -> list[Estimate]:
    """`iou_region` of each class 0 to 20; the background has no values."""
    values = class_iou(row.samples)
    return [_part(values[:, [index]], row) for index in range(NUM_LABELS)]


def by_size(row: Row) -> list[Estimate]:
    """`iou_region` in each bin of `SIZE_NAMES`.

    A semantic judge does not separate objects of one class, so a value belongs to all objects of a
    class in an image. Its size is their share of the pixels in the true masks.
    """
    values = class_iou(row.samples)
    bins = np.digitize(row.samples.confusion.sum(2) / row.score.score_size**2, SIZES)
    numbers = range(len(SIZE_NAMES))
    return [_part(np.where(bins == number, values, np.nan), row) for number in numbers]


def by_objects(row: Row, objects: Mapping[str, int]) -> list[Estimate]:
    """`iou_image` of the layouts with each number of `objects`, a number for each layout id."""
    values = image_iou(row.samples)[:, None]
    counts = np.array([objects[layout] for layout in row.layouts])[:, None]
    numbers = sorted(set(objects.values()))
    return [_part(np.where(counts == number, values, np.nan), row) for number in numbers]


def _part(values: np.ndarray, row: Row) -> Estimate:
    """The estimate of the values, (N, M), that are not NaN."""
    return _cut(estimate(values, row.layouts))


def _cut(each: Estimate) -> Estimate:
    """The estimate of a metric with values in [0, 1], its interval cut there."""
    if each.low is None:
        return each
    return each.model_copy(update={"low": max(0.0, each.low), "high": min(1.0, each.high)})


def cut_intervals(result: Result) -> Result:
    """The result with the intervals of `UNIT_METRICS` cut at 0 and 1."""
    rows = []
    for row in result.rows:
        figures = {name: _cut(e) if name in UNIT_METRICS else e for name, e in row.figures.items()}
        rows.append(row.model_copy(update={"figures": figures}))
    return result.model_copy(update={"rows": rows})


def describe(each: Estimate) -> str:
    """The estimate in a few words."""
    if each.mean is None:
        return "no value"
    return f"{each.mean:.2f} {each.interval_text(2)}".rstrip() + f", n {each.n}"


class Line(NamedTuple):
    """A row under one judge."""

    row: Row
    result: ResultRow
    ignore: Ignore
    """Treatment of dropped objects in the report's other rows."""
    cells: dict[str, str]
    """The row's texts in the table by column."""
    by_class: list[Estimate]
    by_size: list[Estimate]
    by_objects: list[Estimate]

    @property
    def name(self) -> str:
        """The row's label; the ceiling's second row says how it treats dropped objects."""
        if self.row.ignore == self.ignore:
            return self.result.label
        treatment = "counted" if self.row.ignore == "none" else "ignored"
        return f"{self.result.label}, dropped objects {treatment}"

    @property
    def tags(self) -> list[str]:
        """Remarks shown beside the name."""
        tags = remarks(self.result)
        return tags + (["ceiling"] if self.result.row == CEILING else [])

    @property
    def headline(self) -> Estimate:
        """The estimate of `iou_image`."""
        return self.result.figures[HEADLINE]


class Judge(NamedTuple):
    """A judge and the rows that it scored."""

    name: str
    identity: str
    score_size: int
    lines: list[Line]

    def rows_by_independence(self) -> dict[str, list[str]]:
        """Names of the rows of which the judge is the `guide`, `independent`, or `unknown`."""
        names: dict[str, list[str]] = {"guide": [], "independent": [], "unknown": []}
        for line in self.lines:
            if line.row.ignore == line.ignore:
                names[line.row.independence].append(line.name)
        return names

    @property
    def summary(self) -> str:
        """The judge's independence in a word or two."""
        rows = self.rows_by_independence()
        if self.name in GUIDES:
            return "guides TCIG"
        return "guide" if rows["guide"] else "unknown" if rows["unknown"] else "independent"

    @property
    def columns(self) -> list[str]:
        """The columns of the table in which a row has a value."""
        names = self.lines[0].cells
        return [n for n in names if any(line.cells[n] not in ("", "-") for line in self.lines)]

    @property
    def ceiling(self) -> Estimate | None:
        """The photographs' estimate, with dropped objects treated as in the other rows."""
        rows = (line for line in self.lines if line.result.row == CEILING)
        return next((line.headline for line in rows if line.row.ignore == line.ignore), None)


def make_judges(
    rows: Sequence[Row], result: Result, layouts: Sequence[Layout], ignore: Ignore
) -> list[Judge]:
    """The judges of the rows, in the rows' order.

    Args:
        rows: rows of `tcig.eval.rows.read_rows` under the same `ignore`.
        result: their result, of `cut_intervals`.
        layouts: the manifest's.
        ignore: treatment of dropped objects in all rows except one of the ceiling's two.
    """
    objects = {layout.id: len(layout.regions) for layout in layouts}
    names = [*REDUCTIONS, *metrics_of(result)]
    judges: dict[str, Judge] = {}
    for row, own, texts in zip(rows, result.rows, cells(result, names), strict=False):
        cells_of_row = {name: texts[name] for name in (INDEPENDENT, "n", *names, SHARE, LEAKAGE)}
        parts = by_class(row), by_size(row), by_objects(row, objects)
        judge = Judge(row.judge, own.judged.identity, own.judged.score_size, [])
        line = Line(row, own, ignore, cells_of_row | _drawn_cells(own.drawn), *parts)
        judges.setdefault(row.judge, judge).lines.append(line)
    return list(judges.values())


def other_headlines(judges: Sequence[Judge], line: Line) -> dict[str, Estimate]:
    """Estimates of `iou_image` for the same images by other judges' names."""
    key = line.row.folder, line.row.ignore
    return {
        judge.name: other.headline
        for judge in judges
        for other in judge.lines
        if (other.row.folder, other.row.ignore) == key
    }


def _drawn_cells(drawn: Drawn | None) -> dict[str, str]:
    """Mean time for an image, and peak memory of the GPU, or else of the process."""
    cells = {"time": "", "memory": ""}
    if drawn and drawn.seconds is not None:
        cells["time"] = f"{drawn.seconds:.{2 if drawn.seconds < 10 else 1}f} s"
    if drawn and drawn.peak_device_mib is not None:
        cells["memory"] = f"{drawn.peak_device_mib / 1024:.1f} GiB GPU"
    elif drawn and drawn.peak_mib is not None:
        cells["memory"] = f"{drawn.peak_mib / 1024:.1f} GiB"
    return cells
