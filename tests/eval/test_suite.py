import json
import re
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image

from tcig.data.emoji.scenes import PLURALS, portrait
from tcig.data.files import sha256
from tcig.data.voc import CLASSES, with_article
from tcig.eval import miniatures, steered, suite
from tcig.eval.grids import CELL, GAP, MARGIN
from tcig.eval.miniatures import Figure
from tcig.models.mini import WEIGHTS, train
from tcig.models.mini.train import RECIPES

ROOT = Path(__file__).parents[2]
CARDS = {path.stem: json.loads(path.read_text()) for path in WEIGHTS.glob("*.json")}
LIMIT = 64_000_000
"""Bytes of all shipped weights together."""


def test_every_card_says_what_it_is_and_where_it_comes_from():
    needed = {"model", "what", "not_for", "data", "seed", "steps", "minutes", "held_out", "licence"}
    for name, card in CARDS.items():
        assert needed <= set(card), name
        assert card["model"] == name
        assert card["data"]["split"] == "training"
        assert card["seed"] == RECIPES[name].seed
        assert card["held_out"]["split"] == "validation"
        for file, identity in card["files"].items():
            assert sha256(WEIGHTS / file) == identity


def test_the_suite_is_small():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < LIMIT


def test_the_committed_table_is_that_of_the_cards():
    cards = [CARDS[name] for name in sorted(CARDS)]
    assert (ROOT / "results" / "mini" / "suite.md").read_text() == suite.page(cards)


def test_the_table_says_what_is_missed_and_by_how_much():
    measured = {
        "iou": Figure(0.4567, 0.5, "how")._asdict(),
        "psnr": Figure(30, 30, "well")._asdict(),
        "seconds": Figure(2, None, "open")._asdict(),
    }
    lines = suite.table([{"model": "vae", "measured": measured}]).splitlines()
    assert re.search(r"\| how +\| 0.457 +\| 0.50 +\| missed by 0.043 \|", lines[2])
    assert re.search(r"\| well +\| 30.000 +\| 30.00 +\| reached +\|", lines[3])
    assert re.search(r"\| open +\| 2.000 +\| +\| +\|", lines[4])


def test_the_table_ends_with_the_cards_remarks():
    cards = [{"model": "vae"}, {"model": "vqgan", "remarks": "cows look like sheep"}]
    assert suite.table(cards).splitlines()[-2:] == ["", "- vqgan: cows look like sheep"]
    assert suite.table(cards[:1]).splitlines()[-1].startswith("|")


def test_figures_name_the_classes_that_fall_short_worst_first():
    pairs = [("cat", 1), ("cow", 0.25), ("cat", 0.5), ("bus", 0)]
    figure = miniatures._by_class(pairs, 0.75, "seen")
    assert figure == (0.4375, 0.75, "seen; classes under 0.75: bus 0.00, cow 0.25")
    assert miniatures._by_class(pairs[:1], 0.75, "seen").how == "seen; classes under 0.75: none"


def test_reconstructions_reach_what_their_cards_say(tmp_path):
    for name, measure in (("vae", miniatures.vae), ("vqgan", miniatures.vqgan)):
        (figure,) = measure(tmp_path).values()
        assert figure.value == pytest.approx(
            CARDS[name]["measured"]["iou_of_real"]["value"], abs=0.01
        )
        assert figure.value >= figure.target
        with Image.open(tmp_path / f"{name}.png") as sheet:
            assert sheet.width == MARGIN + 16 * (CELL + GAP)


def test_judge_reaches_what_its_card_says():
    card = CARDS["judge"]["measured"]["iou_image"]
    assert miniatures.ceiling() == pytest.approx(card["value"], abs=5e-3)


def test_guide_reads_images_as_its_card_says_and_less_of_what_is_less_formed(tmp_path):
    measured = miniatures.guide(tmp_path)
    assert measured["half_formed"].value < measured["reconstructed"].value < measured["real"].value
    for name, figure in measured.items():
        assert figure.value == pytest.approx(CARDS["guide"]["measured"][name]["value"], abs=0.01)


def test_plain_scenes_hold_two_or_three_large_objects():
    scenes = miniatures._plain_scenes()
    assert len(scenes) == miniatures.SCENES
    for drawn in scenes:
        assert 2 <= len(drawn.things) <= 3
        assert min(thing.mask.mean() for thing in drawn.things) >= 0.05
        for thing in drawn.things:
            plural = PLURALS.get(thing.label, thing.label)
            assert thing.label in drawn.captions[0] or plural in drawn.captions[0]


def test_the_scoring_clip_names_portraits():
    size = (miniatures.CANVAS,) * 2
    images = [Image.fromarray(portrait("validation", i).image).resize(size) for i in range(40)]
    assert (miniatures._named(images) == np.arange(40) % 20).mean() > 0.85


def test_inpainted_objects_fill_their_masks(tmp_path, monkeypatch):
    monkeypatch.setattr(miniatures, "OBJECTS", 20)  # one of each class
    figure = miniatures.inpainting(tmp_path)["iou"]
    assert "20 objects" in figure.how
    assert figure.value == pytest.approx(
        CARDS["stable-diffusion-inpainting"]["measured"]["iou"]["value"], abs=0.08
    )
    with Image.open(tmp_path / "inpainting.png") as sheet:
        assert sheet.size == (MARGIN + 20 * (CELL + GAP), 3 * (CELL + GAP))


def test_the_adapter_puts_objects_where_the_map_has_them(tmp_path, monkeypatch):
    few, images = miniatures.layouts()[:8], miniatures.real()[:8]
    for module in (miniatures, steered):
        monkeypatch.setattr(module, "layouts", lambda: few)
    monkeypatch.setattr(steered, "real", lambda: images)
    figure = steered.adapter(tmp_path)["iou_image"]
    card = CARDS["t2i-adapter"]["measured"]["iou_image"]
    assert figure.value == pytest.approx(card["value"], abs=0.1)
    assert figure.value > 2 * float(figure.how.rpartition(" ")[2])
    with Image.open(tmp_path / "t2i-adapter.png") as sheet:
        assert sheet.size[1] == 4 * (CELL + GAP)


def test_the_stock_pipeline_draws_what_the_scoring_clip_names(monkeypatch):
    monkeypatch.setattr(miniatures, "STEPS", 20)
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "stable-diffusion")
    prompts = [with_article(c.label) for c in CLASSES]
    images = miniatures.batched(pipeline, prompts, height=64, width=64)
    assert (miniatures._named(images) == np.arange(20)).mean() >= 0.8


@pytest.mark.parametrize("name", ["vea", "clip"])
def test_what_cannot_be_measured_is_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr("sys.argv", ["suite", name, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        suite.main()
    assert stop.value.code == 2
    assert name in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["vae", "--export"], "no checkpoint of vae"), (["all", "--continue"], "is not shipped")],
)
def test_training_refuses_what_would_ship_nothing_trained(
    tmp_path, monkeypatch, capsys, arguments, said
):
    monkeypatch.setattr(train, "WEIGHTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["train", *arguments, "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        train.main()
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
