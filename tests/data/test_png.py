"""PNGs told from their chunks alone, against Pillow, which decodes them."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tcig.data.png import sound_png

SIDE = 9


def encoded(mode: str = "RGB", size: int = SIDE, **settings) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 4), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels if "A" in mode else pixels[..., :3])
    image.convert(mode).save(buffer, "PNG", **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_opaque_ones_of_the_size_are_sound(mode):
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "a cat")
    assert sound_png(encoded(mode, pnginfo=text), SIDE)


def test_many_chunks_of_pixels_are_sound():
    content = encoded(size=300)
    assert content.count(b"IDAT") > 1
    assert sound_png(content, 300)


@pytest.mark.parametrize(
    "content",
    [
        encoded("RGBA"),
        encoded("LA"),
        encoded(transparency=(1, 2, 3)),
        encoded("P", transparency=0),
        encoded("I;16"),
        encoded(size=SIDE + 1),
        encoded() + b"\0",
        b"",
        b"GIF89a",
    ],
)
def test_what_may_be_refused_is_not(content):
    assert not sound_png(content, SIDE)


def test_a_wide_one_is_not():
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE + 1, SIDE)).save(buffer, "PNG")
    assert not sound_png(buffer.getvalue(), SIDE)


def test_no_other_byte_goes_unseen_anywhere():
    content = encoded()
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 0x41
        assert not sound_png(bytes(broken), SIDE), place


def test_no_end_that_lacks_goes_unseen():
    content = encoded()
    assert not any(sound_png(content[:end], SIDE) for end in range(len(content)))
