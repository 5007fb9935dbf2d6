"""Methods from outside that go wrong, through `tcig run`, `draw` and `check`."""

import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

HEAD = """
import os, sys, warnings
import numpy as np
import torch
from PIL import Image
from tcig.methods.base import Method
"""
GREY = "return [Image.new('RGB', (self.context.size,) * 2, (9, 90, 9)) for _ in layouts]"


@pytest.fixture
def method(tmp_path):
    """Writes a method `Mine`; how it is named on the command line."""

    def write(body=GREY, before="", declared="pass", init="pass"):
        text = HEAD + before + "\nclass Mine(Method):\n    " + declared
        text += f"\n    def __init__(self, context, options):\n        {init}\n"
        text += "        super().__init__(context, options)\n"
        text += f"    def generate(self, layouts, seeds, callback=None):\n        {body}\n"
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
        return status, printed, records

    return call


@pytest.mark.parametrize("leave", ["quit()", "os._exit(0)", "raise SystemExit"])
def test_an_exit_in_generate_is_a_failed_sample(run, method, leave):
    status, printed, records = run(
        method(f"if 0 in [s % 2 for s in seeds]: {leave}\n        {GREY}")
    )
    assert status == 1
    assert "tried to end the process" in printed.err
    failed = [record["error"] is not None for record in records["Mine"]]
    assert failed == [record["seed"] % 2 == 0 for record in records["Mine"]]
    assert any(failed)
    assert [record["error"] for record in records["empty"]] == [None] * 3


def test_a_method_that_cannot_be_set_up_costs_no_other_row(run, method, tcig):
    spec = method(init="os._exit(0)")
    status, printed, records = run(spec)
    assert status == 1
    assert "Mine cannot be set up" in printed.err
    assert set(records) == {"empty"}
    status, printed = tcig("check", spec)
    assert status == 1
    assert "FAIL set-up" in printed.out


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"declared": "version = '1.0'"}, "version is '1.0'; expected an integer"),
        ({"declared": "weights = {'a': 3}"}, "weights is {'a': 3}; expected a dictionary"),
        (
            {"declared": "weights = property(lambda self: open('/nowhere'))"},
            "cannot name its weights",
        ),
        ({"declared": "sources = classmethod(lambda c, o: 'sd')"}, "sources() gave 'sd'"),
        ({"declared": "sources = classmethod(lambda c, o: 1 / 0)"}, "cannot name its sources"),
        ({"declared": "Options = Method"}, "expected a frozen dataclass"),
        ({"before": "sys.exit(0)"}, "cannot be loaded: ExitError"),
        ({"init": "return"}, "must call super().__init__(context, options)"),
    ],
)
def test_what_a_method_declares_is_checked(run, method, parts, said):
    status, printed, _ = run(method(**parts))
    assert status in (1, 2)
    assert said in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("where", "move"),
    [
        ("before", "torch.set_default_dtype(torch.float64)"),
        ("init", "torch.set_grad_enabled(False)"),
        ("body", "torch.set_float32_matmul_precision('medium')"),
        ("body", "os.chdir('/')"),
    ],
)
def test_other_rows_are_the_same_beside_a_method_that_moves_the_process(
    tcig, quick, method, tmp_path, monkeypatch, where, move
):
    monkeypatch.chdir(tmp_path)
    parts = {where: f"{move}\n        {GREY}" if where == "body" else move}
    shared = ["--profile", quick, "--limit", 1, "--no-score"]
    with warnings.catch_warnings(record=True) as caught:
        assert tcig("run", "--methods", method(**parts), "text-only", *shared, "--out", "a")[0] == 0
    assert tcig("run", "--methods", "text-only", *shared, "--out", "b")[0] == 0
    assert any("tcig put that back" in str(each.message) for each in caught)
    (beside,), (alone,) = (list(tmp_path.glob(f"{out}/text-only-*/*.png")) for out in "ab")
    assert beside.parent.name == alone.parent.name
    assert beside.read_bytes() == alone.read_bytes()


def test_options_of_other_types_are_recorded(run, tmp_path):
    text = """
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
class Kind(Enum):
    ONE = "one"
    TWO = "two"
@dataclass(frozen=True)
class Colour:
    red: int = 9
@dataclass(frozen=True)
class Settings:
    guides: tuple[str, ...] = ()
    names: frozenset[str] = frozenset({"b", "a"})
    model: Path = Path("model.safetensors")
    kind: Kind = Kind.ONE
    colour: Colour = field(default_factory=Colour)
class Mine(Method):
    Options = Settings
    def generate(self, layouts, seeds, callback=None):
        assert isinstance(self.options.model, Path) and self.options.kind is Kind.TWO
        colour = (self.options.colour.red,) * 3
        return [Image.new("RGB", (self.context.size,) * 2, colour) for _ in layouts]
"""
    (tmp_path / "mine.py").write_text(f"from __future__ import annotations\n{HEAD}{text}")
    sets = ["guides=a,b", "names=d,c", "model=x/y.pt", "kind=two", "colour.red=200"]
    given = ["--set", *(f"Mine.{each}" for each in sets)]
    status, printed, _ = run(f"{tmp_path / 'mine.py'}:Mine", *given)
    assert status == 0, printed.err
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/Mine-*/run.json"))
    assert record["spec"]["options"] == {
        "guides": ["a", "b"],
        "names": ["c", "d"],
        "model": "x/y.pt",
        "kind": "two",
        "colour": {"red": 200},
    }


@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_numbers_that_are_not_finite_are_refused_wherever_they_stand(run, method, value):
    before = f"""
from dataclasses import dataclass
@dataclass(frozen=True)
class Settings:
    scales: tuple[float, ...] = (1.0, float("{value}"))
"""
    status, printed, _ = run(method(before=before, declared="Options = Settings"))
    assert status == 2
    assert "scales must be a finite number" in printed.err


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no checkpoint')", "ValueError: no checkpoint (line 14 of mine.py)"),
        ("return [Image.new('RGBA', (99, 77)) for _ in layouts]", "RGBA image of 99x77"),
        ("sys.exit(0)", "tried to end the process"),
    ],
)
def test_draw_checks_what_a_method_gives(tcig, quick, method, tmp_path, body, said):
    mask = Image.new("RGB", (64, 64))
    ImageDraw.Draw(mask).ellipse((10, 10, 50, 50), "white")
    mask.save(tmp_path / "cat.png")
    out = tmp_path / "out.png"
    arguments = ["--profile", quick, "--prompt", "a cat", "--mask", tmp_path / "cat.png"]
    status, printed = tcig("draw", *arguments, "--method", method(body), "--out", out)
    assert status == 1
    assert said in printed.err
    assert not out.exists()
    status, printed = tcig("draw", *arguments, "--method", method(), "--out", out)
    assert (status, printed.out) == (0, f"{out}\n")
    assert np.asarray(Image.open(out))[0, 0].tolist() == [9, 90, 9]


def test_a_callback_may_be_told_anything(run, method):
    body = f"[callback(*a, **k) for a, k in CALLS]\n        {GREY}"
    before = (
        "CALLS = [((), {}), (('progress',), {}), (('progress',), {'done': 'x'}), (('step', 3), {}),"
        " (('progress',), {'done': 7.0}), (('progress',), {'done': -1})]"
    )
    assert run(method(body, before))[0] == 0


def test_a_method_without_a_callback_is_run(run, method, tmp_path):
    spec, path = method(), tmp_path / "mine.py"
    path.write_text(path.read_text().replace(", callback=None", ""))
    assert run(spec)[0] == 0
