"""What `tcig plan` counts is what a run does."""

import pytest

from tcig.commands import plan
from tcig.data.build import build_layouts
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.methods import direct
from tcig.methods.registry import ROWS
from tcig.methods.two_stage import descent
from tcig.methods.two_stage import method as two_stage
from tcig.models.diffusion import Diffusion
from tcig.profiles import load_profile
from tcig.run import probe
from tcig.run.spec import choose, prepare

SMOKE = load_profile("smoke")
VARIANTS = {
    "bld": [{"variant": "ldm"}, {"candidates": 2, "clip": "mini:clip", "steps": 5}],
    "multidiffusion": [{"bootstrapping": "code"}, {"negative": "a cat", "steps": 3}],
    "si": [{"negative": "a cat", "steps": 2}],
    "controlnet": [{"share": 0.5, "steps": 4, "negative": "a cat"}],
    "t2i-adapter": [{"share": 0.5, "steps": 4}],
    "gligen": [{"grounded": 1.0, "steps": 2}],
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
    monkeypatch.setattr(two_stage, "_kept", two_stage.OrderedDict())
    _, method = prepare(row, SMOKE, FOLDER, "0" * 64, settings)
    counted = {"unet": 0, "iterations": 0, "control": 0}

    def evaluated(part):
        def count(_, inputs, given):
            counted[part] += len(inputs[0] if inputs else given["sample"])

        return count

    def stepped(module, name):
        call = getattr(module, name)

        def count(*arguments):
            counted["iterations"] += len(layouts)
            return call(*arguments)

        monkeypatch.setattr(module, name, count)

    told = [0.0]

    def tell(event, **values):
        told.extend([values["done"]] if event == "progress" else [])

    stepped(descent, "slopes")
    stepped(direct, "differentiate")
    networks = [part for part in (getattr(method, "model", None), second(method)) if part]
    networks = [("unet", network.unet) for network in networks]
    if row == "controlnet":
        networks.append(("control", method.steering.network))
    handles = [
        network.register_forward_pre_hook(evaluated(part), with_kwargs=True)
        for part, network in networks
    ]
    try:
        method.generate(layouts, [1, 2], tell)
    finally:
        for handle in handles:
            handle.remove()
    assert counted == expected._asdict()
    assert told == sorted(told), "the progress bar moves forward"
    assert told[-1] == (1.0 if any(expected) else 0.0)


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


def test_the_probe_knows_a_controlnet(capsys, monkeypatch, open_rows):
    """Its evaluations take time beside the UNet's; one that is not known has no hours."""
    monkeypatch.setattr(probe, "SECONDS", 0.05)
    settings = [f"controlnet.{key}={value}" for key, value in open_rows["controlnet"].items()]
    arguments = ["--profile", "smoke", "--limit", "2", "--methods", "controlnet", "--set"]
    assert plan.main([*arguments, *settings]) == 0
    cells = capsys.readouterr().out.split("controlnet", 1)[1].split()
    assert cells[:3] == ["2", "40", "0"]
    assert float(cells[3]) >= 0
    seconds = probe.probe_control(open_rows["controlnet"]["control"], 64, SMOKE.compute)
    assert 0 < seconds < 10
    unknown = [each for each in settings if ".control=" not in each]
    assert plan.main([*arguments, *unknown, "controlnet.control=org/not-here"]) == 0
    assert "estimated in all, without controlnet" in capsys.readouterr().out


def test_the_paper_needs_its_downloads_and_a_manifest(capsys, tmp_path):
    from tcig import cli

    assert cli.main(["plan", "--profile", "paper", "--no-probe"]) == 2
    assert "make a manifest with `tcig layouts`" in capsys.readouterr().err
    manifest = tmp_path / "layouts.jsonl"
    assert cli.main(["layouts", "--coco", str(FOLDER), "--out", str(manifest)]) == 0
    arguments = ["--profile", "paper", "--layouts", str(manifest), "--no-probe"]
    assert cli.main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert "downloads: 16.1 GB of weights" in out
    assert "(11 models)" in out
    assert "tcig-two-guides" not in out


def test_a_pipeline_without_a_vae_is_unknown(tmp_path):
    assert probe.probe_diffusion(str(tmp_path), 64, SMOKE.compute) is None
    assert probe.probe_diffusion("org/not-here", 64, SMOKE.compute) is None
