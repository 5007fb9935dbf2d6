"""The numbers of the report under each judge: the table, and IoU by class, size and object number.

Each part of a breakdown is a mean over some of the values of a reduction of `tcig.eval.iou`. The
parts of a row, weighted by their n, give the mean in the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tcig.data.layout import Layout
from tcig.data.voc import NUM_LABELS
from tcig.eval.iou import REDUCTIONS, class_iou, image_iou
from tcig.eval.quality_table import quality_cell
from tcig.eval.results import Drawn, Estimate, Result, ResultRow
from tcig.eval.rows import CEILING, GUIDES, HEADLINE, Ignore, Row
from tcig.eval.statistics import by_layout, interval, mean_of
from tcig.eval.table import is_best, leakage, remarks, share, written

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
    return [_estimate(values[:, [index]], row) for index in range(NUM_LABELS)]


def by_size(row: Row) -> list[Estimate]:
    """`iou_region` in each bin of `SIZE_NAMES`.

    A semantic judge does not separate objects of one class, so a value belongs to all objects of a
    class in an image. Its size is their share of the pixels in the true masks.
    """
    values = class_iou(row.samples)
    bins = np.digitize(row.samples.confusion.sum(2) / row.score.score_size**2, SIZES)
    numbers = range(len(SIZE_NAMES))
    return [_estimate(np.where(bins == number, values, np.nan), row) for number in numbers]


def by_objects(row: Row, objects: Mapping[str, int], numbers: Sequence[int]) -> list[Estimate]:
    """`iou_image` of the layouts with each number of objects.

    Args:
        row: N samples.
        objects: number of objects by layout id.
        numbers: the numbers to report.
    """
    values = image_iou(row.samples)[:, None]
    counts = np.array([objects[layout] for layout in row.layouts])[:, None]
    return [_estimate(np.where(counts == number, values, np.nan), row) for number in numbers]


def _estimate(values: np.ndarray, row: Row) -> Estimate:
    """The estimate of the values, (N, M), that are not NaN."""
    ratio = mean_of(values)
    n = int(ratio.denominators.sum())
    if not n:
        return Estimate(mean=None, std=None, n=0, low=None, high=None)
    low, high = (None if np.isnan(end) else end for end in interval(by_layout(ratio, row.layouts)))
    mean = float(ratio.numerators.sum() / n)
    return cut(Estimate(mean=mean, std=None, n=n, low=low, high=high))


def cut(estimate: Estimate) -> Estimate:
    """The estimate of a metric with values in [0, 1], its interval cut there."""
    if estimate.low is None:
        return estimate
    ends = {"low": max(0.0, estimate.low), "high": min(1.0, estimate.high)}
    return estimate.model_copy(update=ends)


def describe(estimate: Estimate) -> str:
    """The estimate in a few words."""
    if estimate.mean is None:
        return "no value"
    ends = "" if estimate.low is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.mean:.2f}{ends}, n {estimate.n}"


class Cell(NamedTuple):
    """One cell of the table; its value, None where there is none, is the sort key."""

    text: str
    value: float | None
    interval: str = ""
    best: bool = False


class Line(NamedTuple):
    """A row under one judge."""

    row: Row
    result: ResultRow
    """The row's estimates, with intervals cut."""
    ignore: Ignore
    """Treatment of dropped objects in the report's other rows."""
    by_class: list[Estimate]
    by_size: list[Estimate]
    by_objects: list[Estimate]

    @property
    def name(self) -> str:
        """The row's label; the ceiling's second row says how it treats dropped objects."""
        if self.row.ignore == self.ignore:
            return self.row.label
        treatment = "counted" if self.row.ignore == "none" else "ignored"
        return f"{self.row.label}, dropped objects {treatment}"

    @property
    def tags(self) -> list[str]:
        """Remarks shown beside the name."""
        tags = remarks(self.result)
        tags += ["ceiling"] if self.row.name == CEILING else []
        return tags + (["independence unknown"] if self.row.independence == "unknown" else [])

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
    def ceiling(self) -> Estimate | None:
        """The photographs' estimate, with dropped objects treated as in the other rows."""
        rows = (line for line in self.lines if line.row.name == CEILING)
        return next((line.headline for line in rows if line.row.ignore == line.ignore), None)

    @property
    def classes(self) -> list[int]:
        """The classes that an image of a row has."""
        return [
            index
            for index in range(NUM_LABELS)
            if any(line.by_class[index].n for line in self.lines)
        ]

    def table(self, metrics: Sequence[str]) -> dict[str, list[Cell]]:
        """The cells of each column that has a value, one per line."""
        columns: dict[str, list[Cell]] = {}
        for line in self.lines:
            for name, cell in _cells(line, metrics):
                columns.setdefault(name, []).append(cell)
        return {
            name: cells
            for name, cells in columns.items()
            if any(cell.value is not None for cell in cells)
        }


def make_judges(
    rows: Sequence[Row], result: Result, layouts: Sequence[Layout], ignore: Ignore
) -> list[Judge]:
    """The judges of the rows, in the rows' order.

    Args:
        rows: rows of `tcig.eval.rows.read_rows` under the same `ignore`.
        result: their result.
        layouts: the manifest's.
        ignore: treatment of dropped objects in all rows except one of the ceiling's two.
    """
    objects = {layout.id: len(layout.regions) for layout in layouts}
    numbers = object_numbers(rows, layouts)
    judges: dict[str, Judge] = {}
    for row, own in zip(rows, result.rows, strict=True):
        figures = {n: cut(e) if n in UNIT_METRICS else e for n, e in own.figures.items()}
        own = own.model_copy(update={"figures": figures})
        parts = by_class(row), by_size(row), by_objects(row, objects, numbers)
        judge = Judge(row.judge, own.judged.identity, own.judged.score_size, [])
        judges.setdefault(row.judge, judge).lines.append(Line(row, own, ignore, *parts))
    return list(judges.values())


def object_numbers(rows: Sequence[Row], layouts: Sequence[Layout]) -> list[int]:
    """The numbers of objects that the rows' layouts have."""
    used = {layout for row in rows for layout in row.layouts}
    return sorted({len(layout.regions) for layout in layouts if layout.id in used})


def other_headlines(judges: Sequence[Judge], line: Line) -> dict[str, Estimate]:
    """Estimates of `iou_image` for the same images by other judges' names."""
    key = line.row.folder, line.row.ignore
    return {
        judge.name: other.headline
        for judge in judges
        for other in judge.lines
        if (other.row.folder, other.row.ignore) == key
    }


def _cells(line: Line, metrics: Sequence[str]) -> Iterator[tuple[str, Cell]]:
    """Each column's name and the line's cell."""
    result = line.result
    yield "n", Cell(str(len(result.samples)), len(result.samples))
    yield "failed", Cell(str(result.failed), result.failed)
    for name in REDUCTIONS:
        best = name == HEADLINE and is_best(result)
        text, ends = written(result, name)
        yield name, Cell(text, result.figures[name].mean, ends, best)
    for name in metrics:
        value = result.figures[name].mean if name in result.figures else None
        text, bracket, ends = quality_cell(result, name).partition(" [")
        yield name, Cell("", None) if value is None else Cell(text, value, bracket.strip() + ends)
    comparison, drawn = result.comparison, result.drawn
    yield "of ceiling", Cell(share(result), comparison.ceiling_share)
    yield "guide − judge", Cell(leakage(result), comparison.leakage and comparison.leakage[0])
    seconds = drawn.seconds if drawn else None
    yield "time", Cell(_seconds(seconds), seconds)
    yield "memory", _memory(drawn)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return "< 0.01 s" if seconds < 0.01 else f"{seconds:.{2 if seconds < 10 else 1}f} s"


def _memory(drawn: Drawn | None) -> Cell:
    """Peak memory of the GPU, or of the process where no GPU was used."""
    gpu = drawn and drawn.peak_device_mib
    mib = gpu if gpu is not None else drawn and drawn.peak_mib
    if mib is None:
        return Cell("", None)
    text = f"{mib} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"
    return Cell(text if gpu is None else f"{text} GPU", mib)
