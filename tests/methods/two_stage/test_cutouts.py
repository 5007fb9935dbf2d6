"""Cutouts: one warp against a loop, draws of each sample's own, ranges of the augmentations."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tcig.methods.draws import generators
from tcig.methods.two_stage.cutouts import (
    CHANCE,
    NEUTRAL,
    NOISE,
    _affine,
    _perspective,
    augmented,
    draw_augmentations,
    erase,
    warp,
)

ALL = ("affine", "perspective", "jitter", "erasing", "noise")


def images(count, side, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_without_augmentations_a_pooled_cutout_of_its_own_size_is_the_image():
    original = images(2, 16)
    drawn = draw_augmentations(generators([0, 1]), 3, 16, 16, "pooled", ("noise",))
    views = augmented(original, drawn._replace(noise=torch.zeros(6, 3, 16, 16)), 16, "pooled")
    assert torch.equal(views, original.repeat_interleave(3, 0))


def test_with_all_augmentations_off_cutouts_are_the_image():
    original = images(2, 16)
    drawn = draw_augmentations(generators([0, 1]), 3, 16, 16, "pooled", ())
    views = augmented(original, drawn, 16, "pooled")
    assert views.allclose(original.repeat_interleave(3, 0), atol=1e-5)


def test_pooling_is_the_mean_of_average_and_maximum():
    original = images(1, 8)
    drawn = draw_augmentations(generators([0]), 1, 4, 8, "pooled", ("noise",))
    views = augmented(original, drawn._replace(noise=torch.zeros(1, 3, 4, 4)), 4, "pooled")
    blocks = original.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert views.allclose((blocks.mean(-1) + blocks.amax(-1)) / 2)


def bilinear(image, x, y):
    """A pixel at (x, y), pixel centres at whole numbers, black outside; image (3, S, S)."""
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(3)
    for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            if 0 <= column < image.shape[2] and 0 <= row < image.shape[1]:
                total += share_x * share_y * image[:, row, column]
    return total


def test_a_warp_samples_each_image_at_its_own_places():
    original = images(2, 6)
    places = torch.eye(3).repeat(2, 2, 1, 1)
    places += 0.2 * torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    found = warp(original, places, 5).unflatten(0, (2, 2)).double().numpy()
    for n, k, row, column in np.ndindex(2, 2, 5, 5):
        point = np.array([(2 * column + 1) / 5 - 1, (2 * row + 1) / 5 - 1, 1])
        x, y, scale = places[n, k].double().numpy() @ point
        pixel = [((value / scale + 1) * 6 - 1) / 2 for value in (x, y)]
        expected = bilinear(original[n].double().numpy(), *pixel)
        assert found[n, k, :, row, column] == pytest.approx(expected, abs=1e-4)


def test_the_perspective_takes_the_moved_corners_to_the_corners():
    inward = 0.7 * torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(2))
    matrices = _perspective(inward)
    ends = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    moved = torch.cat([ends * (1 - inward), torch.ones(5, 4, 1)], 2)
    found = torch.einsum("nij,nkj->nki", matrices, moved)
    assert (found[..., :2] / found[..., 2:]).allclose(ends.expand(5, 4, 2), atol=1e-4)


def test_an_affine_turn_is_undone_by_its_matrix():
    numbers = torch.tensor([[1.0, 0.5, 0.5, 0.5], [0.5, 0.5, 1.0, 0.0]])
    turned, shifted = _affine(numbers, torch.tensor([True, True]))
    angle = math.radians(15)
    forward = torch.linalg.inv(turned)[:2, :2]
    expected = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    assert forward.allclose(torch.tensor(expected), atol=1e-6)
    assert torch.linalg.inv(shifted)[:2, 2].tolist() == pytest.approx([0.2, -0.2])
    assert torch.equal(_affine(numbers, torch.tensor([False, False])), torch.eye(3).expand(2, 3, 3))


@pytest.mark.parametrize("style", ["pooled", "crops"])
def test_draws_of_a_sample_do_not_depend_on_what_stands_beside_it(style):
    original = images(3, 24)
    together = draw_augmentations(generators([1, 2, 3]), 4, 16, 24, style, ALL)
    views = augmented(original, together, 16, style).unflatten(0, (3, 4))
    for n, seed in enumerate([1, 2, 3]):
        alone = draw_augmentations(generators([seed]), 4, 16, 24, style, ALL)
        single = augmented(original[n : n + 1], alone, 16, style)
        assert single.allclose(views[n], atol=1e-5)


def test_cutouts_of_an_image_differ():
    drawn = draw_augmentations(generators([0]), 8, 16, 16, "pooled", ALL)
    views = augmented(images(1, 16), drawn, 16, "pooled").flatten(1)
    assert (torch.cdist(views, views) + torch.eye(8) > 1e-3).all()


def test_every_augmentation_is_applied_about_as_often_as_stated():
    drawn = draw_augmentations(generators(range(64)), 32, 8, 8, "pooled", ALL)
    count = 64 * 32
    spread = 4 * math.sqrt(CHANCE * (1 - CHANCE) / count)
    recoloured = (drawn.colours != torch.tensor(NEUTRAL)).any(1).float().mean()
    assert recoloured == pytest.approx(CHANCE, abs=spread)
    still = (drawn.warp - torch.eye(3)).abs().amax((1, 2)) < 1e-5
    assert still.float().mean() == pytest.approx((1 - CHANCE) ** 2, abs=0.04)
    erased = drawn.boxes.view(64, 32, 4)
    assert (erased == erased[:, :1]).all()
    assert (erased[:, 0].sum(1) > 0).float().mean() == pytest.approx(CHANCE, abs=0.23)


def test_boxes_lie_within_the_cutout_and_are_as_large_as_stated():
    drawn = draw_augmentations(generators(range(200)), 1, 64, 64, "pooled", ("erasing",))
    left, top, right, bottom = drawn.boxes[drawn.boxes.sum(1) > 0].unbind(1)
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= 64
    assert bottom.max() <= 64
    share = (right - left) * (bottom - top) / 64**2
    assert share.min() > 0.09
    assert share.max() < 0.41
    tall = ((bottom - top) > (right - left)).float().mean()
    assert 0.3 < tall < 0.7


def test_erasing_blackens_the_box_alone():
    original = images(1, 8) + 0.1
    found = erase(original, torch.tensor([[2.0, 1, 5, 7]]))
    hole = torch.zeros(8, 8, dtype=torch.bool)
    hole[1:7, 2:5] = True
    assert (found[0, :, hole] == 0).all()
    assert torch.equal(found[0, :, ~hole], original[0, :, ~hole])


def test_noise_has_the_stated_strength():
    drawn = draw_augmentations(generators(range(8)), 16, 32, 32, "pooled", ("noise",))
    strength = drawn.noise.flatten(1).std(1)
    assert strength.max() <= 1.05 * NOISE
    assert strength.mean() == pytest.approx(NOISE / 2, rel=0.2)


def test_crops_stay_within_the_image_and_keep_its_scale():
    drawn = draw_augmentations(generators(range(64)), 4, 16, 40, "crops", ())
    extent = drawn.warp[:, 0, 0]
    assert extent.min() >= 16 / 40 - 1e-6
    assert extent.max() <= 1
    assert (drawn.warp[:, :2, 2].abs() <= 1 - extent[:, None] + 1e-6).all()
    assert extent.std() > 0.1


def test_a_whole_crop_is_the_image_reduced():
    original = F.interpolate(images(1, 4), 32, mode="bilinear")
    found = warp(original, torch.eye(3)[None, None], 16, density=2)
    assert found.allclose(F.avg_pool2d(original, 2), atol=1e-5)


def test_gradients_reach_every_pixel_through_all_augmentations():
    original = images(2, 16).requires_grad_()
    drawn = draw_augmentations(generators([5, 6]), 8, 16, 16, "pooled", ALL)
    augmented(original, drawn, 16, "pooled").square().sum().backward()
    assert original.grad.isfinite().all()
    assert (original.grad.abs().sum(1) > 0).float().mean() > 0.95
