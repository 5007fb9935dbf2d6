"""Guides: which are chosen, what they are to see, and Eq. 1 against plain arithmetic."""

import numpy as np
import pytest
import torch
from torch import nn

from tcig.data.errors import InputError
from tcig.data.voc import BY_LABEL
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.methods.guides import (
    choose,
    guide_iou,
    guide_loss,
    load_guide,
    prepare_guides,
)
from tcig.models.segmentation import Network

WHOLE, ANIMALS, OBJECTS = "mini:guide", "mini:guide-animals", "mini:guide-objects"
CLASSES = torch.arange(21)[:, None, None]
CAT, DOG, BUS = (BY_LABEL[label].index for label in ("cat", "dog", "bus"))


def test_a_layout_takes_the_guides_that_know_its_classes(box_layout):
    cats = box_layout(16, cat=(0, 8, 0, 8), dog=(8, 16, 0, 8))
    mixed = box_layout(16, cat=(0, 8, 0, 8), bus=(8, 16, 0, 8))
    assert choose([ANIMALS, OBJECTS], cats) == [ANIMALS]
    assert choose([OBJECTS, ANIMALS], mixed) == [OBJECTS, ANIMALS]
    assert choose([ANIMALS, WHOLE], mixed) == [ANIMALS, WHOLE]
    assert choose([WHOLE, ANIMALS], mixed) == [WHOLE]


def test_a_class_that_no_guide_knows_names_the_guides(box_layout):
    with pytest.raises(InputError, match="layout 1: no guide knows the class bus") as caught:
        choose([ANIMALS], box_layout(16, bus=(0, 8, 0, 8)))
    assert "mini:guide-animals knows bird, cat, cow, dog, horse, sheep" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_guide_says_which_there_are():
    with pytest.raises(InputError, match="no guide 'guide': there are mini:guide"):
        load_guide("guide")
    with pytest.raises(InputError, match="no miniature segmenter 'x'"):
        load_guide("mini:x")


def test_targets_are_the_class_map_one_plane_a_label(box_layout):
    layout = box_layout(32, cat=(0, 20, 0, 20), dog=(10, 32, 10, 32))
    (guided,) = prepare_guides([WHOLE], [layout], 16, "all")
    assert guided.targets.shape == (21, 16, 16)
    assert torch.equal(guided.targets.argmax(0).byte(), torch.from_numpy(layout.class_map(16)))
    assert (guided.targets.sum(0) == 1).all()
    assert guided.owners.tolist() == [0] * 21
    assert guided.channels.tolist() == list(range(21))


def test_what_an_expert_does_not_know_is_background_to_it(box_layout):
    layout = box_layout(16, cat=(0, 8, 0, 16), bus=(8, 16, 0, 16))
    animals, objects = prepare_guides([ANIMALS, OBJECTS], [layout], 16, "layout")
    cat = animals.network.labels.index(CAT)
    assert animals.channels.tolist() == [0, cat]
    assert (animals.targets[1, :8] == 1).all()
    assert (animals.targets[0, 8:] == 1).all()
    bus = objects.network.labels.index(BUS)
    assert objects.channels.tolist() == [0, bus]
    assert (objects.targets[0, :8] == 1).all()


def test_each_guide_gets_the_samples_that_need_it(box_layout):
    layouts = [
        box_layout(16, cat=(0, 8, 0, 16)),
        box_layout(16, bus=(0, 8, 0, 16)),
        box_layout(16, cat=(0, 8, 0, 16), bus=(8, 16, 0, 16)),
    ]
    animals, objects = prepare_guides([ANIMALS, OBJECTS], layouts, None, "layout")
    assert animals.rows.tolist() == [0, 2]
    assert objects.rows.tolist() == [1, 2]
    assert animals.owners.tolist() == [0, 0, 1, 1]
    assert animals.targets.shape[-1] == animals.network.size == 128


class Fixed(nn.Module):
    """Gives the same logits whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits + 0 * images.mean()


@pytest.fixture
def layouts(box_layout):
    return [box_layout(8, cat=(0, 4, 0, 8)), box_layout(8, dog=(2, 7, 1, 5), cat=(0, 2, 0, 2))]


@pytest.fixture
def truths(layouts):
    return [layout.class_map(8) for layout in layouts]


@pytest.fixture
def guided(layouts):
    (prepared,) = prepare_guides([WHOLE], layouts, 8, "layout")
    logits = 3 * torch.randn(2, 21, 8, 8, generator=torch.Generator().manual_seed(0))
    network = Network(Fixed(logits), 8, "fixed")
    return prepared._replace(network=network, rows=torch.tensor([1, 0]))


FORMS = {
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "logits": lambda x: x,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_the_mean_squared_difference_over_the_compared_planes(guided, truths, form):
    loss, logits = guide_loss(guided, torch.rand(2, 3, 8, 8), form)
    for row, planes in enumerate([[0, CAT], [0, CAT, DOG]]):
        predicted = FORMS[form](logits[row].double().numpy())
        expected = np.mean([(predicted[c] - (truths[row] == c)) ** 2 for c in planes])
        assert loss[row].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_the_loss_written_plainly(guided, truths, form):
    logits = guided.network.module.logits.clone().requires_grad_()
    fixed = guided._replace(network=Network(Fixed(logits), 8, "fixed"))
    loss, _ = guide_loss(fixed, torch.rand(2, 3, 8, 8), form)
    (found,) = torch.autograd.grad((loss * torch.tensor([1.0, -3.0])).sum(), logits)
    forms = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, "logits": lambda x: x}
    total = 0
    for row, planes, weight in ((0, [0, CAT], 1.0), (1, [0, CAT, DOG], -3.0)):
        target = torch.stack([torch.from_numpy(truths[row] == c) for c in planes])
        errors = forms[form](logits)[row, planes] - target.float()
        total = total + weight * errors.square().mean()
    (expected,) = torch.autograd.grad(total, logits)
    assert found.allclose(expected, rtol=1e-4, atol=1e-9)


def test_a_perfect_guide_has_no_loss_and_an_iou_of_one(guided, truths):
    logits = torch.stack([60.0 * (torch.from_numpy(truth) == CLASSES) - 30 for truth in truths])
    perfect = guided._replace(network=Network(Fixed(logits), 8, "fixed"))
    loss, logits = guide_loss(perfect, torch.rand(2, 3, 8, 8), "softmax")
    assert loss.max() < 1e-12
    assert guide_iou(perfect, logits).tolist() == [1.0, 1.0]


def test_the_iou_is_that_of_the_evaluation(guided, truths):
    _, logits = guide_loss(guided, torch.rand(2, 3, 8, 8), "softmax")
    found = guide_iou(guided, logits)
    for row, classes in enumerate([(CAT,), (CAT, DOG)]):
        counts = confusion(truths[row], logits[row].argmax(0).byte().numpy())
        expected = np.nanmean(class_iou(Samples.of([counts], [classes]))[0])
        assert found[row].item() == pytest.approx(expected, abs=1e-6)


def test_the_guide_sees_the_image_at_its_own_size(box_layout):
    seen = []

    class Recorder(nn.Module):
        def forward(self, images):
            seen.append(images)
            return torch.zeros(len(images), 21, 128, 128)

    (prepared,) = prepare_guides([WHOLE], [box_layout(64, cat=(0, 20, 0, 20))], None, "layout")
    guided = prepared._replace(network=Network(Recorder(), 128, "recorder"))
    guide_loss(guided, torch.full((1, 3, 64, 64), 0.25), "softmax")
    assert seen[0].shape == (1, 3, 128, 128)
    assert seen[0].allclose(torch.tensor(0.25))
