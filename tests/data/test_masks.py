"""Masks against pycocotools, Pillow and torch; label maps on disk; palettes; imperfect masks."""

import numpy as np
import pytest
import torch
from coco_folder import box, runs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools.coco import COCO
from scipy.ndimage import binary_dilation, binary_erosion

from tcig.data.emoji import FOLDER
from tcig.data.files import InputError
from tcig.data.filters import Filter
from tcig.data.layout import imperfect
from tcig.data.manifest import build_layouts
from tcig.data.masks import (
    IMPERFECTIONS,
    area,
    crop_square,
    decode,
    dilated,
    encode,
    encode_label_map,
    eroded,
    label_map,
    load_label_map,
    parse_masks,
    resize_nearest,
    shifted,
    to_rle,
)
from tcig.data.voc import BY_LABEL, CLASSES, COLOURS, PALETTES, painted

quick = settings(max_examples=40, deadline=None, database=None)
sides = st.integers(1, 24)


def test_real_masks_are_those_of_pycocotools(sample, capsys):
    coco = COCO(sample / "annotations" / "instances_val2017.json")
    assert len(coco.anns) == 382
    for annotation in coco.anns.values():
        image = coco.imgs[annotation["image_id"]]
        rle = to_rle(annotation["segmentation"], image["height"], image["width"])
        pixels = decode(rle)
        assert pixels.dtype == bool
        assert (pixels == coco.annToMask(annotation)).all()
        assert area(rle) == pixels.sum()


@quick
@given(st.tuples(sides, sides).flatmap(lambda shape: arrays(bool, shape)))
def test_encoding_is_lossless_and_runs_go_column_by_column(mask):
    rle = encode(mask)
    assert isinstance(rle["counts"], str)
    assert rle["size"] == list(mask.shape)
    assert (decode(rle) == mask).all()
    assert area(rle) == mask.sum()
    column = [False, *mask.ravel("F").tolist()]
    starts = [i for i in range(1, len(column)) if column[i] != column[i - 1]]
    counts = np.diff([1, *starts, len(column)]).tolist()
    assert to_rle(runs(*counts, size=mask.shape), *mask.shape) == rle
    assert to_rle(rle, *mask.shape) == rle


def test_polygons_of_one_annotation_are_united():
    pixels = decode(to_rle([*box(1, 2, 4, 3), *box(3, 3, 4, 5)], 10, 12))
    expected = np.zeros((10, 12), bool)
    expected[2:5, 1:5] = expected[3:8, 3:7] = True
    assert (pixels == expected).all()


@pytest.mark.parametrize(
    ("shape", "square"),
    [((4, 4), (0, 0, 4)), ((4, 7), (0, 1, 4)), ((9, 4), (2, 0, 4)), ((427, 640), (0, 106, 427))],
)
def test_the_centre_square_leaves_the_odd_pixel_below_and_right(shape, square):
    top, left, side = square
    pixels = np.arange(np.prod(shape) * 3).reshape(*shape, 3)
    assert (crop_square(pixels) == pixels[top : top + side, left : left + side]).all()


@pytest.mark.parametrize("side", [1, 3, 128, 375, 427, 640])
def test_resizing_is_pillows(side):
    pixels = np.arange(side * side, dtype=np.int32).reshape(side, side)
    for size in (1, 8, 64, 128, 512):
        pillow = Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST)
        assert (resize_nearest(pixels, size) == np.asarray(pillow)).all()


@quick
@given(st.integers(1, 700), st.integers(1, 700))
def test_resizing_is_torchs(side, size):
    row = np.broadcast_to(np.arange(side), (side, side))
    tensor = torch.arange(side, dtype=torch.float64)[None, None]
    expected = torch.nn.functional.interpolate(tensor, size=size, mode="nearest-exact")[0, 0]
    resized = resize_nearest(row, size)
    assert resized.shape == (size, size)
    assert (resized == expected.numpy()).all()


@quick
@given(arrays(bool, st.tuples(st.integers(0, 5), st.just(9), st.just(9))), st.integers(1, 20))
def test_label_map_shows_the_smallest_object(stack, size):
    """Areas are those before resizing."""
    classes = [3 + 2 * i for i in range(len(stack))]
    labels = label_map(list(stack), classes, size)
    assert (labels.shape, labels.dtype) == ((size, size), np.uint8)
    for y, x in np.ndindex(size, size):
        here = [
            (mask.sum(), -place)
            for place, mask in enumerate(stack)
            if mask[(2 * y + 1) * 9 // (2 * size), (2 * x + 1) * 9 // (2 * size)]
        ]
        assert labels[y, x] == (classes[-min(here)[1]] if here else 0)


def test_label_map_on_disk(tmp_path):
    labels = np.arange(21, dtype=np.uint8).reshape(3, 7)
    path = tmp_path / "map.png"
    path.write_bytes(encode_label_map(labels))
    assert (load_label_map(path) == labels).all()
    with Image.open(path) as image:
        assert image.mode == "P"
        assert (np.asarray(image.convert("RGB")) == np.array(COLOURS)[labels]).all()
    # the devkit's airplane, person and tv
    assert [COLOURS[n] for n in (1, 15, 20)] == [(128, 0, 0), (192, 128, 128), (0, 64, 128)]


def test_other_images_are_not_label_maps(tmp_path, refused):
    path = tmp_path / "map.png"
    maps = [encode_label_map(np.full((40, 40), value, np.uint8)) for value in (21, 20)]
    for content, word in ((maps[0], "21"), (maps[1][:-30], "cannot be read")):
        path.write_bytes(content)
        with refused(path, word):
            load_label_map(path)
    grey = Image.fromarray(np.full((4, 4), 3, np.uint8))
    for form, mode in [("GIF", "P"), ("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "L")]:
        grey.convert(mode).save(path, form)
        with refused(path, form, f"mode {mode}"):
            load_label_map(path)
    path.unlink()
    with refused(path):
        load_label_map(path)


@pytest.mark.parametrize("name", PALETTES)
def test_every_class_has_a_colour_and_only_ade20k_shares_some(name):
    palette = PALETTES[name]
    assert palette.keys() == BY_LABEL.keys()
    assert (0, 0, 0) not in palette.values()
    shared = [[k for k, v in palette.items() if v == c] for c in sorted(set(palette.values()))]
    animals = ["bird", "cat", "cow", "dog", "horse", "sheep"]
    expected = [animals, ["bus", "train"]] if name == "ade20k" else []
    assert [labels for labels in shared if len(labels) > 1] == expected
    labels = np.arange(21, dtype=np.uint8).reshape(3, 7)
    colours = [(0, 0, 0), *(palette[voc.label] for voc in CLASSES)]
    assert (painted(labels, name) == np.array(colours, np.uint8)[labels]).all()


def test_the_colours_of_coco_stuff_deal_the_bits_of_the_id_to_three_channels():
    """The lowest bit is red's highest, the next green's, blue's, then red's second, and so on."""
    for voc in CLASSES:
        bits = f"{voc.coco_id:024b}"[::-1]
        channels = (bits[start::3] for start in range(3))
        assert PALETTES["coco-stuff"][voc.label] == tuple(int(c, 2) for c in channels)


SQUARE = np.zeros((60, 60), bool)
SQUARE[20:40, 10:30] = True  # of size 20: an amount of 0.15 is 3 pixels
DISC = np.hypot(*(np.indices((7, 7)) - 3)) <= 3


@pytest.fixture(scope="module")
def layouts():
    return build_layouts(FOLDER, Filter())[1][:16]


def overlap(layouts, others):
    """IoU of each region with its other, by layout and region."""
    pairs = [
        (a.pixels, b.pixels)
        for one, other in zip(layouts, others, strict=True)
        for a, b in zip(one.regions, other.regions, strict=True)
    ]
    return np.array([(a & b).sum() / (a | b).sum() for a, b in pairs])


def test_against_morphology():
    assert (dilated(SQUARE, 0.15, None) == binary_dilation(SQUARE, DISC)).all()
    assert (eroded(SQUARE, 0.15, None) == binary_erosion(SQUARE, DISC)).all()
    for seed in range(8):
        moved = shifted(SQUARE, 0.25, np.random.default_rng(seed))
        apart = np.argwhere(moved).mean(0) - np.argwhere(SQUARE).mean(0)
        assert moved.sum() == SQUARE.sum()
        assert np.hypot(*apart) == pytest.approx(5, abs=0.8)


@pytest.mark.parametrize("kind", IMPERFECTIONS)
def test_a_mask_is_imperfect_and_still_the_object(kind, layouts):
    found = imperfect(layouts, kind)
    iou = overlap(layouts, found)
    assert (iou < 1).mean() > 0.9
    assert (0.2 < iou.mean() < 0.4) if kind == "scribble" else (0.6 < iou.mean() < 0.75)
    for one, other in zip(layouts, found, strict=True):
        assert one.model_copy(update={"regions": other.regions}) == other
        for before, after in zip(one.regions, other.regions, strict=True):
            assert after.pixels.any()
            assert kind != "eroded" or (after.pixels <= before.pixels).all()
            assert kind != "dilated" or (after.pixels >= before.pixels).all()
    again = imperfect(layouts[::-1], f"{kind}:{IMPERFECTIONS[kind][1]}")[::-1]
    assert found == again  # an object's masks depend on nothing else


def test_more_is_worse(layouts):
    for kind in ("eroded", "dilated", "shifted"):
        means = [overlap(layouts, imperfect(layouts, f"{kind}:{a}")).mean() for a in (0, 0.1, 0.3)]
        assert means[0] == 1
        assert means[0] > means[1] + 0.05 > means[2] + 0.1
    assert imperfect(layouts, "true") == layouts


@pytest.mark.parametrize("text", ["blurred", "eroded:much", "eroded:-1", "dilated:2", "", "true:1"])
def test_an_unknown_kind_or_amount_is_refused(text):
    with pytest.raises(InputError, match="masks"):
        parse_masks(text)
