"""Guides: which are chosen, what they are to see, and Eq. 1 against plain arithmetic."""

import numpy as np
import pytest
import torch
from torch import nn

from tcig.data.errors import InputError
from tcig.data.voc import BY_LABEL
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.methods.draws import generators
from tcig.methods.guides import (
    Views,
    choose,
    guide_iou,
    guide_loss,
    load_guide,
    prepare_guides,
    see_views,
    summed_loss,
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


STILL = Views(count=3, flip=False, rotation=0, scale=(1, 1), shift=0, noise=0)


def scenes(box_layout):
    """Two layouts with objects, and images in which red is the cat and green the dog."""
    layouts = [
        box_layout(64, cat=(4, 40, 4, 30), dog=(30, 60, 34, 60)),
        box_layout(64, cat=(10, 50, 20, 50)),
    ]
    maps = torch.stack([torch.from_numpy(layout.class_map(64)) for layout in layouts])
    blue = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    return layouts, torch.stack([(maps == CAT).float(), (maps == DOG).float(), blue], 1)


def test_views_that_change_nothing_are_the_image(box_layout):
    layouts, images = scenes(box_layout)
    prepared = prepare_guides([WHOLE], layouts, 64, "layout")
    (guided,), seen = see_views(prepared, images, STILL, generators([1, 2]))
    assert seen.allclose(images.repeat_interleave(3, 0), atol=1e-5)
    assert guided.rows.tolist() == [0, 1, 2, 3, 4, 5]
    for place, row in ((0, 0), (4, 1)):
        own = guided.owners == place
        assert guided.channels[own].tolist() == [0, *layouts[row].classes]
        truth = torch.from_numpy(layouts[row].class_map(64))
        assert torch.equal(guided.targets[own], (truth == guided.channels[own, None, None]).float())
    plain = summed_loss(prepared, images, "softmax", measured=True)
    viewed = summed_loss(
        prepared, images, "softmax", measured=True, views=STILL, generators=generators([1, 2])
    )
    for found, expected in zip(viewed, plain, strict=True):
        assert found.allclose(expected, rtol=1e-3)


@pytest.mark.parametrize(
    "views",
    [
        Views(40, noise=0),
        Views(40, flip=True, rotation=0, scale=(1, 1), shift=0, noise=0),
        Views(40, flip=False, rotation=40, scale=(1, 1), shift=0, noise=0),
        Views(40, flip=False, rotation=0, scale=(0.5, 2), shift=0, noise=0),
        Views(40, flip=False, rotation=0, scale=(1, 1), shift=0.4, noise=0),
    ],
    ids=["all", "flip", "rotation", "scale", "shift"],
)
def test_masks_go_where_the_objects_go(views, box_layout):
    """What was red is the cat in every view: only pixels on an object's border may differ."""
    layouts, images = scenes(box_layout)
    prepared = prepare_guides([WHOLE], layouts, 64, "layout")
    (guided,), seen = see_views(prepared, images, views, generators([1, 2]))
    assert seen.shape == (80, 3, 64, 64)
    for channel, index in ((0, CAT), (1, DOG)):
        planes = guided.channels == index
        colour, mask = seen[guided.rows[guided.owners[planes]], channel], guided.targets[planes]
        assert ((colour > 0.5).float() - mask).abs().mean() < 0.01
        assert mask.flatten(1).any(1).float().mean() > 0.9
    covered = guided.targets.new_zeros(80, 64, 64).index_add(0, guided.owners, guided.targets)
    assert (covered == 1).all(), "every pixel has a class, beyond the image's border too"
    different = (seen[:40] - seen[:1]).abs().flatten(1).amax(1) > 0.1
    assert different.float().mean() > 0.3


def test_each_transformation_has_its_range(box_layout):
    """A ramp in x and y shows where a view's centre and axes come from."""
    line = (torch.arange(64) + 0.5) / 32 - 1
    ramp = torch.stack(torch.meshgrid(line, line, indexing="ij"))  # y, x
    images = torch.cat([ramp, ramp[:1]])[None]
    views = Views(400, flip=True, rotation=20, scale=(1.25, 2), shift=0.1, noise=0)
    _, seen = see_views([], images, views, generators([3]))
    middle = seen[:, :2, 31:33, 31:33].mean((2, 3))
    along = (seen[:, :2, 31:33, 33] - seen[:, :2, 31:33, 31]).mean(2) / (2 / 32)  # (y, x) along x
    shrink = along.norm(dim=1)
    assert shrink.min() == pytest.approx(1 / 2, abs=0.01)
    assert shrink.max() == pytest.approx(1 / 1.25, abs=0.01)
    mirrored = (along[:, 1] < 0).float().mean().item()
    assert mirrored == pytest.approx(0.5, abs=0.1)
    angle = (along[:, 0] / along[:, 1]).atan().rad2deg()
    assert angle.min() == pytest.approx(-20, abs=1)
    assert angle.max() == pytest.approx(20, abs=1)
    limit = 2 * 0.1 * 2**0.5 / 1.25  # a shift of both axes, in the image's own half sides
    assert 0.5 * limit < middle.norm(dim=1).max() <= limit


def test_noise_has_its_deviation():
    images = torch.full((2, 3, 32, 32), 0.5)
    _, seen = see_views([], images, Views(8, noise=0.07), generators([1, 2]))
    assert seen.mean().item() == pytest.approx(0.5, abs=0.005)
    assert seen.std().item() == pytest.approx(0.07, abs=0.003)


def test_a_samples_views_are_its_own(box_layout):
    """They depend on no other sample of the batch; no views draw no number."""
    layouts, images = scenes(box_layout)
    views = Views(2)
    (both,), together = see_views(
        prepare_guides([WHOLE], layouts, 64, "layout"), images, views, generators([1, 2])
    )
    (alone,), second = see_views(
        prepare_guides([WHOLE], layouts[1:], 64, "layout"), images[1:], views, generators([2])
    )
    assert torch.equal(together[2:], second)
    assert torch.equal(both.targets[both.owners >= 2], alone.targets)
    (draw,) = generators([1])
    state = draw.get_state()
    summed_loss(
        prepare_guides([WHOLE], layouts[:1], 64, "all"), images[:1], "softmax", generators=[draw]
    )
    assert torch.equal(draw.get_state(), state)


def test_the_loss_of_views_is_their_mean(box_layout):
    layouts, images = scenes(box_layout)
    (guided,), views = prepare_guides([WHOLE], layouts, 64, "layout"), Views(2)
    logits = torch.randn(4, 21, 64, 64, generator=torch.Generator().manual_seed(0))
    prepared = [guided._replace(network=Network(Fixed(logits), 64, "fixed"))]
    found, iou = summed_loss(
        prepared, images, "softmax", measured=True, views=views, generators=generators([1, 2])
    )
    (guided,), seen = see_views(prepared, images, views, generators([1, 2]))
    loss, logits = guide_loss(guided, seen, "softmax")
    assert found.allclose(loss.view(2, 2).mean(1))
    assert iou.allclose(guide_iou(guided, logits).view(2, 2).mean(1))
    assert (iou > 0).all()


def test_two_experts_see_views_of_the_samples_that_need_them(box_layout):
    layouts = [box_layout(32, cat=(0, 20, 0, 30)), box_layout(32, bus=(4, 20, 0, 30))]
    prepared = prepare_guides([ANIMALS, OBJECTS], layouts, 32, "layout")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (animals, objects), seen = see_views(prepared, images, Views(3), generators([1, 2]))
    assert animals.rows.tolist() == [0, 1, 2]
    assert objects.rows.tolist() == [3, 4, 5]
    assert len(seen) == 6


@pytest.mark.parametrize(
    "wrong", [{"count": -1}, {"scale": (1.2, 0.8)}, {"scale": (0, 1)}, {"noise": -0.1}]
)
def test_views_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"at least 0|positive"):
        Views(**wrong)
