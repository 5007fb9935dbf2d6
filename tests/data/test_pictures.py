"""Every picture through one opener: formats, 16 bits, bounds, and what is no picture or no file."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tcig.data.pictures import (
    eight_bits,
    encode_png,
    open_picture,
    whole_png,
)


def png(width, height):
    """A PNG of one bit a pixel that ends before its pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_formats_of_pictures_are_read(tmp_path, form):
    path = tmp_path / "picture"
    Image.new("RGB", (9, 5), "red").save(path, form)
    picture = open_picture(path)
    assert (picture.size, picture.format) == ((9, 5), form)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"<html></html>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (png(40, 40), "cannot be read as a picture"),
        (png(20_001, 1), "size 20001 x 1"),
        (png(10_001, 10_000), "size 10001 x 10000"),
    ],
    ids=["empty", "a page", "PostScript", "cut", "too wide", "too many pixels"],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, refused, content, said):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with refused(path, said):
        open_picture(path)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled(tmp_path, order):
    values = np.array([[0, 257, 128 * 257 + 100, 65535]], order)
    path = tmp_path / "grey.tif"
    Image.fromarray(values).save(path)
    assert np.asarray(eight_bits(open_picture(path), path)).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("values", [np.ones((4, 4), np.float32), np.full((4, 4), 70_000, np.int32)])
def test_more_than_sixteen_bits_are_refused(tmp_path, refused, values):
    path = tmp_path / "grey.tif"
    Image.fromarray(values).save(path)
    with refused(path, "16 bits"):
        eight_bits(open_picture(path), path)


def test_only_a_whole_png_is_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    content, path = encode_png(Image.fromarray(pixels)), tmp_path / "image.png"
    for place in range(len(content)):
        path.write_bytes(content[:place])
        assert not whole_png(path), place
    path.write_bytes(content)
    assert whole_png(path)
    assert not whole_png(tmp_path)
