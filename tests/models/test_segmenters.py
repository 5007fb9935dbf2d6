import json

import numpy as np
import pytest
import torch

from tcig.data.emoji.scenes import scene
from tcig.models.mini.segmenters import SEGMENTERS, WEIGHTS, load_segmenter
from tcig.models.mini.train import RECIPES, held_out

FLOOR = {"guide": 0.72, "judge": 0.84}
"""Held-out mIoU that short trainings of the recipe reached."""


@pytest.fixture(scope="module", params=SEGMENTERS)
def name(request):
    return request.param


def test_shipped_weights_reach_the_figure_of_their_provenance(name):
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    measured = held_out(load_segmenter(name), "validation", 128)
    assert measured["miou"] == pytest.approx(card["held_out"]["miou"], abs=2e-3)
    assert measured["miou"] >= FLOOR[name]


def test_provenance_is_complete_and_of_the_recipe(name):
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    recipe = RECIPES[name]
    assert card["data"]["seed"] == recipe.seed
    assert card["data"]["first_scene"] == recipe.first_scene
    assert card["steps"] > 0
    assert card["minutes"] > 0
    parameters = sum(p.numel() for p in SEGMENTERS[name]().parameters())
    assert card["parameters"] == parameters


def test_judge_and_guide_have_seen_different_scenes_with_different_seeds():
    guide, judge = RECIPES["guide"], RECIPES["judge"]
    seen = [set(range(r.first_scene, r.first_scene + r.scenes)) for r in (guide, judge)]
    assert not seen[0] & seen[1]
    assert guide.seed != judge.seed
    assert SEGMENTERS["guide"] is not SEGMENTERS["judge"]


def test_weights_are_half_precision_and_small(name):
    path = WEIGHTS / f"{name}.safetensors"
    parameters = sum(p.numel() for p in SEGMENTERS[name]().parameters())
    assert path.stat().st_size < 2.2 * parameters


def test_logits_are_of_the_image_and_differentiable(name):
    image = torch.from_numpy(np.stack([scene("tuning", 3).image])).movedim(-1, 1) / 255
    image.requires_grad_()
    logits = load_segmenter(name)(image)
    assert logits.shape == (1, 21, 128, 128)
    logits.logsumexp(1).sum().backward()
    assert image.grad.abs().mean() > 0
