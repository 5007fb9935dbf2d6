"""Opens and writes every picture: photographs, drawn masks, generated images, label maps."""

import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tcig.data.files import InputError, check_regular, read_file, shown

MAX_SIDE = 20_000
MAX_PIXELS = 10**8
"""Bounds of every picture, mask and canvas, in pixels (our choice)."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Pillow's names of the formats that are read. Others may start programs, as EPS does."""
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of grey with more than 8 bits."""
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
"""The last chunk of every whole PNG (W3C's PNG specification, 11.2.5)."""
BIT_DEPTH = 24
"""Place of a PNG's bit depth in its file (11.2.2)."""


def check_size(width: object, height: object) -> None:
    """Checks that a size in pixels can be held in memory.

    Raises:
        ValueError: a side is not an integer from 1 to `MAX_SIDE`, or the product exceeds
            `MAX_PIXELS`.
    """
    sides = (width, height)
    if any(type(side) is not int or not 0 < side <= MAX_SIDE for side in sides) or (
        width * height > MAX_PIXELS
    ):
        raise ValueError(
            f"size {shown(width)} x {shown(height)}; expected integers from 1 to "
            f"{MAX_SIDE:,} and at most {MAX_PIXELS:,} pixels"
        )


def open_picture(path: Path, content: bytes | None = None, fix: str = "") -> Image.Image:
    """Decodes a picture whole.

    Args:
        path: the file.
        content: its bytes, where they were read before.
        fix: what the user can do, for the message.

    Returns:
        The picture in its own mode, loaded; `format` is set.

    Raises:
        InputError: it is missing, not a regular file, not a picture, damaged or too large.
    """
    content = read_file(path, fix) if content is None else content
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        check_size(*picture.size)
        picture.load()
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        if reason.startswith("cannot identify image file"):
            reason = "not a picture" if content else "the file is empty"
        raise InputError(
            f"{path} cannot be read as a picture ({reason}){f'; {fix}' if fix else ''}."
        ) from None
    return picture


def as_annotated(picture: Image.Image, size: tuple[int, int] | None) -> Image.Image | None:
    """The picture in the annotation's width and height; turned as its EXIF says only if that fits.

    Args:
        picture: as stored in its file.
        size: width and height of the annotation, None if unknown or square.

    Returns:
        None if it fits neither way.
    """
    if size is None or picture.size == size:
        return picture
    with suppress(Exception):  # of damaged EXIF
        turned = ImageOps.exif_transpose(picture)
        return turned if turned.size == size else None
    return None


def eight_bits(picture: Image.Image, path: Path) -> Image.Image:
    """The picture with 8 bits a channel; grey of 16 bits is scaled by 1/257.

    Raises:
        InputError: its grey values are not of 8 or 16 bits.
    """
    if picture.mode in SIXTEEN_BITS:
        values = np.asarray(picture)
        if values.min() >= 0 and values.max() <= 65535:
            return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if picture.mode in ("F", *SIXTEEN_BITS):
        raise InputError(
            f"{path} has grey values of more than 16 bits (mode {picture.mode}); save it with 8 "
            "or 16 bits a channel."
        )
    return picture


def encode_png(picture: Image.Image, **settings: int) -> bytes:
    """The bytes of a PNG file; `settings` are those of Pillow's PNG writer."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **settings)
    return buffer.getvalue()


def whole_png(path: Path) -> bool:
    """Checks that a PNG reaches its end: a crash of the machine may leave half of one."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except (OSError, InputError):
        return False
