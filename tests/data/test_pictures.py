"""Every picture through one opener: formats, 16 bits, bounds, and what is no picture or no file."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tcig.data.errors import InputError
from tcig.data.files import read_file, sha256, write_whole
from tcig.data.pictures import (
    check_size,
    eight_bits,
    encode_png,
    open_picture,
    sound_png,
    whole_png,
)


def png(width, height):
    """A PNG of one bit a pixel, all black, of a few kilobytes whatever its size."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    packer = zlib.compressobj(9)
    row = b"\0" + bytes(-(-width // 8))
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


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
        (png(40, 40)[:45], "cannot be read as a picture"),
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


def test_sizes_have_one_bound():
    for size in [(1, 1), (20_000, 5_000), (10_000, 10_000)]:
        check_size(*size)
    for size in [
        (0, 5),
        (-1, 5),
        (20_001, 1),
        (10_001, 10_000),
        (1.0, 5),
        (True, 5),
        (None, 5),
        (10**5000, 1),
    ]:
        with pytest.raises(ValueError, match="expected integers from 1 to 20,000"):
            check_size(*size)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled(tmp_path, order):
    values = np.array([[0, 257, 128 * 257 + 100, 65535]], order)
    path = tmp_path / "grey.tif"
    Image.fromarray(values).save(path)
    assert np.asarray(eight_bits(open_picture(path), path)).tolist() == [[0, 1, 128, 255]]


def test_more_than_sixteen_bits_are_refused(tmp_path, refused):
    for number, values in enumerate(
        [np.ones((4, 4), np.float32), np.full((4, 4), 70_000, np.int32)]
    ):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(values).save(path)
        with refused(path, "16 bits"):
            eight_bits(open_picture(path), path)


@pytest.mark.parametrize("read", [read_file, open_picture, sha256])
def test_only_regular_files_are_read(tmp_path, refused, read):
    pipe, link = tmp_path / "pipe.png", tmp_path / "link.png"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, Path("/dev/zero")):
        with refused(path, "not a regular file"):
            read(path)
    with refused(tmp_path, "a folder"):
        read(tmp_path)
    with refused(tmp_path / "none", "No such file"):
        read(tmp_path / "none")


def test_files_of_many_gigabytes_are_not_read(tmp_path, refused):
    path = tmp_path / "sparse.json"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)
    with refused(path, "3,221,225,472 bytes"):
        read_file(path)


def test_a_write_names_its_file(tmp_path, refused, monkeypatch):
    with refused(tmp_path, "is a folder"):
        write_whole(tmp_path, "x")
    with pytest.raises(OSError, match="report") as caught:
        write_whole(tmp_path / "none" / "report.html", "x")
    assert caught.value.filename.endswith("none/report.html")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "report.html", "x")
    assert caught.value.filename == str(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_content_that_was_read_before_is_not_read_again(tmp_path):
    content = encode_png(Image.new("L", (3, 3)))
    assert open_picture(tmp_path / "gone.png", content).size == (3, 3)
    with pytest.raises(InputError, match="; draw it again"):
        open_picture(tmp_path / "gone.png", fix="draw it again")


def noise(mode="RGB", side=9, **settings):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 4), np.uint8)
    image = Image.fromarray(pixels if "A" in mode else pixels[..., :3])
    return encode_png(image.convert(mode), **settings)


def test_opaque_pngs_of_the_size_are_sound():
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "a cat")
    for mode in ("RGB", "L", "P", "1"):
        assert sound_png(noise(mode, pnginfo=text), 9)
    assert noise(side=300).count(b"IDAT") > 1
    assert sound_png(noise(side=300), 300)


@pytest.mark.parametrize(
    "content",
    [
        noise("RGBA"),
        noise("LA"),
        noise(transparency=(1, 2, 3)),
        noise("P", transparency=0),
        noise("I;16"),
        noise(side=10),
        noise() + b"\0",
        encode_png(Image.new("RGB", (10, 9))),
        b"",
        b"GIF89a",
    ],
)
def test_pngs_that_may_be_refused_are_not_sound(content):
    assert not sound_png(content, 9)


def test_no_change_of_a_png_goes_unseen(tmp_path):
    content, path = noise(), tmp_path / "image.png"
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x41
        assert not sound_png(bytes(changed), 9), place
        assert not sound_png(content[:place], 9), place
        path.write_bytes(content[:place])
        assert not whole_png(path), place
    path.write_bytes(content)
    assert whole_png(path)
    assert not whole_png(tmp_path)
