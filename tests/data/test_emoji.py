import random
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tcig.data.build import build_layouts, choose
from tcig.data.coco import read_captions, read_instances
from tcig.data.emoji import FOLDER, make
from tcig.data.emoji.scenes import SIZE, SPLITS, STYLES, backdrop, portrait, scene
from tcig.data.filters import Filter
from tcig.data.masks import decode
from tcig.data.voc import BY_COCO_ID, BY_LABEL, CLASSES

GLYPHS = FOLDER.parent / "glyphs"


@pytest.fixture(scope="module")
def instances():
    return read_instances(FOLDER, 2017)


@pytest.fixture(scope="module")
def scenes():
    """The shipped split's scenes, drawn in another order than theirs."""
    order = random.Random(0).sample(range(make.COUNT), make.COUNT)
    drawn = {index: scene("validation", index) for index in order}
    return [drawn[index] for index in range(make.COUNT)]


def equal(one, two):
    return (
        np.array_equal(one.image, two.image)
        and one.captions == two.captions
        and [(t.label, t.crowd) for t in one.things] == [(t.label, t.crowd) for t in two.things]
        and all(np.array_equal(a.mask, b.mask) for a, b in zip(one.things, two.things, strict=True))
    )


def test_the_shipped_split_is_made_again_byte_for_byte(tmp_path):
    make.make_split("validation", make.COUNT, tmp_path)
    files = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file()}
    assert files == {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert len(files) == make.COUNT + 2
    for name in sorted(files):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_the_shipped_files_are_the_scenes_in_the_noto_style(instances, scenes):
    captions = read_captions(FOLDER, 2017).texts
    for index, (number, drawn) in enumerate(zip(instances.images, scenes, strict=True)):
        image = instances.images[number]
        assert (number, image["width"], image["height"]) == (index + 1, SIZE, SIZE)
        with Image.open(FOLDER / "val2017" / image["file_name"]) as photograph:
            assert np.array_equal(photograph, drawn.image)
        assert captions[number] == list(drawn.captions)
        objects = instances.objects.get(number, [])
        for annotation, thing in zip(objects, drawn.things, strict=True):
            assert BY_COCO_ID[annotation["category_id"]].label == thing.label
            assert bool(annotation["iscrowd"]) == thing.crowd
            mask = decode(annotation["segmentation"])
            assert np.array_equal(mask, thing.mask)
            assert annotation["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            left, top = columns.min(), rows.min()
            assert annotation["bbox"] == [
                left,
                top,
                columns.max() + 1 - left,
                rows.max() + 1 - top,
            ]
    assert equal(scenes[5], scene("validation", 5, ("noto",)))
    assert not equal(scenes[5], scene("validation", 5, ("fluent",)))


def test_a_scene_is_a_function_of_split_and_index(scenes):
    random.seed(1)
    np.random.seed(1)
    for split in SPLITS:
        assert equal(scene(split, 3), scene(split, 3))
    assert equal(scenes[3], scene("validation", 3))
    for one, two in combinations(SPLITS, 2):
        assert not np.array_equal(scene(one, 3).image, scene(two, 3).image)
    assert len({drawn.image.tobytes() for drawn in scenes}) == len(scenes)


def test_splits_have_ids_of_their_own(tmp_path, instances):
    make.make_split("tuning", 3, tmp_path)
    tuning = read_instances(tmp_path, 2017)
    assert sorted(tuning.images) == [1_000_001, 1_000_002, 1_000_003]
    assert not set(tuning.images) & set(instances.images)
    numbers = [a["id"] for read in (tuning, instances) for o in read.objects.values() for a in o]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("styles", [("noto",), STYLES])
def test_masks_part_the_pixels_of_the_label_map(scenes, styles):
    drawn = scenes if styles == ("noto",) else [scene("training", i, styles) for i in range(24)]
    for each in drawn:
        masks = np.array([t.mask for t in each.things]).reshape(-1, SIZE, SIZE)
        assert masks.any((1, 2)).all()
        assert masks.sum(0).max(initial=0) <= 1
        labels = each.label_map()
        assert np.array_equal(labels > 0, masks.any(0))
        for thing in each.things:
            assert set(labels[thing.mask]) == {BY_LABEL[thing.label].index}


def test_masks_are_where_the_glyphs_are():
    """Two styles draw other pixels over the same background, which shows outside both masks."""
    noto, fluent = scene("tuning", 1), scene("tuning", 1, ("fluent",))
    assert noto.things
    bare = ~(_wide(noto) | _wide(fluent))
    assert bare.mean() > 0.1
    assert np.array_equal(noto.image[bare], fluent.image[bare])
    drawn = np.array([t.mask for t in noto.things]).any(0)
    assert (noto.image[drawn] != fluent.image[drawn]).any(1).mean() > 0.9


def _wide(drawn):
    """Masks and the half-transparent pixels at their edges."""
    mask = np.array([t.mask for t in drawn.things]).any(0)
    padded = np.pad(mask, 3)
    return np.any([padded[y : y + SIZE, x : x + SIZE] for y in range(7) for x in range(7)], axis=0)


@pytest.mark.parametrize(("split", "styles"), [("test", ("noto",)), ("training", ("apple",))])
def test_unknown_splits_and_styles_are_refused(split, styles):
    with pytest.raises(ValueError, match="unknown"):
        scene(split, 0, styles)


def test_every_class_occurs(instances):
    objects = [a for objects in instances.objects.values() for a in objects]
    assert {BY_COCO_ID[a["category_id"]] for a in objects} == set(CLASSES)
    _, layouts = build_layouts(FOLDER, Filter())
    labels = {region.label for layout in layouts for region in layout.regions}
    assert labels == set(BY_LABEL) - {"person"}


def test_the_filter_has_work(instances):
    def ids(**options):
        return {image["id"] for image, _, _ in choose(instances, Filter(**options))}

    header, layouts = build_layouts(FOLDER, Filter())
    kept = ids()
    assert len(kept) == len(layouts) == header.counts.layouts >= 64
    assert (header.counts.objects_cut, header.counts.layouts_cut) == (0, 0)
    assert {len(layout.regions) for layout in layouts} == {2, 3, 4}
    assert {r.reason for layout in layouts for r in layout.dropped} == {"person", "small", "crowd"}
    assert ids(reading="images") < kept
    assert ids(people="drop") < kept
    assert ids(crowd="drop") < kept
    assert ids(crowd="count") != kept
    assert ids(max_objects=9) > kept
    assert len(ids(min_area=0.0)) != len(kept)
    assert len(ids(count_by="class")) != len(kept)
    assert ids(area_from="pixels") == kept  # the area field is the pixels
    assert ids(area_from="pixels", area_on="square") == kept  # the images are square


def test_captions_name_what_is_drawn(scenes):
    numbers = ("no", "one", "two", "three", "four", "five", "six", "seven")
    plurals = {"sheep": "sheep", "bus": "buses", "couch": "couches", "person": "people"}
    for drawn in scenes:
        areas = {}
        for thing in drawn.things:
            areas[thing.label] = areas.get(thing.label, 0) + thing.mask.sum()
        names = []
        for label in areas:
            same = [thing for thing in drawn.things if thing.label == label]
            number = "many" if any(t.crowd for t in same) else numbers[len(same)]
            plural = plurals.get(label, f"{label}s")
            article = "an" if label == "airplane" else "a"
            names.append(f"{article} {label}" if number == "one" else f"{number} {plural}")
        full, photo = drawn.captions
        assert photo.startswith("a photo of ")
        assert all(name in caption for name in names for caption in (full, photo))
        places = [full.index(name) for name in names]
        ranks = sorted(range(len(names)), key=lambda i: places[i])
        assert [list(areas.values())[i] for i in ranks] == sorted(areas.values(), reverse=True)


def test_glyphs():
    for style in STYLES:
        names = {path.name for path in (GLYPHS / style).iterdir()}
        assert names == {f"{c.label.replace(' ', '_')}.png" for c in CLASSES}
        for path in (GLYPHS / style).iterdir():
            with Image.open(path) as glyph:
                assert max(glyph.size) == 128
                assert glyph.convert("RGBA").getchannel("A").getextrema()[1] == 255
    assert {p.name for p in GLYPHS.iterdir()} == {*STYLES, "ATTRIBUTION.md"}
    text = (GLYPHS / "ATTRIBUTION.md").read_text()
    for word in ("SIL Open Font License 1.1", "Apache License 2.0", "MIT", "CC-BY 4.0", *STYLES):
        assert word in text


def test_portraits_show_one_object_of_each_class_in_turn():
    shares = []
    for index in range(60):
        drawn = portrait("tuning", index)
        (thing,) = drawn.things
        label = CLASSES[index % 20].label
        assert thing.label == label
        assert drawn.captions[-1] in (f"a {label}", f"an {label}")
        assert drawn.captions[0].startswith(f"{drawn.captions[-1]} ")
        assert drawn.captions[1] == f"a photo of {drawn.captions[-1]}"
        shares.append(thing.mask.mean())
    assert 0.03 < min(shares) < 0.12
    assert 0.35 < max(shares) <= 0.56


def test_a_portrait_is_a_function_of_split_and_index():
    drawn, again = portrait("tuning", 5), portrait("tuning", 5)
    assert np.array_equal(drawn.image, again.image)
    others = [portrait("training", 5), portrait("tuning", 25), scene("tuning", 5)]
    assert not any(np.array_equal(drawn.image, other.image) for other in others)
    with pytest.raises(ValueError, match="split"):
        portrait("test", 5)


def test_a_backdrop_is_its_portrait_without_the_object():
    for index in range(6):
        drawn, empty = portrait("validation", index), backdrop("validation", index)
        differs = (drawn.image != empty).any(-1)
        mask = drawn.things[0].mask
        assert differs[mask].mean() > 0.9
        assert differs[~mask].mean() < 0.15
