"""The shipped miniature models: they reach their cards, and their training is not installed."""

import json
import shutil
from multiprocessing import dummy
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

from tcig.data.emoji.scenes import portrait, scene
from tcig.data.files import sha256
from tcig.data.voc import LABELS, PERSON
from tcig.models import mini
from tcig.models.mini import WEIGHTS
from tcig.models.mini.segmenters import LABELS_OF, load_segmenter
from tcig.models.mini.train import clips, data, evaluate, segmenters
from tcig.models.mini.train.__main__ import RECIPES
from tcig.models.segmentation import miniature

ROOT = Path(__file__).parents[2]
CARDS = {path.stem: json.loads(path.read_text()) for path in WEIGHTS.glob("*.json")}
LIMIT = 64_000_000
"""Bytes of all shipped weights together."""


def test_nothing_that_is_installed_needs_the_training():
    for folder in ("data", "eval", "tcig"):
        for path in (ROOT / folder).rglob("*.py"):
            inside = (ROOT / "tcig" / "models" / "mini" / "train") in path.parents
            assert inside or "mini.train" not in path.read_text(encoding="utf-8"), path


def test_every_card_says_what_it_is_and_where_it_comes_from():
    needed = {"model", "what", "not_for", "data", "seed", "steps", "minutes", "held_out", "licence"}
    assert set(CARDS) == set(RECIPES)
    for name, card in CARDS.items():
        assert needed <= set(card), name
        assert card["model"] == name
        assert card["data"]["split"] == "training"
        assert card["seed"] == RECIPES[name].seed
        assert card["held_out"]["split"] == "validation"
        assert all(sha256(WEIGHTS / file) == identity for file, identity in card["files"].items())
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < LIMIT


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A folder with pools of a few scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "POOL_SIZE", 4)
        patch.setattr(segmenters, "SCENES", 4)
        patch.setattr(segmenters, "RECONSTRUCTIONS", 4)
        patch.setattr(data, "multiprocessing", Mock(get_context=lambda _: dummy))  # threads
        yield tmp_path_factory.mktemp("training")


@pytest.mark.parametrize("name", ["vae", "vqgan", "clip", "clip-score", *LABELS_OF])
def test_the_shipped_weights_reach_the_held_out_metrics_of_their_card(name, training):
    recipe = RECIPES[name]
    recipe.prepare(training)
    model = recipe.build().eval()
    recipe.load(model, WEIGHTS)
    metrics = recipe.evaluate(model, "validation", 128)
    expected = {key: value for key, value in CARDS[name]["held_out"].items() if key != "split"}
    assert metrics == pytest.approx(expected, rel=5e-3)


def test_the_command_measures_what_the_cards_say(tmp_path, monkeypatch):
    """On fewer images; every card and the page are written, and every picture."""
    few = evaluate.layouts()[:6]
    weights = tmp_path / "weights"
    weights.mkdir()
    for path in WEIGHTS.iterdir():
        (weights / path.name).symlink_to(path)
        if path.suffix == ".json":
            (weights / path.name).unlink()
            shutil.copy(path, weights)
    for name, value in (("SEEDS", 1), ("SCENES", 6), ("OBJECTS", 20), ("STEPS", 10)):
        monkeypatch.setattr(evaluate, name, value)
    for module in (data, evaluate):
        monkeypatch.setattr(module, "layouts", lambda: few)
    monkeypatch.setattr(evaluate, "real_images", data.real_images.__wrapped__)
    monkeypatch.setattr(evaluate, "real_iou", evaluate.real_iou.__wrapped__)
    monkeypatch.setattr(mini, "WEIGHTS", weights)
    monkeypatch.setattr("sys.argv", ["evaluate", "--out", str(tmp_path / "out")])
    evaluate.main()
    cards = [json.loads((weights / f"{name}.json").read_text()) for name in sorted(CARDS)]
    assert (tmp_path / "out" / "suite.md").read_text() == evaluate.page(cards)
    for card in cards:
        measured = CARDS[card["model"]].get("measured", {})
        assert set(card.get("measured", {})) == set(measured)
        for name, values in measured.items():
            value = card["measured"][name]["value"]
            assert value == pytest.approx(values["value"], abs=0.15), (card["model"], name)
    pictures = {path.name for path in (ROOT / "results" / "mini").glob("*.png")}
    assert {path.name for path in (tmp_path / "out").glob("*.png")} <= pictures
    assert len(evaluate.MEASURES) == len(list((tmp_path / "out").glob("*.png")))


@pytest.mark.parametrize("name", ["vea", "clip"])
def test_a_model_that_cannot_be_measured_is_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr("sys.argv", ["evaluate", name, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        evaluate.main()
    assert name in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_committed_page_is_that_of_the_cards_and_says_what_is_missed():
    committed = (ROOT / "results" / "mini" / "suite.md").read_text()
    assert committed == evaluate.page([CARDS[name] for name in sorted(CARDS)])
    measured = {"iou": evaluate.Metric(0.4567, 0.5, "how")._asdict()}
    card = {"model": "vae", "held_out": {}, "measured": measured}
    cells = [cell.strip() for cell in evaluate.page([card]).splitlines()[-1].split("|")]
    assert cells[1:-1] == ["vae", "how", "0.457", "0.50", "missed by 0.043"]
    values = [("cat", 1), ("cow", 0.25), ("cat", 0.5), ("bus", 0)]
    metric = evaluate.by_class(values, 0.75, "seen")
    assert metric == (0.4375, 0.75, "seen; classes under 0.75: bus 0.00, cow 0.25")


@pytest.mark.parametrize("name", LABELS_OF)
def test_segmenters_give_differentiable_logits_of_their_labels(name):
    image = torch.from_numpy(scene("tuning", 3).image[None]).movedim(-1, 1) / 255
    logits = load_segmenter(name)(image.requires_grad_())
    assert logits.shape == (1, len(LABELS_OF[name]), 128, 128)
    logits.logsumexp(1).sum().backward()
    assert image.grad.abs().mean() > 0
    assert miniature(name).labels == LABELS_OF[name]


def test_judge_and_guides_saw_different_scenes_and_experts_share_the_classes():
    first = {name: RECIPES[name].first_scene for name in LABELS_OF}
    assert all(abs(first["judge"] - first[name]) > 12_000 for name in LABELS_OF if name != "judge")
    experts = LABELS_OF["guide-animals"][1:] + LABELS_OF["guide-objects"][1:]
    assert sorted(experts) == [i for i in range(1, len(LABELS)) if LABELS[i] != PERSON.label]


def test_open_clip_and_transformers_encode_captions_as_clip_does():
    """Both end with the largest id: CLIP's text tower reads its output there."""
    own = SimpleTokenizer(str(WEIGHTS / "clip" / "merges.txt.gz"), context_length=clips.CONTEXT)
    theirs = CLIPTokenizer.from_pretrained(WEIGHTS / "stable-diffusion" / "tokenizer")
    full = SimpleTokenizer()
    assert own.vocab_size == len(theirs) == own.eot_token_id + 1 == own.sot_token_id + 2
    captions = {
        *(caption for index in range(300) for caption in scene("training", index).captions),
        *(caption for index in range(40) for caption in portrait("training", index).captions),
    }
    for text in [*captions, "", "A Zebra & 3 übergroße cats!", "dogs' tails", "a  photo\tof x"]:
        ids = [own.sot_token_id, *own.encode(text), own.eot_token_id]
        assert theirs(text)["input_ids"] == ids
        if text in captions:
            assert len(ids) < clips.CONTEXT
            pieces = [[t.decoder[i] for i in t.encode(text)] for t in (own, full)]
            assert pieces[0] == pieces[1]
