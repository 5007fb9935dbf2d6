"""The report's plots, drawn by matplotlib as SVG that takes colours and font from the page."""

import io
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tcig.eval.results import Estimate

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
