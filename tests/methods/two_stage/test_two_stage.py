"""TCIG as a method: its stages together, alone, and what rows share."""

import numpy as np
import pytest
from PIL import Image

from tcig.data.errors import InputError
from tcig.methods.base import Context
from tcig.methods.two_stage import method as module
from tcig.methods.two_stage.first import FirstOptions, FirstStage
from tcig.methods.two_stage.method import Options, TwoStage
from tcig.methods.two_stage.second import SecondOptions
from tcig.profiles import load_profile
from tcig.run.spec import prepare

FIRST = FirstOptions(
    vqgan="mini:vqgan",
    clip="mini:clip",
    guides=("mini:guide",),
    iterations=2,
    cutouts=2,
    guide_size=64,
)
SECOND = SecondOptions(pipeline="mini:stable-diffusion", steps=4, guidance=5.0)


def tcig(size=64, stages="both", first=FIRST, second=SECOND):
    return TwoStage(Context(size), Options(stages, first, second))


@pytest.fixture
def layouts(box_layout):
    return [
        box_layout(64, "a cat", "1", cat=(8, 40, 4, 30)),
        box_layout(64, "a bus", "2", bus=(20, 60, 34, 62)),
    ]


@pytest.fixture
def optimisations(monkeypatch):
    """The layouts that stage 1 has drawn, call by call, with nothing kept from before."""
    calls, call = [], FirstStage.__call__
    monkeypatch.setattr(module, "_kept", module.OrderedDict())

    def counted(self, layouts, *arguments):
        calls.append([layout.id for layout in layouts])
        return call(self, layouts, *arguments)

    monkeypatch.setattr(FirstStage, "__call__", counted)
    return calls


def grey_levels(a, b):
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max()


def test_stage_two_refines_the_image_of_stage_one(layouts):
    method = tcig()
    placed = method.place(layouts, [1, 2])
    images = method.generate(layouts, [1, 2])
    refined = method.refine(layouts, placed, [1, 2])
    assert [grey_levels(a, b) for a, b in zip(images, refined, strict=True)] == [0, 0]
    assert grey_levels(images[0], placed[0]) > 10


def test_each_stage_alone(layouts):
    placed = tcig().place(layouts, [1, 2])
    alone = tcig(stages="first").generate(layouts, [1, 2])
    assert [grey_levels(a, b) for a, b in zip(placed, alone, strict=True)] == [0, 0]
    from_noise = tcig(stages="second")
    assert from_noise.weights.keys() == {"second"}
    (image,) = from_noise.generate(layouts[:1], [1])
    other = from_noise.generate([layouts[0].model_copy(update={"regions": ()})], [1])
    assert grey_levels(image, other[0]) == 0


def test_rows_that_differ_only_in_stage_two_share_stage_one(layouts, optimisations):
    tcig(stages="first").generate(layouts, [1, 2])
    tcig().generate(layouts, [1, 2])
    assert optimisations == [["1", "2"]]
    tcig().generate(layouts, [1, 3])
    assert optimisations[1:] == [["2"]]
    tcig(first=FirstOptions(**vars(FIRST) | {"rate": 0.2})).generate(layouts[:1], [1])
    assert optimisations[2:] == [["1"]]


def test_a_watcher_sees_stage_one_even_where_it_is_kept(layouts, optimisations):
    method = tcig(stages="first")
    method.generate(layouts[:1], [1])
    events = []
    method.place(layouts[:1], [1], lambda event, **found: events.append(event))
    assert events.count("iteration") == FIRST.iterations + 1


def test_stage_one_has_a_size_of_its_own(layouts):
    small = FirstOptions(**vars(FIRST) | {"size": 32})
    assert tcig(first=small).place(layouts[:1], [1])[0].size == (32, 32)
    (alone,) = tcig(first=small, stages="first").generate(layouts[:1], [1])
    assert alone.size == (64, 64)
    (both,) = tcig(first=small).generate(layouts[:1], [1])
    assert both.size == (64, 64)


@pytest.mark.parametrize(
    ("first", "match"),
    [
        ({"vqgan": ""}, "weights '' not found"),
        ({"clip": ""}, "weights '' not found"),
        ({"size": 30}, "stage 1 cannot make images of 30 px: give first.size a multiple of 4"),
        ({"vqgan": "mini:clip"}, r"model\.yaml cannot be read"),
        ({"guides": ("mini:none",)}, "no miniature segmenter"),
    ],
)
def test_what_cannot_be_set_up_is_one_sentence(first, match):
    with pytest.raises(InputError, match=match) as caught:
        tcig(first=FirstOptions(**vars(FIRST) | first))
    assert "\n" not in str(caught.value)


def test_without_its_loss_no_clip_need_be_given():
    first = FirstOptions(**vars(FIRST) | {"clip": "", "clip_weight": 0.0})
    assert "clip" not in tcig(stages="first", first=first).weights


def test_ablations_load_only_what_they_use():
    rows = {
        "tcig": {"vqgan", "clip", "guide mini:guide", "second"},
        "tcig-stage1": {"vqgan", "clip", "guide mini:guide"},
        "tcig-no-clip": {"vqgan", "guide mini:guide", "second"},
        "tcig-no-guidance": {"vqgan", "clip", "second"},
        "tcig-no-stage1": {"second"},
        "tcig-two-guides": {
            "vqgan",
            "clip",
            "guide mini:guide-animals",
            "guide mini:guide-objects",
            "second",
        },
    }
    for row, parts in rows.items():
        spec, method = prepare(row, load_profile("mini"), None, "0" * 64)
        assert set(method.weights) == parts
        assert spec.method == row


def test_the_content_of_a_start_image_is_part_of_the_run(tmp_path):
    path, found = tmp_path / "start.png", []
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(path)
        first = FirstOptions(**vars(FIRST) | {"start": str(path)})
        found.append(tcig(stages="first", first=first).weights["start"])
    assert len(set(found)) == 2
    with pytest.raises(InputError, match=r"gray cannot be read .+ codes, grey, pixels"):
        tcig(stages="first", first=FirstOptions(**vars(FIRST) | {"start": "gray"}))
