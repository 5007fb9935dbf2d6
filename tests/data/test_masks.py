import os

import numpy as np
import pytest
import torch
from coco_folder import box, runs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools.coco import COCO

from tcig.data.files import sha256, write_whole
from tcig.data.masks import (
    area,
    centre_square,
    crop_square,
    decode,
    encode,
    encode_label_map,
    label_map,
    load_label_map,
    resize_nearest,
    to_rle,
)
from tcig.data.voc import COLOURS

quick = settings(max_examples=40, deadline=None, database=None)
sides = st.integers(1, 24)
masks = st.tuples(sides, sides).flatmap(lambda shape: arrays(bool, shape))


def test_real_masks_are_those_of_pycocotools(sample, capsys):
    coco = COCO(sample / "annotations" / "instances_val2017.json")
    assert len(coco.anns) == 382
    for annotation in coco.anns.values():
        image = coco.imgs[annotation["image_id"]]
        rle = to_rle(annotation["segmentation"], image["height"], image["width"])
        pixels = decode(rle)
        assert pixels.dtype == bool
        assert np.array_equal(pixels, coco.annToMask(annotation))
        assert area(rle) == pixels.sum()
        again = encode(pixels)
        assert again["size"] == [image["height"], image["width"]]
        assert np.array_equal(decode(again), pixels)


@quick
@given(masks)
def test_encoding_is_lossless(mask):
    rle = encode(mask)
    assert isinstance(rle["counts"], str)
    assert rle["size"] == list(mask.shape)
    assert np.array_equal(decode(rle), mask)
    assert area(rle) == mask.sum()


@quick
@given(masks)
def test_uncompressed_runs_go_column_by_column(mask):
    column = [False, *mask.ravel("F").tolist()]
    starts = [i for i in range(1, len(column)) if column[i] != column[i - 1]]
    counts = np.diff([1, *starts, len(column)]).tolist()
    rle = to_rle(runs(*counts, size=mask.shape), *mask.shape)
    assert rle == encode(mask)
    assert to_rle(rle, *mask.shape) == rle


def test_polygons_of_one_annotation_are_united():
    pixels = decode(to_rle([*box(1, 2, 4, 3), *box(3, 3, 4, 5)], 10, 12))
    expected = np.zeros((10, 12), bool)
    expected[2:5, 1:5] = expected[3:8, 3:7] = True
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("shape", "square"),
    [
        ((4, 4), (0, 0, 4)),
        ((4, 6), (0, 1, 4)),
        ((4, 7), (0, 1, 4)),
        ((9, 4), (2, 0, 4)),
        ((5, 4), (0, 0, 4)),
        ((427, 640), (0, 106, 427)),
    ],
)
def test_centre_square_leaves_the_odd_pixel_below_and_right(shape, square):
    assert centre_square(*shape) == square
    top, left, side = square
    pixels = np.arange(np.prod(shape) * 3).reshape(*shape, 3)
    assert np.array_equal(crop_square(pixels), pixels[top:, left:][: min(shape), : min(shape)])
    assert crop_square(pixels[..., 0]).shape == (side, side)


@pytest.mark.parametrize("side", [1, 2, 3, 100, 128, 375, 427, 480, 512, 640])
@pytest.mark.parametrize("size", [1, 8, 32, 64, 128, 512])
def test_resizing_is_pillows_and_torchs(side, size):
    pixels = np.arange(side * side, dtype=np.int32).reshape(side, side)
    resized = resize_nearest(pixels, size)
    pillow = Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST)
    assert np.array_equal(resized, pillow)
    tensor = torch.tensor(pixels, dtype=torch.float64)[None, None]
    expected = torch.nn.functional.interpolate(tensor, size=(size, size), mode="nearest-exact")
    assert np.array_equal(resized, expected[0, 0].numpy())


@quick
@given(st.integers(1, 700), st.integers(1, 700))
def test_resizing_to_any_size_is_torchs(side, size):
    row = np.broadcast_to(np.arange(side), (side, side))
    tensor = torch.arange(side, dtype=torch.float64)[None, None]
    expected = torch.nn.functional.interpolate(tensor, size=size, mode="nearest-exact")[0, 0]
    resized = resize_nearest(row, size)
    assert resized.shape == (size, size)
    assert np.array_equal(resized, np.broadcast_to(expected.numpy(), (size, size)))


@quick
@given(arrays(bool, st.tuples(st.integers(0, 5), st.just(9), st.just(9))), st.integers(1, 20))
def test_label_map_shows_the_smallest_object(stack, size):
    stack = list(stack)
    classes = [3 + 2 * i for i in range(len(stack))]
    labels = label_map(stack, classes, size)
    assert labels.shape == (size, size)
    assert labels.dtype == np.uint8
    for y, x in np.ndindex(size, size):
        here = [
            (mask.sum(), -place)
            for place, mask in enumerate(stack)
            if mask[(2 * y + 1) * 9 // (2 * size), (2 * x + 1) * 9 // (2 * size)]
        ]
        assert labels[y, x] == (classes[-min(here)[1]] if here else 0)


def test_label_map_compares_areas_before_resizing():
    """At 2 x 2 pixels both masks fill the map; the second is the larger one at its own size."""
    small, large = np.zeros((2, 8, 8), bool)
    small[1::2, 1::2] = small[2::4, 2::4] = True
    large[:] = True
    for order in (1, -1):
        labels = label_map([small, large][::order], [4, 9][::order], 2)
        assert np.array_equal(labels, np.full((2, 2), 4))


def test_label_map_on_disk(tmp_path):
    labels = np.arange(21, dtype=np.uint8).reshape(3, 7)
    path = tmp_path / "map.png"
    path.write_bytes(encode_label_map(labels))
    assert np.array_equal(load_label_map(path), labels)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGB")), np.array(COLOURS)[labels])
    assert COLOURS[0] == (0, 0, 0)
    assert COLOURS[1] == (128, 0, 0)
    assert COLOURS[15] == (192, 128, 128)  # person
    assert COLOURS[20] == (0, 64, 128)  # tv


def _write_map(path, kind):
    grey = Image.fromarray(np.full((4, 4), 3, np.uint8))
    if kind == "value 21":
        path.write_bytes(encode_label_map(np.full((4, 4), 21, np.uint8)))
    elif kind == "text":
        path.write_text("no image")
    elif kind == "cut":
        path.write_bytes(encode_label_map(np.tile(np.arange(20, dtype=np.uint8), (20, 1)))[:-30])
    elif kind == "GIF":
        grey.convert("P").save(path, kind)
    elif kind == "JPEG":
        grey.convert("RGB").save(path, kind)
    elif kind in ("RGB", "L"):
        grey.convert(kind).save(path, "PNG")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("value 21", "21"),
        ("JPEG", "JPEG"),
        ("RGB", "RGB"),
        ("L", "mode L"),
        ("GIF", "GIF"),
        ("text", ""),
        ("cut", ""),
        ("absent", ""),
    ],
)
def test_other_images_are_no_label_maps(tmp_path, refused, kind, word):
    path = tmp_path / "map.png"
    _write_map(path, kind)
    with refused(path, word):
        load_label_map(path)


@pytest.mark.parametrize("content", ["text é\n", b"\x00bytes"])
def test_write_whole(tmp_path, content):
    path = tmp_path / "file"
    for _ in range(2):
        write_whole(path, content)
    data = content.encode() if isinstance(content, str) else content
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, before, failing):
    path = tmp_path / "file"
    if before:
        path.write_bytes(before)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == (
        {"file": before} if before else {}
    )
