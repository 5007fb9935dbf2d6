import json

import numpy as np
import pytest
import torch

from tcig.data.emoji.scenes import scene
from tcig.data.voc import LABELS, PERSON
from tcig.models.mini import WEIGHTS
from tcig.models.mini.recipes.segmenters import SCENES, mean_iou, segmentation_loss
from tcig.models.mini.segmenters import LABELS_OF, build_segmenter, load_segmenter
from tcig.models.mini.train import RECIPES
from tcig.models.segmentation import miniature

FLOOR = {"guide": 0.72, "judge": 0.84}
"""Held-out mIoU that short trainings of the recipe reached."""
SHIPPED = [name for name in LABELS_OF if (WEIGHTS / f"{name}.json").exists()]


@pytest.fixture(scope="module", params=SHIPPED)
def name(request):
    return request.param


def test_shipped_weights_reach_the_figure_of_their_card(name):
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    measured = mean_iou(load_segmenter(name), LABELS_OF[name], "validation", 128)
    assert measured["miou"] == pytest.approx(card["held_out"]["miou"], abs=2e-3)
    assert measured["miou"] >= FLOOR.get(name, 0.75)


def test_weights_are_half_precision_and_small(name):
    path = WEIGHTS / f"{name}.safetensors"
    parameters = sum(p.numel() for p in build_segmenter(name).parameters())
    assert path.stat().st_size < 2.2 * parameters


def test_logits_are_of_the_image_and_differentiable(name):
    image = torch.from_numpy(np.stack([scene("tuning", 3).image])).movedim(-1, 1) / 255
    image.requires_grad_()
    logits = load_segmenter(name)(image)
    assert logits.shape == (1, len(LABELS_OF[name]), 128, 128)
    logits.logsumexp(1).sum().backward()
    assert image.grad.abs().mean() > 0


def test_a_network_says_which_labels_its_logits_are(name):
    network = miniature(name)
    assert network.labels == LABELS_OF[name]
    assert network.labels[0] == 0


def test_judge_and_guides_have_seen_different_scenes_with_different_seeds():
    def seen(name):
        first = RECIPES[name].first_scene
        return set(range(first, first + SCENES))

    guides = [name for name in LABELS_OF if name != "judge"]
    assert not any(seen("judge") & seen(name) for name in guides)
    assert len({RECIPES[name].seed for name in LABELS_OF}) == len(LABELS_OF)
    assert type(build_segmenter("guide")) is not type(build_segmenter("judge"))


def test_experts_share_the_classes_out_but_for_people():
    """Every class that a layout can hold has exactly one expert."""
    experts = [LABELS_OF["guide-animals"][1:], LABELS_OF["guide-objects"][1:]]
    known = sorted(index for expert in experts for index in expert)
    assert known == [i for i in range(1, len(LABELS)) if LABELS[i] != PERSON.label]


def test_loss_is_least_for_the_truth():
    labels = torch.tensor([[[0, 3], [3, 7]]])
    right = 20.0 * torch.nn.functional.one_hot(labels, 21).movedim(-1, 1)
    assert segmentation_loss(right, labels) < 1e-4
    assert segmentation_loss(right.roll(1, 1), labels) > 1
    assert segmentation_loss(torch.zeros_like(right), labels) == pytest.approx(
        np.log(21) + 1 - np.mean([2 * n / 21 / (4 / 21 + n) for n in (1, 2, 1)]), rel=1e-5
    )


class Oracle(torch.nn.Module):
    """Knows the truth of the first forty tuning scenes, for the labels it is given."""

    def __init__(self, labels):
        super().__init__()
        self.place = torch.zeros(21, dtype=torch.long)
        self.place[list(labels)] = torch.arange(len(labels))
        self.count = len(labels)
        scenes = [scene("tuning", index) for index in range(40)]
        self.truth = {s.image.tobytes(): s.label_map() for s in scenes}

    def forward(self, images):
        pixels = (images * 255).round().byte().movedim(1, -1).numpy()
        labels = torch.from_numpy(np.stack([self.truth[p.tobytes()] for p in pixels])).long()
        known = self.place[labels]
        return torch.nn.functional.one_hot(known, self.count).movedim(-1, 1).float()


@pytest.mark.parametrize("name", ["guide", "guide-animals"])
def test_held_out_miou_is_one_for_the_truth_and_zero_for_background(name):
    labels = LABELS_OF[name]
    whole = {"miou": 1, "miou_with_background": 1}
    assert mean_iou(Oracle(labels), labels, "tuning", 40) == whole

    class Nothing(torch.nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), len(labels), *images.shape[-2:])
            logits[:, 0] = 1
            return logits

    assert mean_iou(Nothing(), labels, "tuning", 40)["miou"] == 0
