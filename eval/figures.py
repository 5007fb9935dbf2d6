"""Figures after the papers' own: masks in class colours with their names, images beside."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from tcig.data.files import write_whole
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest
from tcig.data.voc import COLOURS

matplotlib.use("Agg")
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

CELL, GAP, LINE, MASK = 1.45, 0.03, 0.12, 256
"""Side of an image, gap and height of a line of text in inches; side of a drawn mask in pixels."""


def systems_figure(
    path: Path, layouts: Sequence[Layout], columns: Mapping[str, Sequence[Image.Image]]
) -> None:
    """Systems side by side under the same masks, a layout a row (TCIG, Figure 3).

    Args:
        path: the PNG.
        layouts: one for each row.
        columns: each system's images, one for each layout.
    """
    rows = [[layout, *images] for layout, *images in zip(layouts, *columns.values(), strict=True)]
    _write(path, rows, ["mask", *columns], [layout.caption for layout in layouts])


def samples_figure(
    path: Path, layouts: Sequence[Layout], images: Sequence[Image.Image], width: int = 6
) -> None:
    """Images under their masks, `width` of them a row (TCIG, Figure 5)."""
    rows = []
    for first in range(0, len(layouts), width):
        part = slice(first, first + width)
        rows += [list(layouts[part]), list(images[part])]
    _write(path, rows, [], [], [layout.caption for layout in layouts])


def stages_figure(
    path: Path,
    layouts: Sequence[Layout],
    first: Sequence[Sequence[Image.Image]],
    second: Sequence[Sequence[Sequence[Image.Image]]],
) -> None:
    """Masks, images of stage 1, and images of stage 2 for each of them (TCIG, Figure 2).

    Args:
        path: the PNG.
        layouts: L of them, one for each row.
        first: of each layout, its images of stage 1.
        second: of each layout and each image of stage 1, the images of stage 2.
    """
    rows, titles = [], ["mask"]
    for number, (placed, refined) in enumerate(zip(first[0], second[0], strict=True), start=1):
        titles += [f"stage 1, start {number}", *(f"stage 2 of {number}" for _ in refined)]
        del placed
    for layout, placed, refined in zip(layouts, first, second, strict=True):
        pairs = zip(placed, refined, strict=True)
        rows.append([layout, *(image for one, many in pairs for image in (one, *many))])
    _write(path, rows, titles, [layout.caption for layout in layouts])


def course_figure(
    path: Path,
    layout: Layout,
    courses: Mapping[str, tuple[Mapping[int, Image.Image], Mapping[str, Mapping[int, float]]]],
) -> None:
    """Courses of stage 1 side by side: images at some iterations, losses and IoUs.

    Args:
        path: the PNG.
        layout: what was generated.
        courses: by title, images by iteration, and curves by name: values by iteration. `IoU...`
            has an axis of its own, 0 to 1; few values are marked.
    """
    count = max(len(frames) for frames, _ in courses.values())
    figure = Figure((CELL * (count * len(courses) + 1), CELL + 3.0), layout="constrained")
    mask, *parts = figure.subfigures(1, 1 + len(courses), width_ratios=[1] + [count] * len(courses))
    axes = mask.add_subplot(2, 1, 1)
    _draw(axes, layout)
    axes.set_title("mask", fontsize=8)
    for part, (title, (frames, curves)) in zip(parts, courses.items(), strict=True):
        part.suptitle(title, fontsize=9)
        grid = part.add_gridspec(2, count, height_ratios=[CELL, 2.4])
        for column, (iteration, image) in enumerate(frames.items()):
            axes = part.add_subplot(grid[0, column])
            _draw(axes, image)
            axes.set_title(f"iteration {iteration}", fontsize=8)
        losses = part.add_subplot(grid[1, :])
        share = losses.twinx()
        for number, (name, values) in enumerate(curves.items()):
            axis = share if name.startswith("IoU") else losses
            mark = "o" if len(values) <= count else None
            axis.plot(
                list(values),
                list(values.values()),
                color=f"C{number}",
                label=name,
                linewidth=1.2,
                marker=mark,
            )
        share.set(ylim=(0, 1), ylabel="IoU")
        losses.set(xlabel="iteration", ylabel="weighted loss", xlim=(0, None), ylim=(0, None))
        lines = losses.lines + share.lines
        labels = [line.get_label() for line in lines]
        part.legend(lines, labels, loc="outside lower center", ncols=len(lines), fontsize=8)
    figure.suptitle(f'"{layout.caption}"', fontsize=9)
    _save(figure, path)


def _write(
    path: Path,
    rows: Sequence[Sequence[Layout | Image.Image]],
    titles: Sequence[str],
    below: Sequence[str],
    above: Sequence[str] = (),
) -> None:
    """A grid of masks and images.

    Args:
        path: the PNG.
        rows: what stands in each.
        titles: of the columns, or none.
        below: a caption for each row, under it, or none.
        above: a caption for each mask, over it, in their order, or none.
    """
    columns = max(map(len, rows))
    captions = iter(textwrap.fill(caption, 30) for caption in above)
    heads = [[""] * len(row) for row in rows]
    for row, names in zip(rows, heads, strict=True):
        for column, cell in enumerate(row):
            if above and isinstance(cell, Layout):
                names[column] = next(captions)
    if titles:
        heads[0] = [textwrap.fill(title, 18) for title in titles]
    room = [LINE * max(name.count("\n") + bool(name) for name in names) for names in heads]
    foot = LINE * 2 if below else 0
    width = columns * (CELL + GAP)
    height = sum(room) + len(rows) * (CELL + foot + GAP)
    figure, bottom = Figure((width, height)), height
    for number, (row, names) in enumerate(zip(rows, heads, strict=True)):
        bottom -= room[number] + CELL
        for column, (cell, name) in enumerate(zip(row, names, strict=True)):
            left = column * (CELL + GAP)
            place = (left / width, bottom / height, CELL / width, CELL / height)
            axes = figure.add_axes(place)
            _draw(axes, cell)
            axes.set_title(name, fontsize=7 if titles else 5.5, pad=2)
        if below:
            text = f'"{below[number]}"'
            figure.text(0.02 / width, (bottom - 0.03) / height, text, fontsize=6.5, va="top")
        bottom -= foot + GAP
    _save(figure, path)


def _draw(axes: Axes, cell: Layout | Image.Image) -> None:
    """A layout's mask with the names of its regions, or an image, its pixels kept square."""
    axes.set_axis_off()
    if isinstance(cell, Image.Image):
        axes.imshow(np.asarray(cell), interpolation="nearest")
        return
    palette = np.array(COLOURS, np.uint8)
    palette[0] = 235
    labels = cell.class_map(MASK)
    axes.imshow(palette[labels], interpolation="nearest")
    outline = [patheffects.withStroke(linewidth=2, foreground="black")]
    for region in cell.regions:
        seen = resize_nearest(region.pixels, MASK) & (labels == region.index)
        if seen.any():
            y, x = (float(np.median(places)) for places in np.nonzero(seen))
            axes.text(
                np.clip(x, 34, MASK - 34),
                y,
                region.label,
                color="white",
                fontsize=6.5,
                ha="center",
                va="center",
                path_effects=outline,
            )


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=160, metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())
