"""What `tcig plan` counts is what a run does."""

import pytest

from tcig.commands import plan
from tcig.data.build import build_layouts
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.methods.registry import ROWS
from tcig.models.diffusion import Diffusion
from tcig.profiles import load_profile
from tcig.run import probe
from tcig.run.spec import choose, prepare

SMOKE = load_profile("smoke")
VARIANTS = {
    "bld": [{"variant": "ldm"}, {"candidates": 2, "clip": "mini:clip", "steps": 5}],
    "multidiffusion": [{"bootstrapping": "code"}, {"negative": "a cat", "steps": 3}],
    "si": [{"negative": "a cat", "steps": 2}],
    "tcig": [{"first.iterations": 2, "second.steps": 7, "second.guidance": 1.0}],
}
FEW = {
    "direct-guidance": {"steps": 2, "recurrence": 2},
    "text-only": {"steps": 3},
    "si": {"steps": 3},
    "bld": {"steps": 5},
    "multidiffusion": {"steps": 6},
    "tcig": {"first.iterations": 2, "first.cutouts": 2, "second.steps": 6},
}
CASES = [(row, {}) for row in ROWS] + [(row, each) for row in VARIANTS for each in VARIANTS[row]]


@pytest.fixture(scope="module")
def layouts():
    return hash_order(build_layouts(FOLDER, Filter())[1])[:2]


@pytest.mark.parametrize(("row", "settings"), CASES, ids=str)
def test_evaluations_and_steps_are_those_of_a_run(row, settings, layouts, monkeypatch):
    settings = FEW.get(ROWS[row].method, {}) | settings
    chosen = choose(row, SMOKE, settings)
    expected = chosen.kind.cost(chosen.options, layouts)
    _, method = prepare(row, SMOKE, FOLDER, "0" * 64, settings)
    counted = {"unet": 0, "iterations": 0}
    counts = "guide" if row == "direct-guidance" else "iteration"

    def evaluated(_, inputs, given):
        counted["unet"] += len(inputs[0] if inputs else given["sample"])

    def stepped(event, **_):
        counted["iterations"] += len(layouts) * (event == counts)

    networks = [part for part in (getattr(method, "model", None), second(method)) if part]
    handles = [n.unet.register_forward_pre_hook(evaluated, with_kwargs=True) for n in networks]
    try:
        method.generate(layouts, [1, 2], stepped if expected.iterations else None)
    finally:
        for handle in handles:
            handle.remove()
    if expected.iterations and counts == "iteration":
        counted["iterations"] -= len(layouts)  # the last event has no step
    assert counted == expected._asdict()


def second(method) -> Diffusion | None:
    stage = getattr(method, "_second", None)
    return stage and stage.pipeline


def test_the_command_counts_for_all_samples(capsys):
    arguments = ["--profile", "mini", "--limit", "3", "--samples", "2", "--no-probe"]
    assert plan.main([*arguments, "--methods", "text-only", "tcig"]) == 0
    out = capsys.readouterr().out
    assert "3 layouts, 2 samples each, 12 images" in out
    cells = {line.split()[0]: line.split()[1:] for line in out.splitlines() if "  " in line}
    assert cells["text-only"] == ["6", "360", "0"]
    assert cells["tcig"] == ["6", "72", "600"]
    assert "downloads: 0.0 GB" in out


def test_the_probe_gives_hours(capsys, monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.05)
    assert plan.main(["--profile", "smoke", "--limit", "2", "--methods", "si", "tcig"]) == 0
    out = capsys.readouterr().out
    assert "judging: miniature" in out
    minutes = float(out.split("estimated in all: ")[1].split(" min")[0])
    assert 0 < minutes < 10


def test_the_paper_needs_its_downloads_and_a_manifest(capsys, tmp_path):
    from tcig import cli

    assert cli.main(["plan", "--profile", "paper", "--no-probe"]) == 2
    assert "make a manifest with `tcig layouts`" in capsys.readouterr().err
    manifest = tmp_path / "layouts.jsonl"
    assert cli.main(["layouts", "--coco", str(FOLDER), "--out", str(manifest)]) == 0
    arguments = ["--profile", "paper", "--layouts", str(manifest), "--no-probe"]
    assert cli.main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert "downloads: 10.4 GB of weights" in out
    assert "(7 models)" in out
    assert "tcig-two-guides" not in out


def test_a_pipeline_without_a_vae_is_unknown(tmp_path):
    assert probe.probe_diffusion(str(tmp_path), 64, SMOKE.compute) is None
    assert probe.probe_diffusion("org/not-here", 64, SMOKE.compute) is None
