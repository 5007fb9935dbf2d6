"""The report: tables by Jinja, plots by matplotlib and pictures in one HTML file.

The plots are SVG that takes colours and font from the page.
"""

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tcig.data.files import write_whole
from tcig.data.layout import Layout
from tcig.data.manifest import Header
from tcig.data.voc import COLOURS, LABELS
from tcig.eval.comparison import ALPHA
from tcig.eval.report.gallery import make_gallery
from tcig.eval.report.tables import (
    SIZE_NAMES,
    Line,
    cut_intervals,
    describe,
    make_judges,
    other_headlines,
)
from tcig.eval.results import Estimate, Ignore
from tcig.eval.rows import Row, build_result
from tcig.eval.table import Published, metrics_of, published, quality_notes, stale_of

CHOSEN, OTHER, GRID, BAND, CEILING, TEXT = (
    "#0f5e7d", "#9d9689", "#ddd7cc", "#f0dcc8", "#a8501c", "#645f56",
)  # fmt: skip
VARIABLES = {
    CHOSEN: "accent", OTHER: "other", GRID: "line", BAND: "band", CEILING: "warm", TEXT: "soft",
}  # fmt: skip
"""Each colour's custom property in `page.css`, which has a value for light and for dark pages."""
TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
LABEL = {"color": TEXT, "fontsize": 9.5, "ha": "center"}
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def write_report(
    path: Path,
    rows: Sequence[Row],
    manifest: tuple[Header, Sequence[Layout]],
    ignore: Ignore,
    command: Sequence[str],
    side: int,
) -> int:
    """Writes the page, whole or not at all.

    Jinja escapes all text from outside. The page's own policy forbids it to load anything and to
    run any script or style but its own.

    Args:
        path: the HTML file.
        rows: rows of `tcig.eval.rows.read_rows` under the same `ignore`.
        manifest: the rows' manifest.
        ignore: treatment of dropped objects in all rows except one of the ceiling's two.
        command: the command that makes the report.
        side: side of the pictures in pixels.

    Returns:
        The number of samples on the page.

    Raises:
        InputError: an image or a label map that was scored is missing or changed.
    """
    header, layouts = manifest
    result = cut_intervals(build_result(rows, command))
    judges = make_judges(rows, result, layouts, ignore)
    columns: dict[Path, list[Line]] = {}
    for line in (line for judge in judges for line in judge.lines):
        if line.row.ignore == ignore:
            columns.setdefault(line.row.folder, []).append(line)
    by_column = [[line.row for line in lines] for lines in columns.values()]
    entries, pictures = make_gallery(by_column, layouts, side)
    context = {
        "judges": judges,
        "columns": [lines[0] for lines in columns.values()],
        "colours": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in COLOURS],
        "side": min(side, max(row.score.image_size for row in rows)),
        "made": result.made,
        "manifest": result.manifest,
        "header": header.model_dump(mode="json"),
        "ignore": ignore,
        "alpha": ALPHA,
        "labels": LABELS,
        "sizes": SIZE_NAMES,
        "numbers": sorted({len(layout.regions) for layout in layouts}),
        "notes": quality_notes(result, metrics_of(result)),
        "stale": stale_of(result),
        "same_samples": len({row.samples_hash for row in result.rows}) == 1,
        "published": _published(),
        "entries": entries,
        "pictures": Markup(pictures),
        "interval_plot": interval_plot,
        "breakdown_plot": breakdown_plot,
        "other_headlines": other_headlines,
        "zip": zip,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _render(context))
    return len(entries)


def _published() -> dict[tuple[str, ...], list[Published]]:
    """Published numbers by what the numbers of one table or page share."""
    shared = attrgetter("group", "paper", "table", "protocol", "judge", "source")
    groups: dict[tuple[str, ...], list[Published]] = {}
    for number in published():
        groups.setdefault(shared(number), []).append(number)
    return groups


def _render(context: dict[str, Any]) -> str:
    """The page; its policy names style and script by their hashes."""
    loader = PackageLoader("tcig.eval.report", ".")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["class_name"] = LABELS.__getitem__
    environment.filters["describe"] = describe
    environment.filters["pretty"] = partial(json.dumps, indent=1, ensure_ascii=False)
    for name in ("page.css", "page.js"):
        text = environment.get_template(name).render(context)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
        kind = name.partition(".")[2]
        context |= {kind: Markup(text), f"{kind}_hash": f"sha256-{digest}"}
    return environment.get_template("page.html").render(context)


def interval_plot(chosen: Estimate, others: Sequence[Estimate], ceiling: Estimate | None) -> Markup:
    """A row's mean and interval over the axis 0 to 1.

    Args:
        chosen: the estimate of the judge that the page shows.
        others: the other judges' estimates of the same row, drawn smaller below it.
        ceiling: the photographs' estimate, drawn as a band, if there is one.
    """
    figure, axes = _axes(width=480, height=30, left=0, right=0, top=0, bottom=0)
    axes.set(xlim=(0, 1), ylim=(1, 0))
    axes.vlines(TICKS, 0, 1, GRID, linewidth=1)
    if ceiling and ceiling.low is not None:
        # Neighbouring rows overlap, so that no seam is seen.
        axes.axvspan(ceiling.low, ceiling.high, -0.02, 1.02, color=BAND, linewidth=0)
        axes.vlines(ceiling.mean, 0, 1, CEILING, linewidth=1.4, linestyle=(0, (3, 2)))
    heights = [0.72 + 0.18 * place / len(others) for place in range(len(others))]
    marks = [(each, height, OTHER, 0.7) for each, height in zip(others, heights, strict=True)]
    for each, height, colour, scale in [*marks, (chosen, 0.38 if others else 0.5, CHOSEN, 1)]:
        mark = partial(axes.hlines, height, colors=colour, capstyle="round")
        _mark(mark, each, bar=2.5 * scale, dot=10 * scale)
    return _svg(figure)


def breakdown_plot(
    chosen: Sequence[Estimate], others: Sequence[Sequence[Estimate]], bins: Sequence[str], unit: str
) -> Markup:
    """A row's means over bins with their intervals, the other rows as grey lines.

    Args:
        chosen: the row's estimate of each bin.
        others: the same of each other row.
        bins: short names, written below the axis with n.
        unit: of the bins' names.
    """
    figure, axes = _axes(width=240, height=150, left=26, right=8, top=8, bottom=36)
    axes.set(xlim=(-0.5, len(bins) - 0.5), ylim=(0, 1))
    axes.hlines((0, 0.5, 1), *axes.get_xlim(), GRID, linewidth=1)
    for row in others:
        axes.plot([each.mean for each in row], color=OTHER, linewidth=0.8)
    axes.plot([each.mean for each in chosen], color=CHOSEN, linewidth=1.8)
    for place, each in enumerate(chosen):
        mark = partial(axes.vlines, place, colors=CHOSEN, capstyle="round")
        _mark(mark, each, bar=2.5, dot=7)
    left, pixel = -0.5 - len(bins) * 10 / 206, 1 / 106  # of the axes' width and height
    counts = [each.n or "" for each in chosen]
    for x, name, n in zip((left, *range(len(bins))), (unit, *bins), ("n", *counts), strict=True):
        axes.text(x, -14 * pixel, name, **LABEL)
        axes.text(x, -27 * pixel, n, **LABEL)
    for y in (0, 0.5, 1):
        axes.text(left, y - 3 * pixel, f"{y:g}", **LABEL)
    return _svg(figure)


def _mark(line: Callable[..., Any], estimate: Estimate, bar: float, dot: float) -> None:
    """Draws an interval and its mean, where they exist, by `line(low, high, linewidth=...)`."""
    if estimate.low is not None:
        line(estimate.low, estimate.high, linewidth=bar)
    if estimate.mean is not None:
        line(estimate.mean, estimate.mean, linewidth=dot)  # its round ends make a dot


def _axes(
    width: int, height: int, left: int, right: int, top: int, bottom: int
) -> tuple[Figure, Axes]:
    """A figure with one bare pair of axes; sizes and margins are in SVG units."""
    figure = Figure((width / 72, height / 72))
    inner = (width - left - right) / width, (height - top - bottom) / height
    axes = figure.add_axes((left / width, bottom / height, *inner))
    axes.set_axis_off()
    figure.patch.set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> Markup:
    """The figure as an SVG element without identifiers, own fonts or inline styles.

    The page's policy forbids inline styles, so that they become attributes. The same input gives
    the same text.
    """
    for artist in figure.axes[0].get_children():
        artist.set_clip_on(False)  # a clip path needs an identifier
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tcig"}):
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    view_box = re.search('viewBox="[^"]*"', buffer.getvalue())[0]
    shapes = re.findall(r"<path [^>]*/>|<text [^>]*>[^<]*</text>", buffer.getvalue())
    body = re.sub(r'style="([^"]*)"', _attributes, "".join(shapes))
    body = re.sub(r"\s+", " ", body)
    return Markup(f"<svg {view_box}>{body}</svg>")


def _attributes(style: re.Match) -> str:
    pairs = (pair.split(": ") for pair in style[1].split("; "))
    return " ".join(
        f'{name}="{f"var(--{VARIABLES[value]})" if value in VARIABLES else value}"'
        for name, value in pairs
        if name != "font-family"
    )
