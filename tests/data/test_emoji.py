"""The embedded data: made again byte for byte, exact masks, work for the filter, true captions."""

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from tcig.data.coco import read_captions, read_instances
from tcig.data.emoji import FOLDER, make
from tcig.data.emoji.scenes import SIZE, SPLITS, STYLES, backdrop, portrait, scene
from tcig.data.filters import Filter, choose
from tcig.data.manifest import build_layouts
from tcig.data.masks import decode
from tcig.data.voc import BY_COCO_ID, BY_LABEL, CLASSES


@pytest.fixture(scope="module")
def instances():
    return read_instances(FOLDER, 2017)


@pytest.fixture(scope="module")
def captions():
    return read_captions(FOLDER, 2017).texts


def test_the_shipped_split_is_made_again_byte_for_byte(tmp_path):
    make.make_split("validation", make.COUNT, tmp_path)
    files = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file()}
    assert files == {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert len(files) == make.COUNT + 2
    for name in files:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
PLURALS = {"sheep": "sheep", "bus": "buses", "couch": "couches", "person": "people"}


@pytest.mark.parametrize("index", [40, 5, 3, *range(60, 90)])
def test_the_shipped_files_are_the_scenes(instances, captions, index):
    """Composed in another order than theirs; captions name what is drawn, the largest first."""
    drawn = scene("validation", index)
    assert captions[index + 1] == list(drawn.captions)
    objects, areas, places = instances.objects.get(index + 1, []), Counter(), {}
    for annotation, thing in zip(objects, drawn.things, strict=True):
        assert BY_COCO_ID[annotation["category_id"]].label == thing.label
        assert bool(annotation["iscrowd"]) == thing.crowd
        assert (decode(annotation["segmentation"]) == thing.mask).all()
        assert annotation["area"] == thing.mask.sum()
        left, top, width, height = map(int, annotation["bbox"])
        box = thing.mask[top : top + height, left : left + width]
        assert box.sum() == thing.mask.sum()
        assert all(edge.any() for edge in (box[0], box[-1], box[:, 0], box[:, -1]))
        areas[thing.label] += thing.mask.sum()
    full, photo = drawn.captions
    assert photo.startswith("a photo of ")
    for label in areas:
        same = [thing for thing in drawn.things if thing.label == label]
        number = "many" if any(thing.crowd for thing in same) else NUMBERS[len(same)]
        name = f"{number} {PLURALS.get(label, f'{label}s')}"
        if number == "one":
            name = f"{'an' if label == 'airplane' else 'a'} {label}"
        assert name in photo
        places[label] = full.index(name)
    ordered = [areas[label] for label in sorted(places, key=places.get)]
    assert ordered == sorted(areas.values(), reverse=True)


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
    header, layouts = build_layouts(FOLDER, Filter())
    assert header.counts.layouts == len(layouts) == 97
    assert {r.label for layout in layouts for r in layout.regions} == set(BY_LABEL) - {"person"}
    assert {len(layout.regions) for layout in layouts} == {2, 3, 4}
    assert {r.reason for layout in layouts for r in layout.dropped} == {"person", "small", "crowd"}
    kept = {int(layout.id) for layout in layouts}
    for field, value, relation in (
        ("reading", "images", set.__lt__),
        ("people", "drop", set.__lt__),
        ("crowd", "drop", set.__lt__),
        ("max_objects", 9, set.__gt__),
        ("crowd", "count", set.__ne__),
        ("min_area", 0.0, set.__ne__),
        ("count_by", "class", set.__ne__),
        ("area_from", "pixels", set.__eq__),  # the area field is the pixels
    ):
        ids = {image["id"] for image, *_ in choose(instances, Filter(**{field: value}))}
        assert relation(ids, kept), (field, value)


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
