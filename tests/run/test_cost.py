"""What `tcig plan` counts is what a run does."""

import json
import shutil
from contextlib import ExitStack

import pytest
import torch
from toy import rows_of

from tcig import cli
from tcig.commands import plan
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
FEW = {
    "direct-guidance": {"steps": 2, "recurrence": 2},
    "text-only": {"steps": 3},
    "si": {"steps": 3},
    "controlnet": {"steps": 3},
    "t2i-adapter": {"steps": 3},
    "gligen": {"steps": 3},
    "bld": {"steps": 5},
    "multidiffusion": {"steps": 6},
    "tcig": {"first.iterations": 2, "first.cutouts": 2, "second.steps": 6},
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


def test_the_command_counts_for_all_samples(capsys, tmp_path):
    arguments = ["--profile", "mini", "--limit", "3", "--samples", "2", "--out", str(tmp_path)]
    assert plan.main([*arguments, "--methods", "text-only", "tcig"]) == 0
    out = capsys.readouterr().out
    assert "3 layouts, 2 samples each, 12 images" in out
    cells = {line.split()[0]: line.split()[1:] for line in out.splitlines() if "  " in line}
    assert cells["text-only"] == ["6", "360", "0", "unknown"]
    assert cells["tcig"] == ["6", "72", "600", "unknown"]
    assert "downloads: 0.0 GB" in out


def hours_of(out, row):
    cells = next(line.split() for line in out.splitlines() if line.startswith(f"{row} "))
    return cells[-1]


def test_a_pilot_gives_hours_that_its_records_keep(capsys, tmp_path):
    arguments = ["--profile", "smoke", "--samples", "1000", "--out", str(tmp_path)]
    arguments += ["--set", "text-only.steps=3", "--methods", "text-only"]
    assert plan.main([*arguments, "real", "--pilot"]) == 0
    out = capsys.readouterr().out
    assert "judging: miniature" in out
    (record,) = tmp_path.glob("pilot/text-only-*/rows.jsonl")
    rows = rows_of(record.parent)
    assert len(rows) == 2
    images = 1000 * int(out.split(" layouts, 1000 samples")[0].splitlines()[-1])
    expected = images * sum(row["seconds"] for row in rows) / 2 / 3600
    assert hours_of(out, "text-only") == f"{expected:.2f}"
    before = record.read_bytes()
    for more in ([], ["--pilot"], ["paste", "--pilot"]):
        assert plan.main([*arguments, *more]) == 0
        assert hours_of(capsys.readouterr().out, "text-only") == f"{expected:.2f}"
    assert record.read_bytes() == before


def test_hours_are_the_mean_of_all_earlier_runs_of_the_same(capsys, tmp_path):
    """An hour an image in one, three in the other: two; not those of other options or devices."""
    arguments = ["--profile", "smoke", "--methods", "text-only", "--limit", "2"]
    assert cli.main(["run", *arguments, "--no-score", "--out", str(tmp_path)]) == 0

    def change(run, edit):
        records = [json.dumps(edit(record)) for record in rows_of(run)]
        (run / "rows.jsonl").write_text("\n".join(records) + "\n")

    (run,) = tmp_path.glob("text-only-*")
    shutil.copytree(run, tmp_path / "pilot" / "again")
    for place, hours in ((run, 1), (tmp_path / "pilot" / "again", 3)):
        change(place, lambda row, hours=hours: row | {"seconds": 3600.0 * hours})
    asked = ["plan", *arguments, "--out", str(tmp_path)]
    capsys.readouterr()
    assert cli.main(asked) == 0
    out = capsys.readouterr().out
    assert hours_of(out, "text-only") == "4.00"
    assert "estimated in all: 4.0 h" in out
    for other in (["--set", "text-only.steps=7"], ["--profile", "mini"]):
        assert cli.main([*asked, *other]) == 0
        assert hours_of(capsys.readouterr().out, "text-only") == "unknown"
    change(run, lambda row: row | {"device": "another"})
    assert cli.main(asked) == 0
    assert hours_of(capsys.readouterr().out, "text-only") == "6.00"


def test_the_paper_needs_its_downloads_and_a_manifest(capsys, tmp_path):
    assert cli.main(["plan", "--profile", "paper"]) == 2
    assert "make a manifest with `tcig layouts`" in capsys.readouterr().err
    manifest = tmp_path / "layouts.jsonl"
    assert cli.main(["layouts", "--coco", str(FOLDER), "--out", str(manifest)]) == 0
    arguments = ["--profile", "paper", "--layouts", str(manifest), "--out", str(tmp_path)]
    assert cli.main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert "downloads: 16.1 GB of weights" in out
    assert "(11 models)" in out
    assert "tcig-two-guides" not in out
