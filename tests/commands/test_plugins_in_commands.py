"""Methods from outside that go wrong, through `tcig run`, `draw` and `check`."""

import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

HEAD = """
from __future__ import annotations
import os, sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
import torch
from PIL import Image
from tcig.methods.base import Method
"""
GREY = "return [Image.new('RGB', (self.context.size,) * 2, (9, 90, 9)) for _ in layouts]"
SETTINGS = "@dataclass(frozen=True)\nclass Settings:\n    value: {}\n"


@pytest.fixture
def method(tmp_path):
    """Writes a method `Mine`; how it is named on the command line."""

    def write(body=GREY, before="", declared="pass", init="pass", callback=", callback=None"):
        text = HEAD + before + "\nclass Mine(Method):\n    " + declared
        text += f"\n    def __init__(self, context, options):\n        {init}\n"
        text += "        super().__init__(context, options)\n"
        text += f"    def generate(self, layouts, seeds{callback}):\n        {body}\n"
        (tmp_path / "mine.py").write_text(text)
        return f"{tmp_path / 'mine.py'}:Mine"

    return write


@pytest.fixture
def run(tcig, quick, tmp_path):
    """Runs a method beside `empty`; the status, what was said, and each row's records."""

    def call(spec, *more):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        arguments = ["--profile", quick, "--limit", 3, "--out", tmp_path / "runs", *more]
        status, printed = tcig("run", "--methods", spec, "empty", *arguments)
        records = {
            path.parent.name.partition("-")[0]: [json.loads(line) for line in path.open()]
            for path in tmp_path.glob("runs/*/rows.jsonl")
        }
        return status, printed.err, records

    return call


def test_an_exit_in_generate_is_a_failed_sample(run, method):
    body = f"if 0 in [s % 2 for s in seeds]: os._exit(0)\n        {GREY}"
    status, error, records = run(method(body))
    assert status == 1
    assert "tried to end the process" in error
    failed = [record["error"] is not None for record in records["Mine"]]
    assert failed == [record["seed"] % 2 == 0 for record in records["Mine"]]
    assert any(failed)
    assert [record["error"] for record in records["empty"]] == [None] * 3


def test_a_method_that_cannot_be_set_up_costs_no_other_row(run, method, tcig):
    spec = method(init="os._exit(0)")
    status, error, records = run(spec)
    assert status == 1
    assert "Mine cannot be set up" in error
    assert set(records) == {"empty"}
    status, printed = tcig("check", spec)
    assert status == 1
    assert "FAIL set-up" in printed.out


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"declared": "version = '1.0'"}, "version is '1.0'; expected an integer"),
        ({"declared": "weights = {'a': 3}"}, "weights is {'a': 3}; expected a dictionary"),
        ({"declared": "weights = property(lambda self: 1 / 0)"}, "cannot name its weights"),
        ({"declared": "sources = classmethod(lambda c, o: 'sd')"}, "sources() gave 'sd'"),
        ({"declared": "sources = classmethod(lambda c, o: 1 / 0)"}, "cannot name its sources"),
        ({"declared": "Options = Method"}, "expected a frozen dataclass"),
        ({"before": "sys.exit(0)"}, "cannot be loaded: ExitError"),
        ({"init": "return"}, "must call super().__init__(context, options)"),
        ({"value": "complex = 1j"}, "cannot be written as JSON"),
        ({"value": "tuple[float, ...] = (1.0, -1e999)"}, "value must be a finite number"),
    ],
)
def test_what_a_method_declares_is_checked(run, method, parts, said):
    if "value" in parts:
        parts = {"before": SETTINGS.format(parts["value"]), "declared": "Options = Settings"}
    status, error, _ = run(method(**parts))
    assert status in (1, 2)
    assert said in error
    assert error.count("\n") == 1


def test_other_rows_are_the_same_beside_a_method_that_moves_the_process(
    tcig, quick, method, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    spec = method(
        f"torch.set_float32_matmul_precision('medium'); os.chdir('/')\n        {GREY}",
        before="torch.set_default_dtype(torch.float64)",
        init="torch.set_grad_enabled(False)",
    )
    shared = ["--profile", quick, "--limit", 1, "--no-score"]
    with warnings.catch_warnings(record=True) as caught:
        assert tcig("run", "--methods", spec, "text-only", *shared, "--out", "a")[0] == 0
    assert tcig("run", "--methods", "text-only", *shared, "--out", "b")[0] == 0
    assert sum("tcig put that back" in str(each.message) for each in caught) == 3
    (beside,), (alone,) = (list(tmp_path.glob(f"{out}/text-only-*/*.png")) for out in "ab")
    assert beside.parent.name == alone.parent.name
    assert beside.read_bytes() == alone.read_bytes()


def test_options_of_other_types_are_recorded(run, method, tmp_path):
    before = """
class Kind(Enum):
    ONE = "one"
    TWO = "two"
@dataclass(frozen=True)
class Colour:
    red: int = 9
@dataclass(frozen=True)
class Settings:
    names: frozenset[str] = frozenset({"b", "a"})
    model: Path = Path("model.safetensors")
    kind: Kind = Kind.ONE
    colour: Colour = field(default_factory=Colour)
"""
    body = f"assert isinstance(self.options.model, Path)\n        {GREY}"
    spec = method(body, before, "Options = Settings")
    changes = ["names=d,c", "model=x/y.pt", "kind=two", "colour.red=200"]
    status, error, _ = run(spec, "--set", *(f"Mine.{each}" for each in changes))
    assert status == 0, error
    (path,) = tmp_path.glob("runs/Mine-*/run.json")
    expected = {"names": ["c", "d"], "model": "x/y.pt", "kind": "two", "colour": {"red": 200}}
    assert json.loads(path.read_text())["spec"]["options"] == expected


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no checkpoint')", "no checkpoint (line 17 of mine.py)"),
        ("return [Image.new('RGBA', (99, 77)) for _ in layouts]", "RGBA image of 99x77"),
        (GREY, ""),
    ],
)
def test_draw_checks_what_a_method_gives(tcig, quick, method, tmp_path, body, said):
    mask, out = tmp_path / "cat.png", tmp_path / "out.png"
    image = Image.new("RGB", (64, 64))
    ImageDraw.Draw(image).ellipse((10, 10, 50, 50), "white")
    image.save(mask)
    arguments = ["--profile", quick, "--prompt", "a cat", "--mask", mask, "--out", out]
    status, printed = tcig("draw", *arguments, "--method", method(body))
    assert status == (1 if said else 0)
    assert said in printed.err
    assert out.exists() == (body == GREY)
    assert not out.exists() or np.asarray(Image.open(out))[0, 0].tolist() == [9, 90, 9]


def test_a_method_may_tell_a_callback_anything_or_take_none(run, method):
    calls = "callback(), callback('step', 3), [callback('progress', done=x) for x in ('x', 7.0)]"
    assert run(method(f"{calls}\n        {GREY}"))[0] == 0
    assert run(method(callback=""))[0] == 0
