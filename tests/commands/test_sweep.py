"""`tcig sweep`: every combination once, a table and a figure, resumable; the presets."""

import pandas as pd
import pytest
from PIL import Image

from tcig.cli import main
from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.manifest import read_manifest
from tcig.methods.base import Paste
from tcig.run.presets import PRESETS


def modification_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*.png")}


@pytest.fixture(scope="module")
def swept(quick, tmp_path_factory):
    """The folder of a sweep over guidance and steps, and its command."""
    out = tmp_path_factory.mktemp("sweep")
    command = ["sweep", "--row", "text-only", "--vary", "guidance=1 3", "steps=1 2", "--limit", "2"]
    command += ["--profile", str(quick), "--out", str(out)]
    assert main(command) == 0
    return out, command


@pytest.fixture
def sweep(tcig, quick, swept, tmp_path):
    """Sweeps a row over the same layouts, in another folder."""

    def call(*vary, row="text-only", more=()):
        layouts = ("--layouts", swept[0] / "tuning.jsonl", "--limit", 2)
        settings = ("--profile", quick, "--out", tmp_path / "sweep", *layouts, *more)
        return tcig("sweep", "--row", row, "--vary", *vary, *settings)

    return call


def test_every_combination_is_a_row_best_first_and_made_once(swept, tcig):
    out, command = swept
    table = out / "text-only.csv"
    first = table.read_text()
    frame = pd.read_csv(table)
    assert {*zip(frame["guidance"], frame["steps"], strict=True)} == {
        (1, 1),
        (1, 2),
        (3, 1),
        (3, 2),
    }
    assert frame["iou_image"].is_monotonic_decreasing
    assert frame["n"].tolist() == [2] * 4
    times = modification_times(out)
    assert {path.parent.name for path in times} >= set(frame["run"])
    status, printed = tcig(*command)
    assert (status, printed.out) == (0, f"{table}\n")
    assert times == modification_times(out)
    assert table.read_text() == first


def test_the_tuning_split_shares_no_layout_with_the_reported_one(swept):
    _, layouts = read_manifest(swept[0] / "tuning.jsonl")
    shipped = {str(int(path.stem)) for path in (EMOJI / "val2017").glob("*.png")}
    assert len(layouts) > 24
    assert not shipped & {layout.id for layout in layouts}


def test_options_joined_by_commas_change_together(sweep, tmp_path):
    assert sweep("guidance,steps=1,2 3,1", "negative=a b")[0] == 0
    frame = pd.read_csv(tmp_path / "sweep" / "text-only.csv")
    trials = {*zip(frame["guidance"], frame["steps"], frame["negative"], strict=True)}
    assert trials == {(1, 2, "a"), (1, 2, "b"), (3, 1, "a"), (3, 1, "b")}


def test_a_trial_whose_samples_fail_is_kept_as_failed(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(Paste, "generate", lambda *_: 1 / 0)
    assert sweep(row="paste")[0] == 1
    frame = pd.read_csv(tmp_path / "sweep" / "paste.csv")
    assert frame["failed"].tolist() == [2]
    assert frame["iou_image"].isna().all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["guidance"], "give OPTION=VALUE"),
        (["guidance="], "OPTION=VALUE VALUE"),
        (["guidanse=1"], "did you mean guidance"),
        (["steps=many"], "steps"),
        (["steps,guidance=1,2 3"], "3 is not 2 values"),
        (["steps=1", "--exclude", "TUNING"], "no layouts are left"),
        (["steps=1", "--preset", "steps"], "either --row with --vary, or --preset"),
    ],
)
def test_what_cannot_be_varied_is_refused_before_anything_is_drawn(
    sweep, swept, tmp_path, arguments, said
):
    vary, *more = (swept[0] / "tuning.jsonl" if each == "TUNING" else each for each in arguments)
    status, printed = sweep(vary, more=more)
    assert status == 2
    assert said in printed.err
    assert not list(tmp_path.glob("sweep/text-only-*"))


@pytest.fixture
def run_preset(tcig, quick, tmp_path, monkeypatch):
    """Runs a preset on few layouts, with few values of its options: status and table."""

    def call(name, *extra, limit=1, judges='"colours"', **changes):
        profile = tmp_path / "scored.toml"
        text = quick.read_text().replace('"colours"', judges)
        profile.write_text('scorer = "mini:clip-score"\n' + text)
        preset = PRESETS[name]
        few = {option: values[1:3] for option, values in preset.options.items()}
        changes = {"options": few, "masks": preset.masks[:2], **changes}
        settings = ("--profile", profile, "--out", tmp_path / "out", "--limit", limit)
        with monkeypatch.context() as patch:
            patch.setitem(PRESETS, name, preset._replace(**changes))
            status, printed = tcig("sweep", "--preset", name, *settings, *extra)
        if status:
            return status, printed.err
        table, figure = printed.out.split()
        with Image.open(figure) as image:
            assert image.width > 300
        return status, pd.read_csv(table)

    return call


def test_every_combination_is_a_trial_with_its_interval(run_preset, tmp_path):
    options = {"second.strength": (0.2, 0.4)}
    status, frame = run_preset("masks", "--set", "tcig.second.steps=10", limit=2, options=options)
    assert status == 0
    found = {*zip(frame["masks"], frame["second.strength"], strict=True)}
    assert found == {(kind, s) for kind in ("true", "eroded") for s in (0.2, 0.4)}
    assert (frame["iou_image_low"] <= frame["iou_image"]).all()
    assert (frame["n"] == 4).all()
    assert frame["clip_caption"].between(0, 2.5).all()
    assert frame["evaluations"].tolist()[:2] == [4, 8]
    runs = tmp_path / "out" / "runs"
    images = {tuple(p.read_bytes() for p in sorted((runs / r).glob("*.png"))) for r in frame["run"]}
    assert len(images) == len(frame) == 4, "other masks are other images"
    times = modification_times(runs)
    _, frame = run_preset("masks", "--set", "tcig.second.steps=10", options=options)
    assert times == modification_times(runs)
    assert (frame["n"] == 2).all(), "of fewer layouts than there are images of"


def test_steps_are_those_of_each_row(run_preset):
    changes = {"options": {"steps": (2, 4)}, "rows": ("tcig", "text-only"), "samples": 1}
    _, frame = run_preset("steps", "--set", "tcig.second.strength=0.5", **changes)
    frame = frame.set_index("row")
    assert frame.loc["tcig", "evaluations"].tolist() == [2, 4]
    assert frame.loc["text-only", "evaluations"].tolist() == [4, 8]


def test_leakage_is_measured_over_views_size_and_iterations(run_preset):
    """Size and iterations are multiples of the profile's; gains are paired with the same ones."""
    few = {"first.views.count": (0, 2), "first.size": (0.5, 1), "first.iterations": (2,)}
    changes = {"options": few, "rows": ("tcig-stage1",), "judges": '"miniature", "guide"'}
    status, frame = run_preset("leakage", limit=2, **changes)
    assert status == 0
    assert len(frame) == 2 * 2
    assert set(frame["first.size"]) == {32, 64}
    assert set(frame["first.iterations"]) == {4}
    leakage = frame["iou_guide"] - frame["iou_image"]
    assert frame["leakage"].to_numpy() == pytest.approx(leakage.to_numpy(), abs=2e-4)
    assert (frame["leakage_low"] <= frame["leakage"]).all()
    without = frame["first.views.count"] == 0
    assert frame["gain"].isna().tolist() == without.tolist()
    same = ["row", "first.size", "first.iterations"]
    pairs = frame[~without].merge(frame[without], on=same, suffixes=("", "_without"))
    gains = pairs["iou_image"] - pairs["iou_image_without"]
    assert pairs["gain"].to_numpy() == pytest.approx(gains.to_numpy(), abs=1e-3)
    assert (pairs["gain_low"] <= pairs["gain"]).all()


@pytest.mark.parametrize(
    ("preset", "extra", "said"),
    [
        ("loss-weights", ("--set", "si.steps=3"), "the rows"),
        ("loss-weights", ("--vary", "steps=1"), "--vary belongs to --row"),
        ("leakage", (), "colours"),
    ],
)
def test_presets_that_cannot_be_are_refused(run_preset, tmp_path, preset, extra, said):
    status, error = run_preset(preset, *extra)
    assert status == 2
    assert said in error
    assert not list(tmp_path.rglob("*.png"))
