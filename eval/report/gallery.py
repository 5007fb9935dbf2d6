"""Every image of a comparison with its scores, and all pictures as text for the page."""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from contourpy import contour_generator
from PIL import Image
from tqdm import tqdm

from tcig.data.layout import Layout, hash_order
from tcig.data.masks import load_label_map, resize_nearest
from tcig.data.records import run_rows
from tcig.data.voc import COLOURS
from tcig.eval.images import open_image
from tcig.eval.iou import class_iou, foreground_iou, image_iou
from tcig.eval.rows import Row
from tcig.eval.score_records import label_path

QUALITY = 80
"""Quality of WebP: Pillow's default."""
SampleId = tuple[str, int]
"""Layout id and sample index."""


@dataclass
class Cell:
    """One image with its scores and overlays by judge, or the error that it failed with."""

    error: str = ""
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    """`iou_image`, `iou_foreground`, and IoU of `Layout.classes`; NaN for a covered class."""
    picture: str = ""
    overlays: dict[str, str] = field(default_factory=dict)


class Entry(NamedTuple):
    """One sample of a layout: its true masks, and each column's cell, None if not asked for."""

    layout: Layout
    sample: int
    mask: str
    outline: str
    cells: list[Cell | None]

    def scores(self, judge: str) -> list[float | None]:
        """`iou_image` of each column, None where the judge scored no image."""
        scores = [cell.scores.get(judge) if cell else None for cell in self.cells]
        return [None if each is None else round(float(each[0]), 4) for each in scores]

    def best(self, columns: Sequence[Row], judge: str) -> float | None:
        """The highest `iou_image` among the methods, None with fewer than two of them."""
        pairs = zip(columns, self.scores(judge), strict=True)
        scores = [score for row, score in pairs if row.is_method and score is not None]
        return max(scores) if len(scores) > 1 else None


class Pictures:
    """The base64 text of many files in one string, which holds equal files once."""

    def __init__(self):
        self._places: dict[bytes, str] = {}
        self.texts: list[str] = []
        self._length = 0

    def add(self, content: bytes) -> str:
        """Adds a file.

        Returns:
            Its first character and its length, as `"0 44"`.
        """
        if content not in self._places:
            text = base64.b64encode(content).decode("ascii")
            self._places[content] = f"{self._length} {len(text)}"
            self.texts.append(text)
            self._length += len(text)
        return self._places[content]


def make_gallery(
    columns: Sequence[Sequence[Row]], layouts: Sequence[Layout], side: int
) -> tuple[list[Entry], str]:
    """Every sample that a column has or failed at, in the natural order of the layouts' ids.

    Args:
        columns: the rows of each folder, one for each judge.
        layouts: all layouts of the manifest.
        side: side of the pictures in pixels; smaller images keep their size.

    Returns:
        The entries, and the text of all pictures.

    Raises:
        InputError: an image or a label map that was scored is missing or changed.
    """
    by_column = [_failures(rows, layouts) | _scored(rows) for rows in columns]
    samples = sorted({key[1] for cells in by_column for key in cells})
    pictures, entries = Pictures(), []
    for layout in tqdm(sorted(layouts, key=_natural), desc="thumbnails", disable=None):
        for sample in samples:
            cells = [each.get((layout.id, sample)) for each in by_column]
            for rows, cell in zip(columns, cells, strict=True):
                if cell and cell.scores:
                    _add_pictures(pictures, rows[0], cell, (layout.id, sample), side)
            if any(cells):
                labels = layout.class_map(min(side, layout.side))
                drawn = pictures.add(transparent_map(labels)), pictures.add(outline(labels))
                entries.append(Entry(layout, sample, *drawn, cells))
    return entries, "".join(pictures.texts)


def _natural(layout: Layout) -> list[str | int]:
    """Sorts 2 before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", layout.id)]


def _scored(rows: Sequence[Row]) -> dict[SampleId, Cell]:
    """A cell for each image, with the scores by all judges."""
    cells: dict[SampleId, Cell] = {}
    for row in rows:
        values = image_iou(row.samples), foreground_iou(row.samples), class_iou(row.samples)
        for key, drawn, image, foreground, classes in zip(
            row.score.samples, row.samples.drawn, *values, strict=True
        ):
            cells.setdefault(key, Cell()).scores[row.judge] = np.array(
                [image, foreground, *classes[drawn]]
            )
    return cells


def _failures(rows: Sequence[Row], layouts: Sequence[Layout]) -> dict[SampleId, Cell]:
    """The samples that the scores count as failed: the first ones in the order of generation."""
    errors = {(row["layout"], row["sample"]): row["error"] for row in run_rows(rows[0].folder)}
    cells = {}
    for row in rows:
        scored = set(row.score.samples)
        samples = sorted({sample for _, sample in (*errors, *scored)})
        keys = [(layout.id, sample) for layout in hash_order(layouts) for sample in samples]
        failed = [key for key in keys if errors.get(key) and key not in scored]
        cells |= {key: Cell(error=str(errors[key])) for key in failed[: row.score.failed]}
    return cells


def _add_pictures(pictures: Pictures, row: Row, cell: Cell, key: SampleId, side: int) -> None:
    path = row.folder / f"{key[0]}-{key[1]}.png"
    image = open_image(path, row.score.image_size, row.score.resized)
    cell.picture = pictures.add(thumbnail(image, side))
    for judge in cell.scores:
        labels = load_label_map(label_path(row.folder / "scores" / judge, *key))
        small = resize_nearest(labels, min(side, len(labels)))
        cell.overlays[judge] = pictures.add(transparent_map(small))


def thumbnail(image: Image.Image, side: int) -> bytes:
    """An image reduced to `side` pixels (Lanczos), never enlarged, as WebP."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def transparent_map(labels: np.ndarray) -> bytes:
    """A label map, (S, S) uint8 of classes 0 to 20, as palette PNG in the VOC colours.

    The background is transparent.
    """
    used, places = np.unique(labels, return_inverse=True)  # few colours need few bits
    image = Image.fromarray(places.reshape(labels.shape).astype(np.uint8), "P")
    image.putpalette([value for index in used for value in COLOURS[index]])
    transparency = {"transparency": 0} if used[0] == 0 else {}
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **transparency)
    return buffer.getvalue()


def outline(labels: np.ndarray) -> bytes:
    """The borders of the classes of a label map, (S, S), as SVG lines of constant width."""
    size = 2 * len(labels)
    shape = f'<path id="a" d="{"".join(_borders(labels))}" vector-effect="non-scaling-stroke"/>'
    strokes = (("#000", 2.5), ("#fff", 1.25))
    lines = "".join(f'<use href="#a" stroke="{c}" stroke-width="{w}"/>' for c, w in strokes)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="1 1 {size} {size}" fill="none">'
    return f"{svg}<defs>{shape}</defs>{lines}</svg>".encode()


def _borders(labels: np.ndarray) -> Iterator[str]:
    """SVG paths in half pixels of the label map with one pixel of background around it."""
    for index in np.unique(labels[labels > 0]):
        mask = np.pad(labels == index, 1).astype(float)
        for line in contour_generator(z=mask).lines(0.5):
            points = np.rint(2 * line).astype(int)
            steps = " ".join(f"{x} {y}" for x, y in np.diff(points, axis=0))
            yield f"M{points[0, 0]} {points[0, 1]}l{steps}"
