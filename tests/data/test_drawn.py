"""Drawn masks: colours with soft edges, a picture for each object, JSON; and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tcig.data.drawn import drawn_layout, parse_legend
from tcig.data.errors import InputError
from tcig.data.export import export_layouts
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
    blend = save(picture(red=(4, 8, 20, 30), purple=(40, 40, 60, 60)))
    refuse("#800080", [blend], parse_legend((*RED_CAT, "#ff8000=dog")))


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


def disc(colour, ground, mode="RGB", size=64):
    """A disc of 24 pixels, drawn at four times the size so that its edge is soft."""
    image = Image.new(mode, (4 * size,) * 2, ground)
    ImageDraw.Draw(image).ellipse((4 * 20, 4 * 20, 4 * 44, 4 * 44), colour)
    return image.resize((size, size), Image.Resampling.LANCZOS)


DISC = np.hypot(*(np.indices((64, 64)) + 0.5 - 32.25)) <= 12.2


def differs(mask):
    return int((mask ^ DISC).sum())


@pytest.mark.parametrize(
    ("colour", "ground"),
    [("white", "black"), ("black", "white"), ("red", "black"), ("navy", "white"), ("#777", "#bbb")],
)
def test_an_object_is_what_differs_from_the_border(save, colour, ground):
    image = disc(colour, ground)
    for form in ("png", "jpg", "bmp"):
        path = save(image, f"cat.{form}")
        assert differs(pixels(drawn_layout("", [path], {}), "cat")) < 40


def test_an_object_of_several_colours_is_whole(save):
    image = disc("black", "white")
    ImageDraw.Draw(image).rectangle((26, 26, 38, 38), "#e0e0e0")
    assert differs(pixels(drawn_layout("", [save(image, "cat.png")], {}), "cat")) < 60


def test_an_object_that_touches_the_border_is_found(save):
    image = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(image).rectangle((0, 40, 63, 63), 255)  # a third of the border
    mask = pixels(drawn_layout("", [save(image, "dog.png")], {}), "dog")
    assert mask[40:].all()
    assert not mask[:40].any()


def test_a_picture_whose_border_tells_nothing_is_refused(save, refuse):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    path = save(Image.fromarray(noise), "cat.png")
    refuse("border has no colour that most of it shares", [path], {})
    refuse("no object", [save(Image.new("RGB", (32, 32), "red"), "dog.png")], {})


@pytest.mark.parametrize("ground", [0, 300, 65535])
def test_sixteen_bits_make_the_same_mask(save, ground):
    soft = np.asarray(disc(255, 0, "L")).astype(float) / 255
    top = 0 if ground > 60_000 else 65_000
    values = ground + soft * (top - ground)
    path = save(Image.fromarray(values.astype(np.uint16)), "cat.png")
    assert differs(pixels(drawn_layout("", [path], {}), "cat")) < 40


@pytest.mark.parametrize("hidden", [(0, 0, 0, 0), (255, 255, 255, 0), (0, 0, 255, 0)])
@pytest.mark.parametrize("ink", [(0, 0, 0, 255), (255, 0, 0, 255)])
def test_ink_on_a_transparent_layer_is_the_object(save, hidden, ink):
    image = disc(ink, hidden, "RGBA")
    legend = parse_legend(("black=cat", "red=cat", "blue=bus"))
    for path, colours in ((save(image, "cat.png"), {}), (save(image, "scene.png"), legend)):
        (region,) = drawn_layout("", [path], colours).regions
        assert region.label == "cat"
        assert differs(region.pixels) < 40
    palette = save(image.quantize(), "dog.png")  # transparency as a palette PNG has it
    assert differs(pixels(drawn_layout("", [palette], {}), "dog")) < 60


def test_a_photograph_is_no_mask(save, refuse):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    refuse("colours, as a photograph", [save(Image.fromarray(noise))], parse_legend(RED_CAT))


def test_exported_masks_are_drawn_as_they_are(tmp_path, box_layout):
    layout = box_layout(64, cat=(0, 60, 0, 64), bus=(62, 64, 5, 9))  # the cat has the border
    export_layouts([layout], tmp_path / "e", 64, 1)
    masks = sorted((tmp_path / "e" / "masks").iterdir())
    drawn = drawn_layout("", masks, {})
    assert [region.label for region in drawn.regions] == ["cat", "bus"]
    for region, other in zip(drawn.regions, layout.regions, strict=True):
        assert (region.pixels == other.pixels).all()
    classes = drawn_layout("", [tmp_path / "e" / "classes" / f"{layout.id}.png"], {})
    assert (classes.class_map(64) == layout.class_map(64)).all()


def coco(**changes):
    polygon = [[4, 4, 12, 4, 12, 12, 4, 12]]
    record = {"id": 1, "image_id": 7, "category_id": 17, "segmentation": polygon, "iscrowd": 0}
    content = {
        "images": [{"id": 7, "width": 20, "height": 20, "file_name": "x.jpg"}],
        "categories": [{"id": 17, "name": "cat"}],
        "annotations": [record],
    }
    return content | changes


@pytest.mark.parametrize(
    ("name", "encoding"), [("masks.json", "utf-8"), ("masks.JSON", "utf-8-sig")]
)
def test_cocos_own_json_has_its_size_in_images(tmp_path, name, encoding):
    path = tmp_path / name
    path.write_text(json.dumps(coco()), encoding=encoding)
    layout = drawn_layout("", [path], {})
    assert layout.side == 20
    assert int(pixels(layout, "cat").sum()) == 64


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": [{"id": 7, "width": 10**9, "height": 10**9}]}, "size 1000000000"),
        ({"images": [{"id": 7, "width": 20, "height": 30}]}, "20x30; expected a square"),
        (
            {"images": [{"id": 8, "width": 20, "height": 20}]},
            r"size None; expected \[height, width\]",
        ),
        ({"images": [{"id": 7}, {"id": 8}]}, "list of one image"),
        ({"images": 3}, "list of one image"),
        ({"categories": [{"id": 17, "name": "bus"}]}, "category 17 is 'bus'"),
        ({"categories": [{"id": 3, "name": "Cat"}]}, "category 3 is 'Cat'"),
        ({"annotations": []}, "no list of masks"),
        ({"annotations": {"a": 1}}, "no list of masks"),
    ],
)
def test_cocos_json_that_cannot_be_drawn(tmp_path, refuse, changes, match):
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(coco(**changes)))
    refuse(match, [path], {})


FAR = [
    [10, 10, 2.0e9, 10, 2.0e9, 100],
    [0, 0, float("inf"), 5, 5, 5],
    [0, 0, float("nan"), 5, 5, 5],
    [0, 0, None, 5, 5, 5],
    [0, 0, 10**400, 5, 5, 5],
    [0, 0, 500, 5, 5, 5],
    ["a"] * 6,
    [0, 0, 5, 5, 5],
    [0, 0, 5, 5],
    7,
]
SIZES = [[10**9, 10**9], [0, 0], ["128", "128"], "128x128", None, [128], [1.5, 2]]


def test_coordinates_and_sizes_are_bounded(tmp_path, refuse):
    path = tmp_path / "masks.json"

    def write(**fields):
        path.write_text(json.dumps([{"label": "cat"} | fields]))

    for polygon in FAR:
        write(size=[128, 128], segmentation=[polygon])
        refuse("mask 1: a polygon ", [path], {})
    for size in SIZES:
        for segmentation in ([[1, 1, 9, 1, 9, 9]], {"size": size, "counts": [0, 4]}):
            write(size=size, segmentation=segmentation)
            refuse("mask 1: size", [path], {})


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
    refuse("is 64x48; expected a square", [save(wide)], legend)
    masks = [save(picture(s, "black", white=(0, 0, 9, 9)), f"cat-{s}.png") for s in (32, 16)]
    refuse("different sizes .16x16 and 32x32.", masks, legend)
    other = save(picture(32, "black", white=(0, 0, 9, 9)), "thing.png")
    refuse(r"thing\.png is not named after a class", [masks[0], other], legend)


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("cat", "COLOUR=LABEL"),
        ("nocolour=cat", "COLOUR=LABEL"),
        ("red=yak", "unknown class 'yak'; available: airplane"),
        ("1,2=cat", "COLOUR=LABEL"),
        ("300,0,0=cat", "from 0 to 255"),
        ("0,-1,0=cat", "COLOUR=LABEL"),
        ("9999999999,0,0=cat", "COLOUR=LABEL"),
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
    with pytest.raises(InputError, match="duplicate colour"):
        parse_legend(["red=cat", "#ff0000=dog"])
