"""`tcig smoke`: what passes, what fails, and the ranges that are shipped."""

import re
from importlib.resources import files

import pandas as pd
import pytest

from tcig.commands import smoke
from tcig.methods.registry import ROWS as ALL
from tcig.run import experiment

OPEN = ("controlnet", "gligen")
"""Of which no miniature is trained."""
ROWS = [row for row in ALL if row not in OPEN]


@pytest.fixture
def reached(monkeypatch):
    """Every row in the middle of its shipped range, and no row is drawn."""
    ranges = pd.read_csv(files("tcig.results") / "mini" / "smoke.csv").set_index("row")
    values = ((ranges["low"] + ranges["high"]) / 2).to_dict() | smoke.EXACT
    status = {"run": 0}
    monkeypatch.setattr(
        experiment,
        "run_experiment",
        lambda *_, **__: experiment.Outcome([], status["run"]),
    )
    monkeypatch.setattr(smoke, "_reached", lambda work, out: values)
    return values, status


def test_all_rows_have_a_range():
    ranges = pd.read_csv(files("tcig.results") / "mini" / "smoke.csv").set_index("row")
    assert set(ranges.index) | set(smoke.EXACT) == set(ROWS)
    assert (ranges["low"] < ranges["high"]).all()
    assert (ranges["high"] - ranges["low"] >= ranges["spread"]).all()
    assert ranges.loc["real", "low"] > 0.5


def test_rows_within_their_ranges_pass(reached, tcig, tmp_path):
    status, printed = tcig("smoke", "--out", tmp_path)
    assert status == 0
    assert [line.split()[:2] for line in printed.out.splitlines()] == [["ok", row] for row in ROWS]


@pytest.mark.parametrize(
    ("row", "iou"),
    [("paste", 0.9999), ("empty", 0.0001), ("si", 0.0), ("tcig", 1.0), ("real", float("nan"))],
)
def test_a_row_beyond_its_range_fails_by_name(reached, tcig, tmp_path, row, iou):
    reached[0][row] = iou
    status, printed = tcig("smoke", "--out", tmp_path)
    assert status == 1
    (line,) = (line for line in printed.out.splitlines() if line.startswith("FAIL"))
    assert line.split()[1] == row


def test_a_row_that_is_not_there_fails(reached, tcig, tmp_path):
    del reached[0]["bld"]
    status, printed = tcig("smoke", "--out", tmp_path)
    assert status == 1
    assert "FAIL bld" in printed.out


def test_a_failed_sample_fails(reached, tcig, tmp_path):
    reached[1]["run"] = 1
    assert tcig("smoke", "--out", tmp_path)[0] == 1


def test_ranges_that_lack_a_row_or_cannot_be_read(reached, tcig, tmp_path):
    ranges = tmp_path / "ranges.csv"
    ranges.write_text("row,low,high\nsi,0,1\n")
    status, printed = tcig("smoke", "--out", tmp_path, "--ranges", ranges)
    assert status == 2
    missing = set(ROWS) - set(smoke.EXACT) - {"si"}
    assert missing == set(re.findall(r"[\w-]+", printed.err)) & set(ROWS)
    ranges.write_text("nothing\n")
    status, printed = tcig("smoke", "--out", tmp_path, "--ranges", ranges)
    assert status == 2
    assert "holds no ranges" in printed.err


def test_measuring_stores_what_all_machines_reached_and_a_margin(monkeypatch, tcig, tmp_path):
    found = iter([{"si": 0.3, "real": 0.97} | smoke.EXACT, {"si": 0.4, "real": 0.99} | smoke.EXACT])
    machines = ({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "2"})
    seen = []

    class Done:
        returncode = 0

    monkeypatch.setattr(smoke, "MACHINES", machines)
    monkeypatch.setattr(smoke, "_reached", lambda work, out: next(found))
    monkeypatch.setattr(
        smoke.subprocess, "run", lambda command, env: seen.append((command, env)) or Done
    )
    target = tmp_path / "ranges.csv"
    assert tcig("smoke", "--measure", target, "--out", tmp_path)[0] == 0
    assert [env["OMP_NUM_THREADS"] for _, env in seen] == ["1", "2"]
    assert set(ROWS) <= set(seen[0][0])
    assert not set(OPEN) & set(seen[0][0])
    ranges = pd.read_csv(target).set_index("row")
    assert set(ranges.index) == {"si", "real"}
    assert ranges.loc["si"].tolist() == pytest.approx([0.22, 0.48, 0.1])
    assert ranges.loc["real"].tolist() == pytest.approx([0.89, 1.0, 0.02])
