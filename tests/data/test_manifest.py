import numpy as np
import pytest
from coco_folder import runs, thing

from tcig.data.filters import Filter
from tcig.data.manifest import build_layouts
from tcig.data.voc import BY_LABEL

# 200 x 100 pixels: the centre square is columns 50 to 150
LEFT, MIDDLE, RIGHT = (
    thing("cat", (50, 0, 50, 50)),
    thing("dog", (100, 0, 50, 50)),
    thing("cow", (75, 50, 50, 50)),
)
OUTSIDE = thing("bird", (0, 0, 40, 100))


def built(coco, *things, width=200, height=100, **options):
    coco.add(1, *things, width=width, height=height)
    coco.add(2, LEFT, MIDDLE, thing("bus", (75, 50, 50, 50)), width=200)
    header, layouts = build_layouts(coco.write(), Filter(**options))
    return header.counts, {layout.id: layout for layout in layouts}.get("1")


def fates(layout):
    return [r.annotation % 10 for r in layout.regions], {
        r.annotation % 10: r.reason for r in layout.dropped
    }


def test_regions_are_the_centre_squares_pixels(coco):
    _, layout = built(coco, thing("cat", (40, 10, 50, 30)), MIDDLE, thing("person", (90, 0, 9, 9)))
    assert layout.side == 100
    assert layout.classes == (8, 12)
    assert layout.image == "val2017/000000000001.jpg"
    assert layout.caption == "two things"
    expected = np.zeros((3, 100, 100), bool)
    expected[0, 10:40, :40] = expected[1, :50, 50:] = expected[2, :9, 40:49] = True
    pixels = [region.pixels for region in (*layout.regions, *layout.dropped)]
    assert np.array_equal(pixels, expected)
    assert [(r.annotation, r.label, r.prompt, r.index) for r in layout.regions] == [
        (10, "cat", "a cat", 8),
        (11, "dog", "a dog", 12),
    ]
    assert [(r.annotation, r.label, r.reason) for r in layout.dropped] == [(12, "person", "person")]


@pytest.mark.parametrize(
    ("shape", "options", "fate"),
    [
        ((0, 0, 40, 100), {}, ([0, 2], {})),  # nothing of it is on the square
        ((0, 0, 40, 100), {"min_cropped_area": 0}, ([0, 2], {})),
        ((0, 50, 51, 49), {}, ([0, 2], {1: "cut"})),  # one column of 49 pixels is
        ((0, 50, 52, 49), {}, ([0, 1, 2], {})),
        ((0, 50, 51, 49), {"min_cropped_area": 0.0049}, ([0, 1, 2], {})),
        ((0, 50, 52, 49), {"min_cropped_area": 0.02}, ([0, 2], {1: "cut"})),
    ],
)
def test_an_object_with_little_left_on_the_square_is_cut(coco, shape, options, fate):
    counts, layout = built(coco, LEFT, thing("bird", shape), MIDDLE, **options)
    assert fates(layout) == fate
    assert (counts.filtered, counts.layouts, counts.layouts_cut) == (2, 2, 0)
    assert counts.objects_cut == (1 not in fate[0])


@pytest.mark.parametrize(("side", "pixels", "least"), [(100, 50, 0.005), (10, 7, 0.07)])
def test_an_object_with_exactly_the_least_share_left_stays(coco, side, pixels, least):
    shape = runs(0, pixels, side * side - pixels, size=(side, side))
    half = thing("cat", (0, 0, side, side))
    things = half, thing("bird", shape, area=side * side)
    _, layout = built(coco, *things, width=side, height=side, min_cropped_area=least)
    assert fates(layout) == ([0, 1], {})
    shape["counts"] = [0, pixels - 1, side * side - pixels + 1]
    coco.images, coco.annotations, coco.captions = [], [], []
    counts, layout = built(coco, *things, width=side, height=side, min_cropped_area=least)
    assert layout is None
    assert counts.layouts_cut == 1


@pytest.mark.parametrize(
    ("things", "options", "cut"),
    [
        ([LEFT, OUTSIDE], {}, 1),
        ([OUTSIDE, OUTSIDE], {}, 2),
        ([LEFT, MIDDLE, OUTSIDE], {"min_objects": 3}, 1),
        ([LEFT, LEFT, OUTSIDE], {"count_by": "class"}, 1),
    ],
)
def test_a_layout_left_with_too_few_objects_is_dropped(coco, things, options, cut):
    counts, layout = built(coco, *things, **options)
    assert layout is None
    expected = {"images": 2, "filtered": 2, "objects_cut": cut, "layouts_cut": 1, "layouts": 1}
    assert counts.model_dump() == expected


def test_dropped_objects_keep_their_reasons(coco):
    things = (
        LEFT,
        MIDDLE,
        thing("person", (60, 60, 10, 10)),
        thing("person", (0, 0, 10, 10)),  # not on the square
        thing("sheep", (60, 80, 90, 20), iscrowd=1),
        thing("tv", (70, 70, 5, 5)),
        thing("bottle", (0, 50, 51, 40)),  # cut to 40 pixels
    )
    _, layout = built(coco, *things)
    assert fates(layout) == ([0, 1], {2: "person", 4: "crowd", 5: "small", 6: "cut"})
    assert sorted(np.unique(layout.dropped_map(100))) == [
        0,
        *sorted(BY_LABEL[name].index for name in ("person", "sheep", "tv", "bottle")),
    ]


def test_layouts_come_in_the_order_of_their_ids(coco):
    for number in (30, 4, 200):
        coco.add(number, LEFT, MIDDLE, width=200)
    coco.annotations.reverse()
    _, layouts = build_layouts(coco.write(), Filter())
    assert [layout.id for layout in layouts] == ["4", "30", "200"]
    assert [r.annotation for r in layouts[0].regions] == [41, 40]
