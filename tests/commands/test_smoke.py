"""`tcig smoke`: what passes, what fails, and the ranges that are shipped."""

import re
from importlib.resources import files

import pandas as pd
import pytest

from tcig import profiles
from tcig.commands import smoke
from tcig.methods.registry import ROWS as ALL

ROWS = [row for row in ALL if row not in ("controlnet", "gligen")]
"""The rows with miniature models."""
FEW = ("real", "paste", "empty", "si")
RANGES = files("tcig.results") / "mini" / "smoke.csv"


@pytest.fixture
def few_rows(monkeypatch):
    load = profiles.load_profile
    change = {"rows": FEW}
    monkeypatch.setattr(profiles, "load_profile", lambda name: load(name).model_copy(update=change))


def test_all_rows_have_a_range():
    ranges = pd.read_csv(RANGES).set_index("row")
    assert set(ranges.index) | set(smoke.EXACT) == set(ROWS)
    assert set(ROWS) == set(profiles.load_profile("smoke").rows)
    assert (ranges["low"] < ranges["high"]).all()
    assert (ranges["high"] - ranges["low"] >= ranges["spread"]).all()
    assert ranges.loc["real", "low"] > 0.5


def test_rows_pass_within_their_ranges_and_fail_beyond(few_rows, tcig, tmp_path, monkeypatch):
    status, printed = tcig("smoke", "--out", tmp_path)
    assert status == 0, printed
    assert [line.split()[:2] for line in printed.out.splitlines()] == [["ok", row] for row in FEW]
    assert "| si " in (tmp_path / "table.md").read_text()
    assert (tmp_path / "systems.png").exists()
    ranges = tmp_path / "ranges.csv"
    ranges.write_text("row,low,high\nreal,0,1\nsi,0.99,1\n")
    monkeypatch.setitem(smoke.EXACT, "empty", 0.0001)
    monkeypatch.setattr("tcig.methods.base.Paste.generate", lambda *_: 1 / 0)
    status, printed = tcig("smoke", "--out", tmp_path, "--ranges", ranges)
    assert status == 1
    assert re.findall(r"^FAIL (\S+)", printed.out, re.MULTILINE) == ["paste", "empty", "si"]
    assert "nan" in printed.out


def test_ranges_that_lack_a_row_or_cannot_be_read(refuse, tmp_path):
    ranges = tmp_path / "ranges.csv"
    ranges.write_text("row,low,high\nsi,0,1\n")
    refuse("no range is stored for bld, ", "smoke", "--out", tmp_path, "--ranges", ranges)
    ranges.write_text("nothing\n")
    refuse("holds no ranges", "smoke", "--out", tmp_path, "--ranges", ranges)


def test_measuring_stores_what_was_reached_and_a_margin(few_rows, tcig, tmp_path, monkeypatch):
    monkeypatch.setattr(smoke, "MACHINES", ({"OMP_NUM_THREADS": "1"},))
    target = tmp_path / "ranges.csv"
    assert tcig("smoke", "--measure", target, "--out", tmp_path)[0] == 0
    ranges, shipped = (pd.read_csv(path).set_index("row") for path in (target, RANGES))
    assert set(ranges.index) == {"real", "si"}
    assert (ranges["spread"] == 0).all()
    middle = (ranges["low"] + ranges["high"]) / 2
    assert (middle > shipped.loc[middle.index, "low"]).all()
    assert ranges.loc["si", "high"] - ranges.loc["si", "low"] == pytest.approx(0.16, abs=1e-3)
