"""The embedded data: made again byte for byte, exact masks, work for the filter, true captions."""

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


def test_the_shipped_split_is_made_again_byte_for_byte(tmp_path):
    make.make_split("validation", make.COUNT, tmp_path)
    files = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file()}
    assert files == {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert len(files) == make.COUNT + 2
    for name in files:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_the_shipped_files_are_the_scenes(instances):
    """Composed in another order than theirs."""
    captions = read_captions(FOLDER, 2017).texts
    for index in (40, 5, 3, *range(60, 90)):
        drawn = scene("validation", index)
        image = instances.images[index + 1]
        with Image.open(FOLDER / "val2017" / image["file_name"]) as photograph:
            assert (np.asarray(photograph) == drawn.image).all()
        assert captions[index + 1] == list(drawn.captions)
        objects = instances.objects.get(index + 1, [])
        for annotation, thing in zip(objects, drawn.things, strict=True):
            assert BY_COCO_ID[annotation["category_id"]].label == thing.label
            assert bool(annotation["iscrowd"]) == thing.crowd
            assert (decode(annotation["segmentation"]) == thing.mask).all()
            assert annotation["area"] == thing.mask.sum()
            left, top, width, height = map(int, annotation["bbox"])
            box = thing.mask[top : top + height, left : left + width]
            assert box.sum() == thing.mask.sum()
            assert all(edge.any() for edge in (box[0], box[-1], box[:, 0], box[:, -1]))


def test_splits_share_neither_scenes_nor_ids(tmp_path, instances):
    random.seed(1)
    for split in SPLITS:
        assert (scene(split, 3).image == scene(split, 3).image).all()
        assert (portrait(split, 5).image == portrait(split, 5).image).all()
    for one, two in combinations(SPLITS, 2):
        assert (scene(one, 3).image != scene(two, 3).image).any()
        assert (portrait(one, 5).image != portrait(two, 5).image).any()
    make.make_split("tuning", 3, tmp_path)
    tuning = read_instances(tmp_path, 2017)
    assert sorted(tuning.images) == [1_000_001, 1_000_002, 1_000_003]
    numbers = [a["id"] for read in (tuning, instances) for o in read.objects.values() for a in o]
    assert len(numbers) == len(set(numbers))
    for split, styles in (("test", ("noto",)), ("training", ("apple",))):
        with pytest.raises(ValueError, match="unknown"):
            scene(split, 0, styles)


@pytest.mark.parametrize("styles", [("noto",), STYLES])
def test_masks_part_the_pixels_of_the_label_map(styles):
    for index in range(16):
        drawn = scene("training", index, styles)
        masks = np.array([t.mask for t in drawn.things]).reshape(-1, SIZE, SIZE)
        assert masks.any((1, 2)).all()
        assert masks.sum(0).max(initial=0) <= 1
        labels = drawn.label_map()
        assert ((labels > 0) == masks.any(0)).all()
        for thing in drawn.things:
            assert set(labels[thing.mask]) == {BY_LABEL[thing.label].index}


def test_masks_are_where_the_objects_are():
    for index in range(6):
        drawn, empty = portrait("validation", index), backdrop("validation", index)
        differs = (drawn.image != empty).any(-1)
        (thing,) = drawn.things
        assert differs[thing.mask].mean() > 0.9
        assert differs[~thing.mask].mean() < 0.15


def test_every_class_occurs_and_the_filter_has_work(instances):
    objects = [a for objects in instances.objects.values() for a in objects]
    assert {BY_COCO_ID[a["category_id"]] for a in objects} == set(CLASSES)

    def ids(**options):
        return {image["id"] for image, _, _ in choose(instances, Filter(**options))}

    header, layouts = build_layouts(FOLDER, Filter())
    assert {r.label for layout in layouts for r in layout.regions} == set(BY_LABEL) - {"person"}
    assert {len(layout.regions) for layout in layouts} == {2, 3, 4}
    assert {r.reason for layout in layouts for r in layout.dropped} == {"person", "small", "crowd"}
    kept = ids()
    assert len(kept) == len(layouts) == header.counts.layouts == 97
    for stricter in ({"reading": "images"}, {"people": "drop"}, {"crowd": "drop"}):
        assert ids(**stricter) < kept
    for other in ({"crowd": "count"}, {"min_area": 0.0}, {"count_by": "class"}):
        assert ids(**other) != kept
    assert ids(max_objects=9) > kept
    assert ids(area_from="pixels") == kept  # the area field is the pixels
    assert ids(area_from="pixels", area_on="square") == kept  # the images are square


def test_captions_name_what_is_drawn():
    numbers = ("no", "one", "two", "three", "four", "five", "six", "seven")
    plurals = {"sheep": "sheep", "bus": "buses", "couch": "couches", "person": "people"}
    for index in (40, 5, 3, *range(60, 90)):
        drawn, areas, places = scene("validation", index), {}, {}
        for thing in drawn.things:
            areas[thing.label] = areas.get(thing.label, 0) + thing.mask.sum()
        full, photo = drawn.captions
        assert photo.startswith("a photo of ")
        for label in areas:
            same = [thing for thing in drawn.things if thing.label == label]
            number = "many" if any(thing.crowd for thing in same) else numbers[len(same)]
            name = f"{number} {plurals.get(label, f'{label}s')}"
            if number == "one":
                name = f"{'an' if label == 'airplane' else 'a'} {label}"
            assert name in photo
            places[label] = full.index(name)
        ordered = [areas[label] for label in sorted(places, key=places.get)]
        assert ordered == sorted(areas.values(), reverse=True)


def test_glyphs():
    for style in STYLES:
        paths = list((GLYPHS / style).iterdir())
        assert {path.name for path in paths} == {
            f"{c.label.replace(' ', '_')}.png" for c in CLASSES
        }
        for path in paths:
            with Image.open(path) as glyph:
                assert max(glyph.size) == 128
                assert glyph.convert("RGBA").getchannel("A").getextrema()[1] == 255
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
        name = drawn.captions[-1]
        assert name in (f"a {label}", f"an {label}")
        assert drawn.captions[0].startswith(f"{name} ")
        assert drawn.captions[1] == f"a photo of {name}"
        shares.append(thing.mask.mean())
    assert 0.03 < min(shares) < 0.12
    assert 0.35 < max(shares) <= 0.56
