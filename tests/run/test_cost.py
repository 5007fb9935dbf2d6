"""What `tcig plan` counts is what a run does."""

import json
import shutil
from contextlib import ExitStack

import pytest
import torch
from random_networks import FEW
from toy import rows_of

from tcig import cli
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts
from tcig.methods import direct
from tcig.methods.registry import ROWS
from tcig.profiles import load_profile
from tcig.run.spec import choose, prepare

SMOKE = load_profile("smoke")
VARIANTS = {
    "bld": [{"variant": "ldm"}, {"candidates": 2, "clip": "mini:clip", "steps": 5}],
    "multidiffusion": [{"bootstrapping": "code", "negative": "a cat", "steps": 3}],
    "controlnet": [{"share": 0.5, "steps": 4, "negative": "a cat"}],
    "t2i-adapter": [{"share": 0.5, "steps": 4}],
    "tcig": [{"first.iterations": 2, "second.steps": 7, "second.guidance": 1.0}],
}
CASES = [(row, {}) for row in ROWS] + [(row, each) for row in VARIANTS for each in VARIANTS[row]]


@pytest.fixture(scope="module")
def layouts():
    return hash_order(build_layouts(FOLDER, Filter())[1])[:2]


@pytest.mark.parametrize(("row", "settings"), CASES, ids=str)
def test_evaluations_and_steps_are_those_of_a_run(row, settings, layouts, open_rows, monkeypatch):
    settings = open_rows.get(row, {}) | FEW.get(ROWS[row].method, {}) | settings
    chosen = choose(row, SMOKE, settings)
    expected = chosen.kind.cost(chosen.options, layouts)
    _, method = prepare(row, SMOKE, FOLDER, "0" * 64, settings)
    counted = {"unet": 0, "iterations": 0}

    def evaluated(_, inputs, given):
        counted["unet"] += len(inputs[0] if inputs else given["sample"])

    def stepped(module, name):
        call = getattr(module, name)

        def count(*arguments):
            counted["iterations"] += len(layouts)
            return call(*arguments)

        monkeypatch.setattr(module, name, count)

    told = [0.0]

    def tell(event, **values):
        told.extend([values["done"]] if event == "progress" else [])

    stepped(torch.optim.Adam, "step")
    stepped(direct, "differentiate")
    stage2 = getattr(method, "_stage2", None)
    models = filter(None, [getattr(method, "model", None), stage2 and stage2.pipeline])
    with ExitStack() as hooks:
        for model in models:
            hooks.enter_context(model.unet.register_forward_pre_hook(evaluated, with_kwargs=True))
        method.generate(layouts, [1, 2], tell)
    assert counted == expected._asdict()
    assert told == sorted(told), "the progress bar moves forward"
    assert told[-1] == (1.0 if any(expected) else 0.0)


@pytest.fixture
def plan(capsys, tmp_path):
    """Runs `tcig plan`: the cells of each row, and the output."""

    def call(*arguments):
        assert cli.main(["plan", *arguments, "--out", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        cells = {line.split()[0]: line.split()[1:] for line in out.splitlines() if "  " in line}
        return cells, out

    return call


def test_the_command_counts_for_all_samples(plan):
    shared = ["--profile", "mini", "--limit", "3", "--samples", "2"]
    cells, out = plan(*shared, "--methods", "text-only", "tcig")
    assert "3 layouts, 2 samples each, 12 images" in out
    assert cells["text-only"] == ["6", "360", "0", "unknown"]
    assert cells["tcig"] == ["6", "72", "600", "unknown"]
    assert "downloads: 0.0 GB" in out


def test_a_pilot_gives_hours_which_are_the_mean_of_all_runs_of_the_same(plan, tmp_path):
    """An hour an image in one, three in the other: two; not those of other options or devices."""
    methods = ["--set", "text-only.steps=3", "--methods", "text-only"]
    arguments = ["--profile", "smoke", "--samples", "1000", "--limit", "2", *methods]
    cells, out = plan(*arguments, "real", "--pilot")
    assert "judging: miniature" in out
    (run,) = tmp_path.glob("pilot/text-only-*")
    records = rows_of(run)
    expected = 2000 * sum(record["seconds"] for record in records) / 2 / 3600
    assert cells["text-only"][-1] == f"{expected:.2f}"
    before = (run / "rows.jsonl").read_bytes()
    assert plan(*arguments, "paste", "--pilot")[0]["text-only"] == cells["text-only"]
    assert (run / "rows.jsonl").read_bytes() == before

    def store(folder, change):
        lines = [json.dumps(record | change) for record in records]
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")

    other = shutil.copytree(run, tmp_path / "text-only-again")
    store(run, {"seconds": 3600.0})
    store(other, {"seconds": 3 * 3600.0})
    cells, out = plan(*arguments)
    assert cells["text-only"][-1] == "4000.00"
    assert "estimated in all: 4000.0 h" in out
    assert plan(*arguments, "--set", "text-only.steps=7")[0]["text-only"][-1] == "unknown"
    store(run, {"seconds": 3600.0, "device": "another"})
    assert plan(*arguments)[0]["text-only"][-1] == "6000.00"


def test_the_paper_needs_its_downloads_and_a_manifest(plan, capsys, tmp_path):
    assert cli.main(["plan", "--profile", "paper"]) == 2
    assert "make a manifest with `tcig layouts`" in capsys.readouterr().err
    manifest = str(tmp_path / "layouts.jsonl")
    assert cli.main(["layouts", "--coco", str(FOLDER), "--out", manifest]) == 0
    _, out = plan("--profile", "paper", "--layouts", manifest)
    assert "downloads: 16.1 GB of weights" in out
    assert "(11 models)" in out
