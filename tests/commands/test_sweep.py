"""`tcig sweep`: every combination once, on tuning layouts, resumable."""

import pandas as pd
import pytest

from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.layout import read_manifest
from tcig.methods.references import Paste


@pytest.fixture
def sweep(tcig, quick, tmp_path):
    def call(*extra, vary=("guidance=1 3", "steps=1 2")):
        settings = ("--profile", quick, "--out", tmp_path / "sweep", "--limit", 2)
        return tcig("sweep", "--row", "text-only", "--vary", *vary, *settings, *extra)

    return call


def test_every_combination_is_a_row_best_first(sweep, tmp_path):
    status, printed = sweep()
    assert status == 0
    table = tmp_path / "sweep" / "text-only.csv"
    assert printed.out == f"{table}\n"
    frame = pd.read_csv(table)
    pairs = {(row.guidance, row.steps) for row in frame.itertuples()}
    assert pairs == {(1, 1), (1, 2), (3, 1), (3, 2)}
    assert frame["iou_image"].is_monotonic_decreasing
    assert frame["n"].tolist() == [2] * 4
    for run in frame["run"]:
        assert len(list((tmp_path / "sweep" / run).glob("*.png"))) == 2


def test_options_joined_by_commas_change_together(sweep, tmp_path):
    assert sweep(vary=("guidance,steps=1,2 3,1", "negative=a b"))[0] == 0
    frame = pd.read_csv(tmp_path / "sweep" / "text-only.csv")
    trials = {(row.guidance, row.steps, row.negative) for row in frame.itertuples()}
    assert trials == {(1, 2, "a"), (1, 2, "b"), (3, 1, "a"), (3, 1, "b")}


def test_a_second_call_draws_nothing_again(sweep, tmp_path):
    sweep()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/text-only-*/*.png")}
    first = (tmp_path / "sweep" / "text-only.csv").read_text()
    sweep()
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert (tmp_path / "sweep" / "text-only.csv").read_text() == first


def test_the_tuning_split_shares_no_layout_with_the_reported_one(sweep, tmp_path):
    sweep(vary=("steps=1",))
    _, layouts = read_manifest(tmp_path / "sweep" / "tuning.jsonl")
    shipped = {str(int(path.stem)) for path in (EMOJI / "val2017").glob("*.png")}
    assert len(layouts) > 24
    assert not shipped & {layout.id for layout in layouts}


def test_excluded_layouts_are_left_out(sweep, tmp_path):
    sweep(vary=("steps=1",))
    manifest = tmp_path / "sweep" / "tuning.jsonl"
    status, printed = sweep("--layouts", manifest, "--exclude", manifest, vary=("steps=1",))
    assert status == 2
    assert "no layouts are left" in printed.err


def test_a_trial_whose_samples_fail_is_kept_as_failed(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(Paste, "generate", lambda *_: 1 / 0)
    status, _ = sweep("--row", "paste", vary=())
    assert status == 1
    frame = pd.read_csv(tmp_path / "sweep" / "paste.csv")
    assert frame["failed"].tolist() == [2]
    assert frame["iou_image"].isna().all()


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        (("guidance",), "give OPTION=VALUE"),
        (("guidance=",), "OPTION=VALUE VALUE"),
        (("guidanse=1",), "did you mean guidance"),
        (("steps=many",), "steps"),
        (("steps,guidance=1,2 3",), "3 is not 2 values"),
    ],
)
def test_what_cannot_be_varied_is_refused_before_anything_is_drawn(sweep, tmp_path, vary, said):
    status, printed = sweep(vary=vary)
    assert status == 2
    assert said in printed.err
    assert not list(tmp_path.glob("sweep/text-only-*"))
