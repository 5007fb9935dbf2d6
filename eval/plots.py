"""Curves for readers, drawn with matplotlib: metrics against options, and courses of stage 1."""

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from PIL import Image

from tcig.data.files import write_whole
from tcig.data.layout import Layout
from tcig.eval.grids import FIGURE_CELL, image_grid

matplotlib.use("Agg")
from matplotlib import pyplot

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe & Ito 2008: distinguishable by the colour-blind."""
WIDTH, HEIGHT = 4.6, 3.4
"""Size of a panel, inches."""


def course_figure(
    path: Path,
    layout: Layout,
    courses: Mapping[str, tuple[Mapping[int, Image.Image], Mapping[str, Mapping[int, float]]]],
) -> None:
    """Draws courses of stage 1 side by side: images at some iterations, losses and IoUs.

    Args:
        path: the PNG.
        layout: what was generated.
        courses: by title, images by iteration, and curves by name: values by iteration. `IoU...`
            has an axis of its own, 0 to 1; few values are marked.
    """
    frames = {title: list(images.values()) for title, (images, _) in courses.items()}
    above = [["mask"] + [f"iteration {n}" for n in images] for images, _ in courses.values()]
    grids = [
        image_grid([[layout, *frames[title]]], (), [names], cell=FIGURE_CELL)
        for title, names in zip(frames, above, strict=True)
    ]
    size = (max(grid.width for grid in grids) / 160 * len(courses), grids[0].height / 160 + 3)
    figure, axes = pyplot.subplots(
        2, len(courses), figsize=size, squeeze=False, height_ratios=[1, 1.5], layout="constrained"
    )
    for (title, (images, curves)), grid, (top, losses) in zip(
        courses.items(), grids, axes.T, strict=True
    ):
        top.imshow(grid)
        top.set_axis_off()
        top.set_title(title, fontsize=9)
        share = losses.twinx()
        for number, (name, values) in enumerate(curves.items()):
            axis = share if name.startswith("IoU") else losses
            marker = "o" if len(values) <= len(images) else None
            axis.plot(*zip(*values.items(), strict=True), f"C{number}", label=name, marker=marker)
        share.set(ylim=(0, 1), ylabel="IoU")
        losses.set(xlabel="iteration", ylabel="weighted loss", xlim=(0, None), ylim=(0, None))
        lines = losses.lines + share.lines
        losses.legend(lines, [line.get_label() for line in lines], ncols=len(lines), fontsize=7)
    figure.suptitle(f'"{layout.caption}"', fontsize=9)
    _save(path, figure, dpi=160)


def curves_figure(
    path: Path,
    frame: pd.DataFrame,
    x: str,
    lines: Sequence[str],
    metrics: Sequence[str],
    title: str,
    panels: str | None = None,
) -> None:
    """Draws metrics against an option, a line for each condition, with its interval.

    Args:
        path: the PNG.
        frame: a record for each point: `x`, `line`, and of each metric its value, and where there
            is one its 95% interval as `METRIC_low`, `METRIC_high`.
        x: the column across; texts stand side by side, positive numbers over a factor of 20 on a
            logarithmic scale.
        lines: the columns that distinguish lines.
        metrics: the columns up; all panels of one have the same scale.
        title: of the figure.
        panels: a column; each of its values has a row of panels.
    """
    parts = list(frame.groupby(panels, sort=False)) if panels else [("", frame)]
    size = (WIDTH * len(metrics), HEIGHT * len(parts))
    figure, axes = pyplot.subplots(
        len(parts), len(metrics), figsize=size, squeeze=False, sharey="col"
    )
    for (part, metric), axis in zip(itertools.product(parts, metrics), axes.flat, strict=True):
        name, records = part
        conditions = records.groupby(list(lines), sort=False)
        for (values, points), colour in zip(conditions, itertools.cycle(COLOURS), strict=False):
            points = points.dropna(subset=[metric])
            named = [f"{c} {v}" for c, v in zip(lines, values, strict=True)]
            label = values[0] if len(lines) == 1 else ", ".join(named)
            axis.plot(points[x], points[metric], "o-", color=colour, label=label, markersize=4)
            if f"{metric}_low" in points:
                ends = points[f"{metric}_low"].astype(float), points[f"{metric}_high"].astype(float)
                axis.fill_between(points[x], *ends, color=colour, alpha=0.12, linewidth=0)
        if pd.api.types.is_numeric_dtype(frame[x]) and frame[x].max() > 20 * frame[x].min() > 0:
            axis.set_xscale("log")
        axis.set_xlabel(x)
        axis.set_title(f"{name}: {metric}" if name else metric, fontsize=9)
        axis.grid(alpha=0.25)
    axes[-1][-1].legend(fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    _save(path, figure, dpi=120)


def _save(path: Path, figure: pyplot.Figure, dpi: int) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    pyplot.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())
