"""Drawn masks: colours with soft edges, a picture for each object, JSON; and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tcig.data.drawn import drawn_layout, parse_legend
from tcig.data.errors import InputError
from tcig.data.masks import encode
from tcig.data.voc import BY_LABEL, COLOURS

RED_CAT = ("#ff0000=cat", "blue=bus")


def picture(size=64, background="white", **boxes):
    image = Image.new("RGB", (size, size), background)
    draw = ImageDraw.Draw(image)
    for colour, box in boxes.items():
        draw.rectangle(box, colour)
    return image


def pixels(layout, label):
    (region,) = (region for region in layout.regions if region.label == label)
    return region.pixels


@pytest.fixture
def save(tmp_path):
    def write(image, name="mask.png"):
        path = tmp_path / name
        image.save(path)
        return path

    return write


@pytest.fixture
def refuse():
    def check(match, *arguments):
        with pytest.raises(InputError, match=match) as caught:
            drawn_layout("a prompt", *arguments)
        assert "\n" not in str(caught.value)

    return check


def test_colours_become_regions(save):
    path = save(picture(red=(4, 8, 20, 30), blue=(40, 40, 60, 60)))
    layout = drawn_layout("a cat and a bus", [path], parse_legend(RED_CAT))
    assert layout.caption == "a cat and a bus"
    assert layout.side == 64
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
        layout = drawn_layout("", [save(image)], parse_legend(()))
        assert (layout.class_map(32) == labels).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), radius=st.integers(30, 120))
def test_soft_edges_take_the_nearest_colour(tmp_path_factory, seed, radius):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(130, 270, 2)
    large = Image.new("RGB", (400, 400), "white")
    draw = ImageDraw.Draw(large)
    draw.rectangle((20, 20, 380, 120), "blue")
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), "red")
    path = tmp_path_factory.mktemp("soft") / "mask.png"
    large.resize((100, 100), Image.Resampling.LANCZOS).save(path)
    layout = drawn_layout("", [path], parse_legend(RED_CAT))
    sharp = np.asarray(large.resize((100, 100), Image.Resampling.BOX)).astype(int)
    cat = (sharp[..., 0] > 160) & (sharp[..., 2] < 90)
    assert (pixels(layout, "cat") ^ cat).mean() < 0.01
    assert not (pixels(layout, "cat") & pixels(layout, "bus")).any()


def test_unknown_colours_are_named(save, refuse):
    path = save(picture(red=(4, 8, 20, 30), lime=(40, 40, 60, 60)))
    refuse(r"colours that the legend lacks: #00ff00 \(441 pixels\)", [path], parse_legend(RED_CAT))
    thin = save(picture(red=(4, 8, 20, 30), lime=(40, 40, 60, 40)))
    refuse("#00ff00", [thin], parse_legend(RED_CAT))
    blend = save(picture(red=(4, 8, 20, 30), purple=(40, 40, 60, 60)))
    refuse("#800080", [blend], parse_legend((*RED_CAT, "#ff8000=dog")))


def test_a_stray_mixed_corner_is_no_colour_of_its_own(save):
    image = picture(red=(0, 0, 31, 31), blue=(32, 0, 63, 31))
    image.putpixel((31, 32), (150, 90, 170))
    layout = drawn_layout("", [save(image)], parse_legend(RED_CAT))
    assert len(layout.regions) == 2


def test_a_picture_for_each_object(save):
    first = save(picture(32, "black", white=(0, 0, 9, 9)), "cat-1.png")
    second = save(picture(32, "black", white=(5, 5, 20, 20)).convert("L"), "cat-2.png")
    third = save(picture(32, "black", white=(25, 25, 30, 30)), "potted_plant.png")
    layout = drawn_layout("", [first, second, third], parse_legend(()))
    assert [region.label for region in layout.regions] == ["cat", "cat", "potted plant"]
    assert [int(region.pixels.sum()) for region in layout.regions] == [100, 256, 36]
    (alone,) = drawn_layout("", [first], parse_legend(())).regions
    assert alone.label == "cat"


def test_what_is_transparent_is_background(save):
    image = picture(32, red=(0, 0, 9, 9)).convert("RGBA")
    image.putalpha(Image.fromarray(np.uint8(255) * np.tri(32, dtype=np.uint8)))
    layout = drawn_layout("", [save(image)], parse_legend(RED_CAT))
    assert int(pixels(layout, "cat").sum()) == 55


def test_json_of_coco_segmentations(tmp_path):
    mask = np.zeros((20, 20), bool)
    mask[3:9, 4:15] = True
    runs = {"size": [20, 20], "counts": [0, 100, 300]}
    records = [
        {"label": "cat", "segmentation": encode(mask)},
        {"category_id": 6, "segmentation": runs},
        {"label": "dog", "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]], "size": [20, 20]},
    ]
    path = tmp_path / "masks.json"
    for content in (records, {"annotations": records}):
        path.write_text(json.dumps(content))
        layout = drawn_layout("", [path], {})
        assert [region.label for region in layout.regions] == ["cat", "bus", "dog"]
        assert (layout.regions[0].pixels == mask).all()
        assert layout.regions[1].pixels[:, :5].all()
        assert int(layout.regions[2].pixels.sum()) == 100


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "is not JSON"),
        ("[1]", "mask 1: expected an object"),
        ('[{"label": "cat"}]', "mask 1: .*segmentation"),
        ('[{"label": "yak", "segmentation": {"size": [2, 2], "counts": [0, 4]}}]', "'yak'"),
        ('[{"label": "cat", "segmentation": {"size": [2, 2], "counts": [0, 9]}}]', "runs are 9"),
        ('[{"category_id": 999, "segmentation": {"size": [2, 2], "counts": [4]}}]', "999"),
        ('[{"label": "cat", "segmentation": {"size": [2, 2], "counts": [4]}}]', "no object"),
    ],
)
def test_json_that_is_no_mask(tmp_path, refuse, content, match):
    path = tmp_path / "masks.json"
    path.write_text(content)
    refuse(match, [path], {})


def test_what_cannot_be_a_mask_is_refused(save, tmp_path, refuse):
    legend = parse_legend(RED_CAT)
    refuse("give --mask FILE", [], legend)
    refuse("cannot be read", [tmp_path / "none.png"], legend)
    refuse("no object: all of it is background", [save(picture())], legend)
    wide = picture(64, red=(4, 8, 20, 30)).resize((64, 48))
    refuse("is 64x48: a mask is a square", [save(wide)], legend)
    masks = [save(picture(s, "black", white=(0, 0, 9, 9)), f"cat-{s}.png") for s in (32, 16)]
    refuse("different sizes .16x16 and 32x32.", masks, legend)
    other = save(picture(32, "black", white=(0, 0, 9, 9)), "thing.png")
    refuse(r"thing\.png is named after no class", [masks[0], other], legend)


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("cat", "COLOUR=LABEL"),
        ("nocolour=cat", "COLOUR=LABEL"),
        ("red=yak", "no class 'yak': there are airplane"),
        ("1,2=cat", "COLOUR=LABEL"),
    ],
)
def test_a_legend_that_says_nothing(entry, match):
    with pytest.raises(InputError, match=match):
        parse_legend([entry])


def test_legends():
    legend = parse_legend(["#0f0=dog", "10,20,30=cat", "white=bus"])
    assert legend == {
        (0, 0, 0): "background",
        (255, 255, 255): "bus",
        (0, 255, 0): "dog",
        (10, 20, 30): "cat",
    }
    with pytest.raises(InputError, match="stands twice"):
        parse_legend(["red=cat", "#ff0000=dog"])
