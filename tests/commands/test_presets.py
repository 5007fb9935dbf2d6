"""Presets of `tcig sweep`: every trial once, a table and a figure, resumable."""

import pandas as pd
import pytest
from PIL import Image

from tcig.run.presets import PRESETS


@pytest.fixture
def run_preset(tcig, quick, tmp_path, monkeypatch):
    """A preset on two layouts, with few values of its options."""
    scored = tmp_path / "scored.toml"
    scored.write_text('scorer = "mini:clip-score"\n' + quick.read_text())
    for name, preset in PRESETS.items():
        few = {option: values[1:3] for option, values in preset.options.items()}
        monkeypatch.setitem(PRESETS, name, preset._replace(options=few, masks=preset.masks[:2]))

    def call(name, *extra, limit=2):
        settings = ("--profile", scored, "--out", tmp_path / "out", "--limit", limit)
        return tcig("sweep", "--preset", name, *settings, *extra)

    return call


def test_every_combination_is_a_trial_with_its_interval(run_preset, tmp_path):
    status, printed = run_preset("masks", "--set", "tcig.second.steps=20")
    assert status == 0
    table, figure = printed.out.split()
    frame = pd.read_csv(table)
    strengths = PRESETS["masks"].options["second.strength"]
    found = set(zip(frame["masks"], frame["second.strength"], strict=True))
    assert found == {(kind, s) for kind in ("true", "eroded") for s in strengths}
    assert (frame["iou_image_low"] <= frame["iou_image"]).all()
    assert (frame["n"] == 4).all()
    assert frame["clip_caption"].between(0, 2.5).all()
    assert frame["evaluations"].tolist()[:2] == [8, 16]
    runs = tmp_path / "out" / "runs"
    assert len(list(runs.glob("tcig-*"))) == len(frame) == 4
    images = {tuple(p.read_bytes() for p in sorted((runs / r).glob("*.png"))) for r in frame["run"]}
    assert len(images) == 4, "other masks are other images"
    with Image.open(figure) as image:
        assert image.width > 300

    times = {path: path.stat().st_mtime_ns for path in runs.glob("*/*.png")}
    run_preset("masks", "--set", "tcig.second.steps=20", limit=1)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert (pd.read_csv(table)["n"] == 2).all(), "of fewer layouts than there are images of"


def test_steps_are_those_of_each_row(run_preset):
    status, printed = run_preset("steps", "--set", "tcig.second.strength=0.5", limit=1)
    assert status == 0
    frame = pd.read_csv(printed.out.split()[0]).set_index("row")
    assert frame.loc["tcig", "evaluations"].tolist() == [10, 20]
    assert frame.loc["text-only", "evaluations"].tolist() == [20, 40]


def test_what_cannot_be_is_refused(run_preset):
    for extra, said in [
        (("--limit", 0), "must be at least 1"),
        (("--set", "si.steps=3"), "the rows"),
        (("--row", "si"), "either --row with --vary, or --preset"),
        (("--vary", "steps=1"), "--vary belongs to --row"),
    ]:
        status, printed = run_preset("loss-weights", *extra)
        assert status == 2
        assert said in printed.err


def test_leakage_is_measured_over_views_size_and_iterations(tcig, quick, tmp_path, monkeypatch):
    """Size and iterations are multiples of the profile's; gains are paired with the same ones."""
    profile, out = tmp_path / "judged.toml", tmp_path / "out"
    profile.write_text(quick.read_text().replace('"colours"', '"miniature", "guide"'))
    few = {"first.views.count": (0, 2), "first.size": (0.5, 1), "first.iterations": (2,)}
    preset = PRESETS["leakage"]._replace(options=few, rows=("tcig-stage1",))
    monkeypatch.setitem(PRESETS, "leakage", preset)
    arguments = ("--profile", profile, "--limit", 2, "--out", out)
    status, printed = tcig("sweep", "--preset", "leakage", *arguments)
    assert status == 0
    table, figure = printed.out.split()
    frame = pd.read_csv(table)
    assert len(frame) == 2 * 2
    assert set(frame["first.size"]) == {32, 64}
    assert set(frame["first.iterations"]) == {4}
    assert frame["leakage"].to_numpy() == pytest.approx(
        (frame["iou_guide"] - frame["iou_image"]).to_numpy(), abs=2e-4
    )
    assert (frame["leakage_low"] <= frame["leakage"]).all()
    without = frame["first.views.count"] == 0
    assert frame["gain"].isna().tolist() == without.tolist()
    same = ["row", "first.size", "first.iterations"]
    pairs = frame[~without].merge(frame[without], on=same, suffixes=("", "_without"))
    gains = pairs["iou_image"] - pairs["iou_image_without"]
    assert pairs["gain"].to_numpy() == pytest.approx(gains.to_numpy(), abs=1e-3)
    assert (pairs["gain_low"] <= pairs["gain"]).all()
    with Image.open(figure) as image:
        assert image.width > image.height > 300


def test_leakage_needs_a_judge_that_guides(tcig, quick, tmp_path):
    status, printed = tcig("sweep", "--preset", "leakage", "--profile", quick, "--out", tmp_path)
    assert status == 2
    assert "colours" in printed.err
    assert not list(tmp_path.rglob("*.png"))
