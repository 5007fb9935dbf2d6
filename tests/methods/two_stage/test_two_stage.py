"""TCIG as a method: its stages together, alone, and what rows share."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tcig.methods.base import Context
from tcig.methods.two_stage.method import Options, TwoStage
from tcig.methods.two_stage.stage1 import Stage1, Stage1Options
from tcig.methods.two_stage.stage2 import Stage2Options
from tcig.profiles import load_profile
from tcig.run.experiment import run_experiment
from tcig.run.spec import prepare

FIRST = Stage1Options(
    vqgan="mini:vqgan",
    clip="mini:clip",
    guides=("mini:guide",),
    iterations=2,
    cutouts=2,
    guide_size=64,
)
SECOND = Stage2Options(pipeline="mini:stable-diffusion", steps=4, guidance=5.0)


def tcig(stages="both", folder=None, **first):
    first = dataclasses.replace(FIRST, **first)
    return TwoStage(Context(64, stage1=folder), Options(stages, first, SECOND))


@pytest.fixture
def layouts(box_layout):
    return [
        box_layout(64, "a cat", "1", cat=(8, 40, 4, 30)),
        box_layout(64, "a bus", "2", bus=(20, 60, 34, 62)),
    ]


@pytest.fixture
def optimisations(monkeypatch):
    """The layouts that stage 1 has drawn, call by call."""
    calls, call = [], Stage1.__call__

    def counted(self, layouts, *arguments):
        calls.append([layout.id for layout in layouts])
        return call(self, layouts, *arguments)

    monkeypatch.setattr(Stage1, "__call__", counted)
    return calls


def grey_levels(a, b):
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max()


def test_stages_together_and_alone(layouts):
    method = tcig()
    placed = method.place(layouts, [1, 2])
    images = method.generate(layouts, [1, 2])
    refined = method.refine(layouts, placed, [1, 2])
    alone = tcig("first").generate(layouts, [1, 2])
    assert [grey_levels(a, b) for a, b in zip(images, refined, strict=True)] == [0, 0]
    assert [grey_levels(a, b) for a, b in zip(placed, alone, strict=True)] == [0, 0]
    assert grey_levels(images[0], placed[0]) > 10
    masked = [layouts[0], layouts[0].model_copy(update={"regions": ()})]
    assert grey_levels(*tcig("second").generate(masked, [1, 1])) == 0, "it knows no masks"


def test_rows_that_differ_only_in_stage_two_share_stage_one(layouts, optimisations, tmp_path):
    folder = tmp_path / "stage1"
    first = tcig("first", folder).generate(layouts, [1, 2])
    images = tcig("both", folder).generate(layouts, [1, 2])
    assert optimisations == [["1", "2"]]
    assert len(list(folder.glob("*.png"))) == 2
    for one, other in zip(images, tcig().generate(layouts, [1, 2]), strict=True):
        assert grey_levels(one, other) == 0, "stored images are those of the optimisation"
    again = tcig("first", folder).generate(layouts[::-1], [2, 1])[::-1]
    assert [grey_levels(a, b) for a, b in zip(first, again, strict=True)] == [0, 0]
    assert len(optimisations) == 2
    tcig("both", folder).generate(layouts, [1, 3])
    tcig("first", folder, rate=0.2).generate(layouts[:1], [1])
    assert optimisations[2:] == [["2"], ["1"]]
    events = []
    tcig("first", folder).place(layouts[:1], [1], lambda event, **_: events.append(event))
    assert events.count("iteration") == FIRST.iterations + 1, "a watcher sees all"


def test_rows_of_a_run_share_stage_one(optimisations, tmp_path):
    rows = ["tcig-stage1", "tcig", "tcig-no-clip"]
    settings = [f"{row}.first.iterations=1" for row in rows]
    run_experiment(rows, "smoke", settings=settings, limit=2, judges=(), out=tmp_path)
    assert [len(layouts) for layouts in optimisations] == [2, 2], "without CLIP it is another"
    assert len(list((tmp_path / "stage1-batch8").iterdir())) == 4


@pytest.mark.parametrize("damage", ["cut", "zeroed", "folder"])
def test_a_damaged_image_of_stage_one_is_made_anew(damage, layouts, optimisations, tmp_path):
    method = tcig("first", tmp_path / "stage1")
    (expected,) = method.generate(layouts[:1], [1])
    (path,) = (tmp_path / "stage1").iterdir()
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        half = len(whole) // 2
        path.write_bytes(whole[:half] + bytes(half if damage == "zeroed" else 0))
    assert grey_levels(method.generate(layouts[:1], [1])[0], expected) == 0
    assert len(optimisations) == 2
    assert damage == "folder" or path.read_bytes() == whole


def test_without_a_folder_nothing_is_stored(layouts, optimisations, tmp_path):
    """Neither where none is named nor where the runs' folder is on another machine."""
    for folder in (None, tmp_path / "none" / "stage1"):
        for _ in range(2):
            tcig("first", folder).generate(layouts[:1], [1])
    assert len(optimisations) == 4
    assert list(tmp_path.iterdir()) == []


def test_stage_one_has_a_size_of_its_own(layouts):
    assert tcig(size=32).place(layouts[:1], [1])[0].size == (32, 32)
    for stages in ("first", "both"):
        (image,) = tcig(stages, size=32).generate(layouts[:1], [1])
        assert image.size == (64, 64)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ({"clip": ""}, "weights '' not found"),
        ({"size": 30}, "stage 1 cannot make images of 30 px: give first.size a multiple of 4"),
        ({"vqgan": "mini:clip"}, "model.yaml cannot be read"),
        ({"guides": ("mini:none",)}, "no miniature segmenter"),
        ({"start": "gray"}, "codes, grey, pixels"),
    ],
)
def test_what_cannot_be_set_up_is_one_sentence(first, said, refused):
    with refused(said):
        tcig(**first)


def test_rows_load_and_record_only_what_they_use(tmp_path):
    mini = load_profile("mini")
    for row, parts in {
        "tcig": {"vqgan", "clip", "guide mini:guide", "second"},
        "tcig-stage1": {"vqgan", "clip", "guide mini:guide"},
        "tcig-no-clip": {"vqgan", "guide mini:guide", "second"},
        "tcig-no-guidance": {"vqgan", "clip", "second"},
        "tcig-no-stage1": {"second"},
        "tcig-two-guides": {
            *("vqgan", "clip", "second"),
            *("guide mini:guide-animals", "guide mini:guide-objects"),
        },
    }.items():
        spec, method = prepare(row, mini, None, "0" * 64)
        assert set(method.weights) == parts
        assert spec.method == row
    path, starts = tmp_path / "start.png", []
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(path)
        starts.append(tcig("first", start=str(path)).weights["start"])
    assert starts[0] != starts[1], "the content of a start image is part of the run"
