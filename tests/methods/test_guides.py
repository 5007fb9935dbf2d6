"""Guides: which are chosen, what they are to see, and Eq. 1 against plain arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tcig.data.files import InputError
from tcig.data.voc import BY_LABEL
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.methods.base import generators
from tcig.methods.guides import (
    GuideOptions,
    choose_guides,
    guide_iou,
    guide_loss,
    load_guide,
    prepare_guides,
    see_views,
    summed_loss,
)
from tcig.methods.views import Views
from tcig.models.segmentation import Network

WHOLE, ANIMALS, OBJECTS = "mini:guide", "mini:guide-animals", "mini:guide-objects"
CLASSES = torch.arange(21)[:, None, None]
CAT, DOG, BUS = (BY_LABEL[label].index for label in ("cat", "dog", "bus"))


def prepared(layouts, size=None, over="layout", guides=(WHOLE,)):
    options = GuideOptions(guides=guides, guide_size=size, over=over)
    return prepare_guides(options, layouts)


def test_a_layout_takes_the_guides_that_know_its_classes(box_layout):
    cats = box_layout(16, cat=(0, 8, 0, 8), dog=(8, 16, 0, 8))
    mixed = box_layout(16, cat=(0, 8, 0, 8), bus=(8, 16, 0, 8))
    assert choose_guides([ANIMALS, OBJECTS], cats) == [ANIMALS]
    assert choose_guides([OBJECTS, ANIMALS], mixed) == [OBJECTS, ANIMALS]
    assert choose_guides([ANIMALS, WHOLE], mixed) == [ANIMALS, WHOLE]
    assert choose_guides([WHOLE, ANIMALS], mixed) == [WHOLE]


def test_unknown_guides_and_classes_are_one_sentence(box_layout):
    with pytest.raises(InputError, match="layout 1: no guide knows the class bus") as caught:
        choose_guides([ANIMALS], box_layout(16, bus=(0, 8, 0, 8)))
    assert "mini:guide-animals knows bird, cat, cow, dog, horse, sheep" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="unknown guide 'guide'; available: mini:guide"):
        load_guide("guide")
    with pytest.raises(InputError, match="no miniature segmenter 'x'"):
        load_guide("mini:x")


def test_targets_are_the_class_map_one_plane_a_label(box_layout):
    layout = box_layout(32, cat=(0, 20, 0, 20), dog=(10, 32, 10, 32))
    (guide,) = prepared([layout], 16, "all")
    assert torch.equal(guide.targets.argmax(0).byte(), torch.from_numpy(layout.class_map(16)))
    assert (guide.targets.sum(0) == 1).all()
    assert guide.owners.tolist() == [0] * 21
    assert guide.channels.tolist() == list(range(21))


def test_each_expert_gets_the_samples_and_classes_that_it_knows(box_layout):
    layouts = [
        box_layout(16, cat=(0, 8, 0, 16)),
        box_layout(16, bus=(0, 8, 0, 16)),
        box_layout(16, cat=(0, 8, 0, 16), bus=(8, 16, 0, 16)),
    ]
    animals, objects = prepared(layouts, 16, guides=(ANIMALS, OBJECTS))
    assert (animals.rows.tolist(), objects.rows.tolist()) == ([0, 2], [1, 2])
    assert animals.owners.tolist() == [0, 0, 1, 1]
    for guide, index in ((animals, CAT), (objects, BUS)):
        assert guide.channels.tolist() == [0, guide.network.labels.index(index)] * 2
    assert (animals.targets[3, :8] == 1).all(), "the cat"
    assert (animals.targets[2, 8:] == 1).all(), "the bus is background to it"
    assert (objects.targets[2, :8] == 1).all()
    (own_size,) = prepared(layouts[:1])
    assert own_size.targets.shape[-1] == own_size.network.size == 128


class Fixed(nn.Module):
    """Gives the same logits whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits + 0 * images.mean()


def fixed(guide, logits, size=8):
    return guide._replace(network=Network(Fixed(logits), size, "fixed"))


@pytest.fixture
def layouts(box_layout):
    return [box_layout(8, cat=(0, 4, 0, 8)), box_layout(8, dog=(2, 7, 1, 5), cat=(0, 2, 0, 2))]


@pytest.fixture
def truths(layouts):
    return [layout.class_map(8) for layout in layouts]


@pytest.fixture
def guide(layouts):
    (guide,) = prepared(layouts, 8)
    logits = 3 * torch.randn(2, 21, 8, 8, generator=torch.Generator().manual_seed(0))
    return fixed(guide, logits)._replace(rows=torch.tensor([1, 0]))


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
FORMS = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, "logits": lambda x: x}


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_equation_1_over_the_compared_planes(guide, truths, form):
    """Its values and its gradient are those of the loss written plainly."""
    logits = guide.network.module.logits.clone().requires_grad_()
    loss, _ = guide_loss(fixed(guide, logits), IMAGES, GuideOptions(prediction=form))
    (gradient,) = torch.autograd.grad((loss * torch.tensor([1.0, -3.0])).sum(), logits)
    expected = []
    for row, planes in enumerate([[0, CAT], [0, CAT, DOG]]):
        target = torch.stack([torch.from_numpy(truths[row] == c) for c in planes]).double()
        expected.append((FORMS[form](logits.double())[row, planes] - target).square().mean())
    assert loss.tolist() == pytest.approx([each.item() for each in expected], rel=1e-5)
    (plain,) = torch.autograd.grad(expected[0] - 3 * expected[1], logits)
    assert gradient.allclose(plain, rtol=1e-4, atol=1e-9)


def test_the_iou_is_that_of_the_evaluation(guide, truths):
    perfect = torch.stack([60.0 * (torch.from_numpy(truth) == CLASSES) - 30 for truth in truths])
    loss, logits = guide_loss(fixed(guide, perfect), IMAGES, GuideOptions())
    assert loss.max() < 1e-12
    assert guide_iou(guide, logits).tolist() == [1.0, 1.0]
    _, logits = guide_loss(guide, IMAGES, GuideOptions())
    found = guide_iou(guide, logits)
    for row, classes in enumerate([(CAT,), (CAT, DOG)]):
        counts = confusion(truths[row], logits[row].argmax(0).byte().numpy())
        expected = np.nanmean(class_iou(Samples.of([counts], [classes]))[0])
        assert found[row].item() == pytest.approx(expected, abs=1e-6)


STILL = Views(count=3, flip=False, rotation=0, scale=(1, 1), shift=0, noise=0)


@pytest.fixture
def scenes(box_layout):
    """Two layouts with objects, and images in which red is the cat and green the dog."""
    layouts = [
        box_layout(64, cat=(4, 40, 4, 30), dog=(30, 60, 34, 60)),
        box_layout(64, cat=(10, 50, 20, 50)),
    ]
    maps = torch.stack([torch.from_numpy(layout.class_map(64)) for layout in layouts])
    blue = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    return layouts, torch.stack([(maps == CAT).float(), (maps == DOG).float(), blue], 1)


def test_views_that_change_nothing_are_the_image(scenes):
    layouts, images = scenes
    guides = prepared(layouts, 64)
    (guide,), seen = see_views(guides, images, STILL, generators([1, 2]))
    assert seen.allclose(images.repeat_interleave(3, 0), atol=1e-5)
    assert guide.rows.tolist() == [0, 1, 2, 3, 4, 5]
    for index, row in ((0, 0), (4, 1)):
        own = guide.owners == index
        assert guide.channels[own].tolist() == [0, *layouts[row].classes]
        truth = torch.from_numpy(layouts[row].class_map(64))
        assert torch.equal(guide.targets[own], (truth == guide.channels[own, None, None]).float())
    plain = summed_loss(guides, images, GuideOptions(), measured=True)
    options = GuideOptions(views=STILL)
    viewed = summed_loss(guides, images, options, generators([1, 2]), measured=True)
    for found, expected in zip(viewed, plain, strict=True):
        assert found.allclose(expected, rtol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"flip": True, "rotation": 15, "scale": (0.8, 1.3), "shift": 0.2},
        {"rotation": 40},
        {"scale": (0.5, 2)},
    ],
    ids=["all", "rotation", "scale"],
)
def test_masks_go_where_the_objects_go(changes, scenes):
    """What was red is the cat in every view: only pixels on an object's border may differ."""
    layouts, images = scenes
    views = replace(STILL, count=40, **changes)
    (guide,), seen = see_views(prepared(layouts, 64), images, views, generators([1, 2]))
    assert seen.shape == (80, 3, 64, 64)
    for channel, index in ((0, CAT), (1, DOG)):
        planes = guide.channels == index
        colour, mask = seen[guide.rows[guide.owners[planes]], channel], guide.targets[planes]
        assert ((colour > 0.5).float() - mask).abs().mean() < 0.01
        assert mask.flatten(1).any(1).float().mean() > 0.9
    covered = guide.targets.new_zeros(80, 64, 64).index_add(0, guide.owners, guide.targets)
    assert (covered == 1).all(), "every pixel has a class, beyond the image's border too"
    different = (seen[:40] - seen[:1]).abs().flatten(1).amax(1) > 0.1
    assert different.float().mean() > 0.3


def test_each_transformation_has_its_range():
    """A ramp in x and y shows where a view's centre and axes come from."""
    line = (torch.arange(64) + 0.5) / 32 - 1
    ramp = torch.stack(torch.meshgrid(line, line, indexing="ij"))  # y, x
    images = torch.cat([ramp, ramp[:1]])[None]
    views = Views(400, flip=True, rotation=20, scale=(1.25, 2), shift=0.1, noise=0)
    _, seen = see_views([], images, views, generators([3]))
    middle = seen[:, :2, 31:33, 31:33].mean((2, 3))
    along = (seen[:, :2, 31:33, 33] - seen[:, :2, 31:33, 31]).mean(2) / (2 / 32)  # (y, x) along x
    shrink = along.norm(dim=1)
    assert shrink.aminmax() == pytest.approx((1 / 2, 1 / 1.25), abs=0.01)
    assert (along[:, 1] < 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    angle = (along[:, 0] / along[:, 1]).atan().rad2deg()
    assert angle.aminmax() == pytest.approx((-20, 20), abs=1)
    limit = 2 * 0.1 * 2**0.5 / 1.25  # a shift of both axes, in the image's own half sides
    assert 0.5 * limit < middle.norm(dim=1).max() <= limit
    noisy = Views(8, noise=0.07)
    _, seen = see_views([], torch.full((2, 3, 32, 32), 0.5), noisy, generators([1, 2]))
    assert seen.mean().item() == pytest.approx(0.5, abs=0.005)
    assert seen.std().item() == pytest.approx(0.07, abs=0.003)


def test_a_samples_views_are_its_own(scenes):
    """They depend on no other sample of the batch; no views draw no number."""
    layouts, images = scenes
    (both,), together = see_views(prepared(layouts, 64), images, Views(2), generators([1, 2]))
    (alone,), second = see_views(prepared(layouts[1:], 64), images[1:], Views(2), generators([2]))
    assert torch.equal(together[2:], second)
    assert torch.equal(both.targets[both.owners >= 2], alone.targets)
    (rng,) = generators([1])
    state = rng.get_state()
    summed_loss(prepared(layouts[:1], 64), images[:1], GuideOptions(), [rng])
    assert torch.equal(rng.get_state(), state)


def test_the_loss_of_views_is_their_mean(scenes):
    layouts, images = scenes
    (guide,) = prepared(layouts, 64)
    guide = fixed(guide, torch.randn(4, 21, 64, 64, generator=torch.Generator().manual_seed(0)))
    options = GuideOptions(views=Views(2))
    found, iou = summed_loss([guide], images, options, generators([1, 2]), measured=True)
    (guide,), seen = see_views([guide], images, Views(2), generators([1, 2]))
    loss, logits = guide_loss(guide, seen, options)
    assert found.allclose(loss.view(2, 2).mean(1))
    assert iou.allclose(guide_iou(guide, logits).view(2, 2).mean(1))
    assert (iou > 0).all()


@pytest.mark.parametrize(
    "wrong", [{"count": -1}, {"scale": (1.2, 0.8)}, {"scale": (0, 1)}, {"noise": -0.1}]
)
def test_views_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"at least 0|positive"):
        Views(**wrong)
