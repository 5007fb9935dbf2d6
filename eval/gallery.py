"""A grid of images with names for its rows and columns, as one PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tcig.data.files import write_whole

CELL, GAP, MARGIN, HEAD = 96, 3, 100, 18


def write_grid(
    path: Path,
    grid: Sequence[Sequence[Image.Image]],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> None:
    """Writes a PNG of `grid`, a sequence of rows of images.

    Args:
        path: the PNG.
        grid: images of any size and mode; each is drawn 96 pixels a side, pixels kept square.
        rows: a name for each row, or none.
        columns: a name for each column, or none.
    """
    left, top = MARGIN if rows else 0, HEAD if columns else 0
    width = max(map(len, grid))
    size = (left + width * (CELL + GAP), top + len(grid) * (CELL + GAP))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, name in enumerate(columns):
        draw.text((left + column * (CELL + GAP), 1), name, "black", font)
    for row, images in enumerate(grid):
        y = top + row * (CELL + GAP)
        if rows:
            draw.text((2, y + CELL // 2 - 6), rows[row], "black", font)
        for column, image in enumerate(images):
            cell = image.convert("RGB").resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(cell, (left + column * (CELL + GAP), y))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    write_whole(path, buffer.getvalue())
