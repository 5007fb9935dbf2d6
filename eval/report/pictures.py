"""The report's pictures: thumbnails as WebP, masks and what judges saw as small palette PNG."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tcig.data.masks import load_label_map, resize_nearest
from tcig.data.voc import COLOURS
from tcig.eval.images import open_image
from tcig.eval.report.samples import Column, Sample
from tcig.eval.score_records import label_path

QUALITY = 80
"""Of WebP, Pillow's default."""


class Pictures:
    """Base64 of many files, one after the other; equal ones stand there once."""

    def __init__(self):
        self._places: dict[bytes, tuple[int, int]] = {}
        self._texts: list[str] = []
        self._length = 0

    def add(self, content: bytes) -> tuple[int, int]:
        """Where it stands: first character and length."""
        if content not in self._places:
            text = base64.b64encode(content).decode("ascii")
            self._places[content] = self._length, len(text)
            self._texts.append(text)
            self._length += len(text)
        return self._places[content]

    @property
    def text(self) -> str:
        """Of all of them."""
        return "".join(self._texts)


def thumbnail(image: Image.Image, side: int) -> bytes:
    """An image reduced to `side` pixels (Lanczos), never enlarged, as WebP."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def transparent_map(labels: np.ndarray, side: int) -> bytes:
    """A label map, (S, S) uint8 of classes 0 to 20, reduced to `side` pixels (nearest, never
    enlarged), as palette PNG in the VOC colours, its background transparent."""
    small = resize_nearest(labels, min(side, len(labels)))
    used, places = np.unique(small, return_inverse=True)  # few colours: few bits a pixel
    image = Image.fromarray(places.reshape(small.shape).astype(np.uint8), "P")
    image.putpalette([value for index in used for value in COLOURS[index]])
    clear = {"transparency": 0} if used[0] == 0 else {}
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **clear)
    return buffer.getvalue()


def draw_pictures(
    columns: Sequence[Column], samples: Sequence[Sample], side: int
) -> tuple[str, dict]:
    """All pictures of the gallery.

    Args:
        columns: the folders.
        samples: what is shown of them.
        side: of the pictures, in pixels.

    Returns:
        The base64 of all, and the place of each in it, (first character, length) or None: `masks`
        by sample, `images` by sample and column, `overlays` by judge, sample and column.

    Raises:
        InputError: an image or a label map that was scored is gone or another.
    """
    pictures = Pictures()
    judges = dict.fromkeys(judge for column in columns for judge in column.rows)
    masks, images, overlays = [], [], {judge: [] for judge in judges}
    total = sum(bool(cell and "judged" in cell) for sample in samples for cell in sample.cells)
    with tqdm(total=total, desc="thumbnails", disable=None) as bar:
        for layout, number, cells in samples:
            masks.append(pictures.add(transparent_map(layout.class_map(side), side)))
            drawn, seen = [], {judge: [] for judge in judges}
            for column, cell in zip(columns, cells, strict=True):
                judged = cell.get("judged", {}) if cell else {}
                drawn.append(_image(pictures, column, layout.id, number, side) if judged else None)
                for judge, found in seen.items():
                    place = column.folder / "scores" / judge
                    shown = judge in judged
                    path = label_path(place, layout.id, number)
                    found.append(_overlay(pictures, path, side) if shown else None)
                bar.update(bool(judged))
            images.append(drawn)
            for judge, found in seen.items():
                overlays[judge].append(found)
    return pictures.text, {"masks": masks, "images": images, "overlays": overlays}


def _image(
    pictures: Pictures, column: Column, layout: str, sample: int, side: int
) -> tuple[int, int]:
    score = next(iter(column.rows.values())).score
    path = column.folder / f"{layout}-{sample}.png"
    return pictures.add(thumbnail(open_image(path, score.image_size, score.resized), side))


def _overlay(pictures: Pictures, path: Path, side: int) -> tuple[int, int]:
    return pictures.add(transparent_map(load_label_map(path), side))
