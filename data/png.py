"""What a PNG tells of itself without being decoded (W3C's PNG specification, 5 and 11)."""

import os
import zlib
from pathlib import Path

from tcig.data.errors import InputError
from tcig.data.files import check_regular

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
"""The last chunk of every whole PNG (11.2.5)."""
BIT_DEPTH = 24
"""Place of it in a file, in the chunk IHDR (11.2.2)."""
OPAQUE = (0, 2, 3)
"""Colour types without an alpha channel: grey, RGB, palette (11.2.2)."""


def whole_png(path: Path) -> bool:
    """Whether a PNG is there to its end: a crash of the machine may leave half of one."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except (OSError, InputError):
        return False


def sound_png(content: bytes, size: int) -> bool:
    """Whether it surely is an opaque PNG of `size` x `size` and at most 8 bits a channel.

    Its chunks stand whole, by their checksums, to the last. Of a PNG that only may be transparent
    this is False.
    """
    start = SIGNATURE + b"\x00\x00\x00\x0dIHDR" + size.to_bytes(4) * 2
    if not content.startswith(start) or not content.endswith(PNG_END):
        return False
    if content[BIT_DEPTH] > 8 or content[BIT_DEPTH + 1] not in OPAQUE:
        return False
    place, view = len(SIGNATURE), memoryview(content)
    while place < len(content):
        end = place + 8 + int.from_bytes(view[place : place + 4])
        checksum = int.from_bytes(view[end : end + 4])
        if view[place + 4 : place + 8] == b"tRNS" or checksum != zlib.crc32(view[place + 4 : end]):
            return False
        place = end + 4
    return place == len(content)
