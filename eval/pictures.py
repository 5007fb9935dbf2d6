"""Pictures for readers: grids of images and masks after the papers' figures, and curves.

Pillow draws every grid, in `image_grid`; a mask is a layout: its class colours with the names of
its regions. Matplotlib draws metrics against options, and courses of stage 1.
"""

import io
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from tcig.data.files import write_whole
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest
from tcig.data.pictures import encode_png
from tcig.data.voc import COLOURS, LABELS
from tcig.eval.iou import Samples, class_iou, confusion

Cell = Image.Image | Layout | np.ndarray
"""An image, a layout's mask, or a label map, (S, S) integers 0 to 20."""
CELL, GAP, MARGIN = 96, 3, 100
"""Side of a cell, gap between cells, and width of the rows' names, pixels."""
FIGURE_CELL, SHEET_CELL = 240, 160
"""Sides of a cell in the papers' figures and in a contact sheet, pixels."""
LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe & Ito 2008: distinguishable by the colour-blind."""
WIDTH, HEIGHT = 4.6, 3.4
"""Size of a panel of curves, inches."""


def image_grid(
    rows: Sequence[Sequence[Cell]],
    names: Sequence[str] = (),
    titles: Sequence[Sequence[str]] = (),
    captions: Sequence[str] = (),
    cell: int = CELL,
) -> Image.Image:
    """Draws rows of cells, pixels kept square.

    Args:
        rows: the cells.
        names: of the rows, on their left.
        titles: of the cells, above them, row by row; a row may have none.
        captions: of the rows, below them.
        cell: side of a cell, pixels.
    """
    font = ImageFont.load_default(max(12, cell // 14))
    line = round(font.size * 1.4)
    characters = cell * 2 // font.size
    titles = [[textwrap.fill(text, characters) for text in row] for row in titles]
    titles += [[]] * (len(rows) - len(titles))
    heads = [
        line * max((text.count("\n") + bool(text) for text in row), default=0) for row in titles
    ]
    foot, left = line if captions else 0, MARGIN if names else 0
    width = left + max(map(len, rows)) * (cell + GAP)
    grid = Image.new("RGB", (width, sum(heads) + len(rows) * (cell + GAP + foot)), "white")
    canvas, top = ImageDraw.Draw(grid), 0
    for number, row in enumerate(rows):
        for column, text in enumerate(titles[number]):
            canvas.text((left + column * (cell + GAP), top), text, "black", font)
        top += heads[number]
        if names:
            canvas.text((2, top + cell // 2), names[number], "black", font, anchor="lm")
        for column, content in enumerate(row):
            grid.paste(draw_cell(content, cell), (left + column * (cell + GAP), top))
        top += cell + GAP
        if captions:
            canvas.text((left + 2, top), captions[number], "black", font)
            top += foot
    return grid


def draw_cell(content: Cell, side: int) -> Image.Image:
    """Draws one cell of a grid, `side` pixels a side."""
    if isinstance(content, Image.Image):
        return content.convert("RGB").resize((side, side), Image.Resampling.NEAREST)
    palette = np.array(COLOURS, np.uint8)
    if isinstance(content, np.ndarray):
        return Image.fromarray(palette[resize_nearest(content, side)])
    palette[0] = 235
    labels = content.class_map(side)
    image = Image.fromarray(palette[labels])
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(max(10, side // 16))
    for region in content.regions:
        visible = resize_nearest(region.pixels, side) & (labels == region.index)
        if visible.any():
            y, x = np.argwhere(visible).mean(0)
            place = min(max(x, side * 0.15), side * 0.85), y
            canvas.text(place, region.label, "white", font, "mm", stroke_width=1, stroke_fill=0)
    return image


def write_grid(
    path: Path,
    grid: Sequence[Sequence[Image.Image]],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> None:
    """Writes a PNG of a grid of images, with names of its rows and columns."""
    save_png(path, image_grid(grid, rows, [columns] if columns else []))


def write_sheet(path: Path, samples: Sequence[tuple[Layout, Image.Image, np.ndarray]]) -> None:
    """Writes a contact sheet with a column a sample: image, class map, label map, IoU by class.

    Args:
        path: the PNG.
        samples: layout, image and label map, (S, S) integers 0 to 20.
    """
    font = ImageFont.load_default(12)
    side, line = SHEET_CELL, 15
    images = [image.resize((side, side), Image.Resampling.LANCZOS) for _, image, _ in samples]
    maps = [layout.class_map(side) for layout, *_ in samples], [labels for *_, labels in samples]
    grid = image_grid([images, *maps], cell=side)
    lines = 1 + max(len(layout.classes) for layout, *_ in samples)
    sheet = Image.new("RGB", (grid.width, grid.height + lines * line), "white")
    sheet.paste(grid)
    canvas = ImageDraw.Draw(sheet)
    for column, (layout, _, labels) in enumerate(samples):
        left, top = column * (side + GAP) + 2, grid.height
        canvas.text((left, top), f"layout {layout.id}", "black", font)
        counts = confusion(layout.class_map(len(labels)), labels)
        (ious,) = class_iou(Samples.of([counts], [layout.classes]))
        for row, index in enumerate(layout.classes, start=1):
            iou, y = ious[index], top + row * line
            text = f"{LABELS[index]} {'covered' if np.isnan(iou) else f'{iou:.2f}'}"
            canvas.text((left + 12, y), text, "black", font)
            canvas.rectangle((left, y + 3, left + 8, y + 11), COLOURS[index])
    save_png(path, sheet)


def systems_figure(
    path: Path, layouts: Sequence[Layout], columns: Mapping[str, Sequence[Image.Image]]
) -> None:
    """Draws systems side by side under the same masks, a layout a row (TCIG, Figure 3).

    Args:
        path: the PNG.
        layouts: one for each row.
        columns: each system's images, one for each layout.
    """
    rows = [[layout, *images] for layout, *images in zip(layouts, *columns.values(), strict=True)]
    titles, captions = [["mask", *columns]], [f'"{layout.caption}"' for layout in layouts]
    save_png(path, image_grid(rows, (), titles, captions, FIGURE_CELL))


def samples_figure(
    path: Path, layouts: Sequence[Layout], images: Sequence[Image.Image], width: int = 6
) -> None:
    """Draws images under their masks, `width` of them a row (TCIG, Figure 5)."""
    rows, titles = [], []
    for first in range(0, len(layouts), width):
        part = slice(first, first + width)
        rows += [layouts[part], images[part]]
        titles += [[layout.caption for layout in layouts[part]], []]
    save_png(path, image_grid(rows, (), titles, cell=FIGURE_CELL))


def stages_figure(
    path: Path,
    layouts: Sequence[Layout],
    first: Sequence[Sequence[Image.Image]],
    second: Sequence[Sequence[Sequence[Image.Image]]],
) -> None:
    """Draws masks, images of stage 1, and images of stage 2 for each of them (TCIG, Figure 2).

    Args:
        path: the PNG.
        layouts: L of them, one for each row.
        first: of each layout, its images of stage 1.
        second: of each layout and each image of stage 1, the images of stage 2.
    """
    titles = ["mask"]
    for number, refined in enumerate(second[0], start=1):
        titles += [f"stage 1, start {number}", *[f"stage 2 of {number}"] * len(refined)]
    rows = []
    for layout, placed, refined in zip(layouts, first, second, strict=True):
        pairs = zip(placed, refined, strict=True)
        rows.append([layout, *(image for one, many in pairs for image in (one, *many))])
    captions = [f'"{layout.caption}"' for layout in layouts]
    save_png(path, image_grid(rows, (), [titles], captions, FIGURE_CELL))


def save_png(path: Path, image: Image.Image) -> None:
    """Writes an image as PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encode_png(image, optimize=True))


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
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2, len(courses), squeeze=False, height_ratios=[1, 1.5])
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
    _save_figure(path, figure, dpi=160)


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
    figure = Figure(figsize=size)
    axes = figure.subplots(len(parts), len(metrics), squeeze=False, sharey="col")
    for (part, metric), axis in zip(itertools.product(parts, metrics), axes.flat, strict=True):
        name, records = part
        conditions = records.groupby(list(lines), sort=False)
        for (values, points), colour in zip(
            conditions, itertools.cycle(LINE_COLOURS), strict=False
        ):
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
    _save_figure(path, figure, dpi=120)


def _save_figure(path: Path, figure: Figure, dpi: int) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())
