"""`tcig sweep`: every combination once, on tuning layouts, resumable."""

import pandas as pd
import pytest

from tcig.cli import main
from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.manifest import read_manifest
from tcig.methods.references import Paste


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
    pairs = {(row.guidance, row.steps) for row in frame.itertuples()}
    assert pairs == {(1, 1), (1, 2), (3, 1), (3, 2)}
    assert frame["iou_image"].is_monotonic_decreasing
    assert frame["n"].tolist() == [2] * 4
    for run in frame["run"]:
        assert len(list((out / run).glob("*.png"))) == 2
    times = {path: path.stat().st_mtime_ns for path in out.glob("text-only-*/*.png")}
    status, printed = tcig(*command)
    assert (status, printed.out) == (0, f"{table}\n")
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert table.read_text() == first


def test_options_joined_by_commas_change_together(sweep, tmp_path):
    assert sweep("guidance,steps=1,2 3,1", "negative=a b")[0] == 0
    frame = pd.read_csv(tmp_path / "sweep" / "text-only.csv")
    trials = {(row.guidance, row.steps, row.negative) for row in frame.itertuples()}
    assert trials == {(1, 2, "a"), (1, 2, "b"), (3, 1, "a"), (3, 1, "b")}


def test_the_tuning_split_shares_no_layout_with_the_reported_one(swept):
    _, layouts = read_manifest(swept[0] / "tuning.jsonl")
    shipped = {str(int(path.stem)) for path in (EMOJI / "val2017").glob("*.png")}
    assert len(layouts) > 24
    assert not shipped & {layout.id for layout in layouts}


def test_excluded_layouts_are_left_out(sweep, swept):
    status, printed = sweep("steps=1", more=("--exclude", swept[0] / "tuning.jsonl"))
    assert status == 2
    assert "no layouts are left" in printed.err


def test_a_trial_whose_samples_fail_is_kept_as_failed(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(Paste, "generate", lambda *_: 1 / 0)
    assert sweep(row="paste")[0] == 1
    frame = pd.read_csv(tmp_path / "sweep" / "paste.csv")
    assert frame["failed"].tolist() == [2]
    assert frame["iou_image"].isna().all()


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("guidance", "give OPTION=VALUE"),
        ("guidance=", "OPTION=VALUE VALUE"),
        ("guidanse=1", "did you mean guidance"),
        ("steps=many", "steps"),
        ("steps,guidance=1,2 3", "3 is not 2 values"),
    ],
)
def test_what_cannot_be_varied_is_refused_before_anything_is_drawn(sweep, tmp_path, vary, said):
    status, printed = sweep(vary)
    assert status == 2
    assert said in printed.err
    assert not list(tmp_path.glob("sweep/text-only-*"))
