"""Figures as curves: a metric against an option, a line for each condition, with its interval."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd

from tcig.data.files import write_whole

matplotlib.use("Agg")
from matplotlib import pyplot

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe & Ito 2008: told apart by the colour-blind."""
WIDTH, HEIGHT = 4.6, 3.4
"""Of a panel, inches."""


def curves_figure(
    path: Path,
    frame: pd.DataFrame,
    x: str,
    lines: Sequence[str],
    metrics: Sequence[str],
    title: str,
    panels: str | None = None,
) -> None:
    """A panel for each metric.

    Args:
        path: the PNG.
        frame: a record for each point: `x`, `line`, and of each metric its value, and where there
            is one its 95% interval as `METRIC_low`, `METRIC_high`.
        x: the column across; texts stand side by side, positive numbers over a factor of 20 on a
            logarithmic scale.
        lines: the columns that tell lines apart.
        metrics: the columns up; all panels of one have the same scale.
        title: of the figure.
        panels: a column; each of its values has a row of panels.
    """
    parts = list(frame.groupby(panels, sort=False)) if panels else [("", frame)]
    size = (WIDTH * len(metrics), HEIGHT * len(parts))
    figure, axes = pyplot.subplots(
        len(parts), len(metrics), figsize=size, squeeze=False, dpi=120, sharey="col"
    )
    for (part, metric), axis in zip(itertools.product(parts, metrics), axes.flat, strict=True):
        name, records = part
        for (values, points), colour in zip(
            records.groupby(list(lines), sort=False), COLOURS * len(frame), strict=False
        ):
            points = points.dropna(subset=[metric])
            label = values[0] if len(lines) == 1 else _label(lines, values)
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    pyplot.close(figure)
    write_whole(path, buffer.getvalue())


def _label(columns: Sequence[str], values: Sequence) -> str:
    return ", ".join(f"{column} {value}" for column, value in zip(columns, values, strict=True))
