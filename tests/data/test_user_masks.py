"""Masks that a user drew: colours with soft edges, a picture for each object, JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tcig.data.files import InputError
from tcig.data.layout import export_layouts
from tcig.data.masks import encode
from tcig.data.user_masks import drawn_layout, parse_legend
from tcig.data.voc import BY_LABEL, COLOURS

LEGEND = parse_legend(["#ff0000=cat", "blue=bus"])
NOISE = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)


def picture(size=64, background="white", **boxes):
    image = Image.new("RGB", (size, size), background)
    for colour, box in boxes.items():
        ImageDraw.Draw(image).rectangle(box, colour)
    return image


def pixels(layout, label):
    (region,) = (region for region in layout.regions if region.label == label)
    return region.pixels


@pytest.fixture
def save(tmp_path):
    def write(content, name="mask.png"):
        path = tmp_path / name
        if isinstance(content, Image.Image):
            content.save(path)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8-sig")
        return path

    return write


def refuse(match, *paths, legend=LEGEND):
    with pytest.raises(InputError, match=match) as caught:
        drawn_layout("a prompt", paths, legend)
    assert "\n" not in str(caught.value)


def test_colours_become_regions(save):
    path = save(picture(red=(4, 8, 20, 30), blue=(40, 40, 60, 60)))
    layout = drawn_layout("a cat and a bus", [path], LEGEND)
    assert (layout.caption, layout.side) == ("a cat and a bus", 64)
    assert {region.label for region in layout.regions} == {"cat", "bus"}
    expected = np.zeros((64, 64), bool)
    expected[8:31, 4:21] = True
    assert (pixels(layout, "cat") == expected).all()


def test_without_a_legend_the_palette_is_vocs(save):
    labels = np.zeros((32, 32), np.uint8)
    labels[:10], labels[20:] = BY_LABEL["dog"].index, BY_LABEL["tv"].index
    coloured = Image.fromarray(np.array(COLOURS, np.uint8)[labels])
    palette = Image.fromarray(labels, "P")
    palette.putpalette([value for colour in COLOURS for value in colour])
    for image in (coloured, palette):
        assert (drawn_layout("", [save(image)], {}).class_map(32) == labels).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), radius=st.integers(30, 120))
def test_soft_edges_take_the_nearest_colour(tmp_path_factory, seed, radius):
    x, y = np.random.default_rng(seed).integers(130, 270, 2)
    large = picture(400, blue=(20, 20, 380, 120))
    ImageDraw.Draw(large).ellipse((x - radius, y - radius, x + radius, y + radius), "red")
    path = tmp_path_factory.mktemp("soft") / "mask.png"
    large.resize((100, 100), Image.Resampling.LANCZOS).save(path)
    layout = drawn_layout("", [path], LEGEND)
    sharp = np.asarray(large.resize((100, 100), Image.Resampling.BOX)).astype(int)
    cat = (sharp[..., 0] > 160) & (sharp[..., 2] < 90)
    assert (pixels(layout, "cat") ^ cat).mean() < 0.01
    assert not (pixels(layout, "cat") & pixels(layout, "bus")).any()


def test_unknown_colours_are_named_and_a_stray_pixel_is_not(save):
    path = save(picture(red=(4, 8, 20, 30), lime=(40, 40, 60, 60)))
    refuse(r"colours that the legend lacks: #00ff00 \(441 pixels\)", path)
    path = save(picture(red=(4, 8, 20, 30), purple=(40, 40, 60, 60)))  # red and blue mixed
    refuse("#800080", path)
    image = picture(red=(0, 0, 31, 31), blue=(32, 0, 63, 31))
    image.putpixel((31, 32), (150, 90, 170))
    assert len(drawn_layout("", [save(image)], LEGEND).regions) == 2
    refuse("colours, as a photograph", save(Image.fromarray(NOISE)))


def test_a_picture_for_each_object(save):
    first = save(picture(32, "black", white=(0, 0, 9, 9)), "cat-1.png")
    second = save(picture(32, "black", white=(5, 5, 20, 20)).convert("L"), "cat-2.png")
    third = save(picture(32, "black", white=(25, 25, 30, 30)), "potted_plant.png")
    layout = drawn_layout("", [first, second, third], {})
    assert [region.label for region in layout.regions] == ["cat", "cat", "potted plant"]
    assert [int(region.pixels.sum()) for region in layout.regions] == [100, 256, 36]
    (alone,) = drawn_layout("", [first], {}).regions
    assert alone.label == "cat"


def disc(colour, ground, mode="RGB", size=64):
    """A disc of 24 pixels, drawn at four times the size so that its edge is soft."""
    image = Image.new(mode, (4 * size,) * 2, ground)
    ImageDraw.Draw(image).ellipse((4 * 20, 4 * 20, 4 * 44, 4 * 44), colour)
    return image.resize((size, size), Image.Resampling.LANCZOS)


DISC = np.hypot(*(np.indices((64, 64)) + 0.5 - 32.25)) <= 12.2


def difference(path, legend=None, label="cat"):
    """Pixels by which a mask is not the disc."""
    return int((pixels(drawn_layout("", [path], legend or {}), label) ^ DISC).sum())


@pytest.mark.parametrize(
    ("colour", "ground"), [("white", "black"), ("navy", "white"), ("#777", "#bbb")]
)
def test_an_object_is_what_differs_from_the_border(save, colour, ground):
    for form in ("png", "jpg"):
        assert difference(save(disc(colour, ground), f"cat.{form}")) < 40
    image = disc(colour, ground)
    ImageDraw.Draw(image).rectangle((26, 26, 38, 38), "#e0e0e0")  # an object of two colours
    assert difference(save(image, "cat.png")) < 60


@pytest.mark.parametrize("ground", [300, 65535])
def test_sixteen_bits_make_the_same_mask(save, ground):
    soft = np.asarray(disc(255, 0, "L")).astype(float) / 255
    values = ground + soft * (65_300 - ground if ground < 60_000 else -ground)
    assert difference(save(Image.fromarray(values.astype(np.uint16)), "cat.png")) < 40


def test_an_object_may_touch_the_border_unless_that_tells_nothing(save):
    mask = pixels(drawn_layout("", [save(picture(red=(0, 40, 63, 63)), "dog.png")], {}), "dog")
    assert mask[40:].all()
    assert not mask[:40].any()
    noise = save(Image.fromarray(NOISE[:32, :32]), "cat.png")
    refuse("border has no colour that most of it", noise, legend={})
    refuse("no object", save(Image.new("RGB", (32, 32), "red"), "dog.png"), legend={})


@pytest.mark.parametrize("hidden", [(0, 0, 0, 0), (255, 255, 255, 0), (0, 0, 255, 0)])
@pytest.mark.parametrize("ink", [(0, 0, 0, 255), (255, 0, 0, 255)])
def test_ink_on_a_transparent_layer_is_the_object(save, hidden, ink):
    image = disc(ink, hidden, "RGBA")
    assert difference(save(image, "cat.png")) < 40
    assert difference(save(image, "scene.png"), LEGEND | {(0, 0, 0): "cat"}) < 40
    palette = save(image.quantize(), "dog.png")  # transparency as a palette PNG has it
    assert difference(palette, label="dog") < 60


def test_exported_masks_are_taken_as_they_are(tmp_path, box_layout):
    layout = box_layout(64, cat=(0, 60, 0, 64), bus=(62, 64, 5, 9))  # the cat has the border
    export_layouts([layout], tmp_path / "e", 64, 1)
    drawn = drawn_layout("", sorted((tmp_path / "e" / "masks").iterdir()), {})
    assert [region.label for region in drawn.regions] == ["cat", "bus"]
    for region, other in zip(drawn.regions, layout.regions, strict=True):
        assert (region.pixels == other.pixels).all()
    classes = drawn_layout("", [tmp_path / "e" / "classes" / f"{layout.id}.png"], {})
    assert (classes.class_map(64) == layout.class_map(64)).all()


SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]
COCO = {
    "images": [{"id": 7, "width": 20, "height": 20, "file_name": "x.jpg"}],
    "categories": [{"id": 17, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 17, "segmentation": SQUARE}],
}


def test_json_of_coco_segmentations(save):
    layout = drawn_layout("", [save(COCO, "masks.JSON")], {})  # with a byte order mark
    assert layout.side == 20
    assert int(pixels(layout, "cat").sum()) == 64
    mask = np.zeros((20, 20), bool)
    mask[3:9, 4:15] = True
    records = [
        {"label": "cat", "segmentation": encode(mask)},
        {"category_id": 6, "segmentation": {"size": [20, 20], "counts": [0, 100, 300]}},
        {"label": "Dog", "segmentation": SQUARE, "size": [20, 20]},
    ]
    for content in (records, {"annotations": records}):
        layout = drawn_layout("", [save(content, "masks.json")], {})
        assert [region.label for region in layout.regions] == ["cat", "bus", "dog"]
        assert (layout.regions[0].pixels == mask).all()
        assert layout.regions[1].pixels[:, :5].all()
        assert int(layout.regions[2].pixels.sum()) == 64


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (COCO | {"images": [{"id": 7, "width": 10**9, "height": 10**9}]}, "size 1000000000"),
        (COCO | {"images": [{"id": 7, "width": 20, "height": 30}]}, "20x30; expected a square"),
        (COCO | {"images": [{"id": 8, "width": 20, "height": 20}]}, "size None; expected"),
        (COCO | {"images": [{"id": 7}, {"id": 8}]}, "list of one image"),
        (COCO | {"images": 3}, "list of one image"),
        (COCO | {"categories": [{"id": 17, "name": "bus"}]}, "category 17 has the name 'bus'"),
        (COCO | {"categories": [{"id": 3, "name": "Cat"}]}, "category 3 has the name 'Cat'"),
        (COCO | {"annotations": []}, "no list of masks"),
        (COCO | {"annotations": {"a": 1}}, "no list of masks"),
        ("{", "is not JSON"),
        ([1], "mask 1: expected an object"),
        ([{"label": "cat"}], "mask 1: .*segmentation"),
        ([{"label": "yak", "segmentation": {"size": [2, 2], "counts": [0, 4]}}], "'yak'"),
        ([{"label": "cat", "segmentation": {"size": [2, 2], "counts": [0, 9]}}], "runs are 9"),
        ([{"label": "cat", "size": [9, 9], "segmentation": [[0, 0, 2.0e9, 5, 5]]}], "a polygon "),
        ([{"category_id": 999, "segmentation": {"size": [2, 2], "counts": [4]}}], "999"),
        ([{"label": "cat", "segmentation": {"size": [2, 2], "counts": [4]}}], "no object"),
    ],
)
def test_json_that_cannot_be_used(save, content, match):
    refuse(match, save(content, "masks.json"))


@pytest.mark.parametrize(
    "size", [[10**9, 10**9], [0, 0], ["128", "128"], "128x128", None, [128], [1.5, 2]]
)
def test_sizes_are_bounded(save, size):
    for segmentation in (SQUARE, {"size": size, "counts": [0, 4]}):
        record = {"label": "cat", "size": size, "segmentation": segmentation}
        refuse("mask 1: size", save([record], "masks.json"))


def test_pictures_that_cannot_be_used(save, tmp_path):
    refuse("give --mask FILE")
    refuse("cannot be read", tmp_path / "none.png")
    refuse("no object: all of it is background", save(picture()))
    refuse("is 64x48; expected a square", save(picture(red=(4, 8, 20, 30)).resize((64, 48))))
    masks = [save(picture(s, "black", white=(0, 0, 9, 9)), f"cat-{s}.png") for s in (32, 16)]
    refuse("different sizes .16x16 and 32x32.", *masks)
    other = save(picture(32, "black", white=(0, 0, 9, 9)), "thing.png")
    refuse(r"thing\.png is not named after a class", masks[0], other)


def test_legends():
    assert parse_legend([]) == {}
    assert parse_legend(["#0f0=dog", "10,20,30=cat", "white=bus"]) == {
        (0, 0, 0): "background",
        (255, 255, 255): "bus",
        (0, 255, 0): "dog",
        (10, 20, 30): "cat",
    }
    colours = ("cat", "no=cat", "1,2=cat", "300,0,0=cat", "0,-1,0=cat", "9999999999,0,0=cat")
    refusals = [((colour,), "COLOUR=LABEL") for colour in colours]
    refusals += [(("red=yak",), "unknown class 'yak'"), (("red=cat", "#f00=dog"), "duplicate")]
    for entries, match in refusals:
        with pytest.raises(InputError, match=match):
            parse_legend(entries)
