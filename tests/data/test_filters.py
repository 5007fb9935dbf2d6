import pytest
from coco_folder import runs, thing

from tcig.data.coco import read_instances
from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.filters import Filter, choose, count_table
from tcig.data.manifest import build_layouts

CAT, DOG = thing("cat", (0, 0, 50, 25)), thing("dog", (50, 50, 50, 25))
COW = thing("cow", (50, 0, 50, 25))
BUS, BOAT = thing("bus", (0, 50, 50, 25)), thing("boat", (50, 75, 50, 25))
SMALL = thing("bird", (0, 50, 20, 20))
CROWD = thing("sheep", (0, 75, 50, 25), iscrowd=1)
PERSON = thing("person", (0, 50, 25, 50))
PEOPLE = PERSON | {"iscrowd": 1}
EMPTY = runs(10_000)


def built(coco, **options):
    """The layouts as image id -> (regions, dropped objects with reasons) of the places of things.

    Image 999 always passes and is left out, so that no test sees an empty set of layouts.
    """
    if not any(image["id"] == 999 for image in coco.images):
        things = (("tv", (0, 0, 50, 50)), ("bus", (50, 0, 50, 50)), ("boat", (0, 50, 50, 50)))
        coco.add(999, *(thing(*args) for args in things))
    _, layouts = build_layouts(coco.write(), Filter(**options))
    return {
        int(layout.id): (
            [region.annotation % 10 for region in layout.regions],
            {region.annotation % 10: region.reason for region in layout.dropped},
        )
        for layout in layouts
        if layout.id != "999"
    }


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, {491497, 463730, 219578, 555705, 25560, 403817}),
        ({"reading": "images"}, {491497, 555705, 25560, 403817}),
        ({"people": "drop"}, {491497, 219578, 555705, 403817}),
        ({"people": "drop", "reading": "images"}, {491497, 555705, 403817}),
    ],
)
def test_real_sample(sample, options, ids):
    header, layouts = build_layouts(sample, Filter(**options))
    assert {int(layout.id) for layout in layouts} == ids
    assert (header.counts.images, header.counts.filtered) == (50, len(ids))
    assert all((sample / layout.image).is_file() for layout in layouts)


@pytest.mark.parametrize("base", [{}, {"min_area": 0.01, "max_objects": 6}])
def test_count_table_agrees_with_the_layouts(base):
    instances = read_instances(EMOJI, 2017)
    rows = count_table(instances, Filter(**base))
    assert len({tuple(row.values())[:-1] for row in rows}) == len(rows) == 72
    assert len({row["images"] for row in rows}) > 3
    for row in rows:
        area_from, area_on = row["area"].split(", ")
        readings = {name: row[name] for name in ("reading", "people", "crowd", "count_by")}
        options = Filter(**readings, **base, area_from=area_from, area_on=area_on)
        assert row["images"] == len(choose(instances, options))


def test_count_table_shows_combinations_that_leave_nothing(two_cats):
    two_cats.add(2)
    rows = count_table(read_instances(two_cats.write(), 2017), Filter())
    assert {(row["count_by"], row["images"]) for row in rows} == {("instance", 1), ("class", 0)}


@pytest.mark.parametrize(
    ("things", "options", "expected"),
    [
        ([CAT, DOG], {}, ([0, 1], {})),
        ([CAT, SMALL, DOG], {}, ([0, 2], {1: "small"})),
        ([CAT, SMALL, DOG], {"reading": "images"}, None),
        ([CAT, DOG, PERSON], {}, ([0, 1], {2: "person"})),
        ([CAT, DOG, PERSON], {"people": "drop"}, None),
        # a small person is a person, not a small mask; a crowd of people is no crowd of the 19
        ([CAT, DOG, PERSON | {"area": 1}], {"reading": "images"}, ([0, 1], {2: "person"})),
        ([CAT, DOG, PEOPLE], {"crowd": "count"}, ([0, 1], {2: "person"})),
        ([CAT, DOG, PEOPLE], {"crowd": "drop"}, ([0, 1], {2: "person"})),
        ([CAT, CROWD, DOG], {}, ([0, 2], {1: "crowd"})),
        ([CAT, CROWD, DOG], {"crowd": "count"}, ([0, 1, 2], {})),
        ([CAT, CROWD, DOG], {"crowd": "drop"}, None),
        ([CAT, DOG, CROWD | {"area": 1}], {"reading": "images"}, ([0, 1], {2: "crowd"})),
        ([CAT, DOG, CROWD | {"area": 1}], {"crowd": "count"}, ([0, 1], {2: "small"})),
        ([CAT, DOG, CROWD | {"area": 1}], {"crowd": "count", "reading": "images"}, None),
        # other categories of COCO are not seen
        ([CAT, DOG, thing("book", (0, 50, 1, 1))], {"reading": "images"}, ([0, 1], {})),
        ([CAT, thing("book", (50, 50, 50, 50))], {}, None),
        ([CAT, CAT], {"count_by": "class"}, None),
        ([CAT] * 5, {}, None),
        ([CAT] * 4 + [DOG], {"count_by": "class"}, ([0, 1, 2, 3, 4], {})),
        ([CAT, DOG, COW, BUS, BOAT], {"count_by": "class"}, None),
        ([CAT] * 4, {}, ([0, 1, 2, 3], {})),
        ([CAT] * 5, {"max_objects": 5}, ([0, 1, 2, 3, 4], {})),
        ([CAT], {"min_objects": 1}, ([0], {})),
        ([CAT, DOG], {"min_objects": 3}, None),
        ([CAT, DOG, COW], {"min_objects": 3, "max_objects": 3}, ([0, 1, 2], {})),
        # what has no pixel on the square is no dropped object
        ([CAT, DOG, thing("bird", EMPTY)], {}, ([0, 1], {})),
    ],
)
def test_readings(coco, things, options, expected):
    assert built(coco.add(1, *things), **options) == ({1: expected} if expected else {})


@pytest.mark.parametrize(
    ("area_from", "shape", "field", "stays"),
    [
        ("field", (0, 0, 50, 50), 500, True),
        ("field", (0, 0, 50, 50), 499.999, False),
        ("field", (0, 0, 20, 20), 500, True),
        ("pixels", (0, 0, 20, 25), 1, True),
        ("pixels", runs(0, 500, 9500), 1, True),
        ("pixels", runs(0, 499, 9501), 9999, False),
        ("pixels", runs(100, 499, 1, 1, 9399), 1, True),
    ],
)
@pytest.mark.parametrize("reading", ["masks", "images"])
def test_an_object_of_exactly_the_smallest_area_stays(
    coco, area_from, shape, field, stays, reading
):
    coco.add(1, CAT, DOG, thing("bird", shape, area=field))
    expected = {1: ([0, 1, 2], {})}
    if not stays:
        expected = {1: ([0, 1], {2: "small"})} if reading == "masks" else {}
    assert built(coco, area_from=area_from, reading=reading) == expected


@pytest.mark.parametrize(
    ("columns", "on_original", "on_square"),
    [
        ((50, 19), "small", "region"),  # 950 pixels: under 1000 of the whole, over 500
        ((50, 9), "small", "small"),
        ((31, 29), "region", "region"),  # 1450 pixels, 500 of them on the square
        ((30, 29), "region", "small"),  # 450 of them on the square
    ],
)
def test_area_on_the_original_and_on_the_square(coco, columns, on_original, on_square):
    left, width = columns
    things = (("cat", (50, 0, 50, 50)), ("dog", (100, 0, 50, 50)), ("bird", (left, 50, width, 50)))
    coco.add(1, *(thing(*each) for each in things), width=200)
    for area_on, fate in (("original", on_original), ("square", on_square)):
        regions, dropped = built(coco, area_from="pixels", area_on=area_on)[1]
        assert (2 in regions, dropped) == (fate == "region", {} if fate == "region" else {2: fate})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("area_on", "square"), ("min_area", 1.0), ("min_area", -0.1), ("min_cropped_area", 1.0),
        ("min_objects", 0), ("min_objects", 5), ("caption", -1),
    ],
)  # fmt: skip
def test_filters_that_make_no_sense_are_refused(refused, field, value):
    with refused(field):
        Filter(**{field: value})


def test_what_leaves_nothing_is_refused(two_cats, refused):
    with refused("none of the 1 images", two_cats.root, "--count"):
        build_layouts(two_cats.write(), Filter(min_objects=3))
    for records in (two_cats.images, two_cats.annotations, two_cats.captions):
        records.clear()
    with refused("none of the 0 images", two_cats.root):
        build_layouts(two_cats.write(), Filter())
