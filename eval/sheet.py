"""A contact sheet of a scored folder: image, truth and what the judge saw, with the IoU."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcig.data.files import write_whole
from tcig.data.layout import Layout
from tcig.data.masks import load_label_map
from tcig.data.pictures import open_picture
from tcig.data.voc import BY_LABEL, COLOURS

CELL, TEXT = 160, 15


def write_sheet(
    path: Path, samples: Sequence[tuple[Layout, Path, Path, dict[str, float | None]]]
) -> None:
    """Writes a PNG with a column per sample: image, truth, the judge's label map, IoU per class.

    Args:
        path: the PNG.
        samples: layout, image file, label map file, and the IoU of each of its classes by label.
    """
    lines = max(len(ious) for *_, ious in samples) + 1
    sheet = Image.new("RGB", (len(samples) * (CELL + 4), 3 * (CELL + 4) + lines * TEXT), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(TEXT - 3)
    for column, (layout, image, labels, ious) in enumerate(samples):
        left = column * (CELL + 4)
        shown = open_picture(image).convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS)
        sheet.paste(shown, (left, 0))
        sheet.paste(_coloured(layout.class_map(CELL)), (left, CELL + 4))
        sheet.paste(_coloured(load_label_map(labels)), (left, 2 * (CELL + 4)))
        top = 3 * (CELL + 4)
        draw.text((left + 2, top), f"layout {layout.id}", "black", font)
        for row, (label, iou) in enumerate(ious.items(), start=1):
            text = f"{label} {'covered' if iou is None else f'{iou:.2f}'}"
            draw.text((left + 14, top + row * TEXT), text, "black", font)
            swatch = (left + 2, top + row * TEXT + 3, left + 10, top + row * TEXT + 11)
            draw.rectangle(swatch, COLOURS[BY_LABEL[label].index])
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())


def _coloured(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(np.array(COLOURS, np.uint8)[labels])
    return image.resize((CELL, CELL), Image.Resampling.NEAREST)
