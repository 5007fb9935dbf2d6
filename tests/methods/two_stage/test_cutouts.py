"""Cutouts: one warp against a loop, and the ranges of the augmentations."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tcig.methods.base import generators
from tcig.methods.two_stage.cutouts import (
    CHANCE,
    NEUTRAL,
    NOISE,
    CutoutOptions,
    _affine,
    _perspective,
    augment,
    color_jitter,
    sample_augmentations,
)
from tcig.methods.views import warp


def images(count, side, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def sampled(seeds, size, side, **changes):
    return sample_augmentations(CutoutOptions(**changes), generators(seeds), size, side)


def test_without_augmentations_cutouts_are_the_image():
    original = images(2, 16)
    off = sampled([0, 1], 16, 16, cutouts=3, augmentations=())
    views = augment(original, off, 16, "pooled")
    assert views.allclose(original.repeat_interleave(3, 0), atol=1e-5)


def bilinear(image, x, y):
    """A pixel at (x, y), pixel centres at whole numbers, black outside; image (3, S, S)."""
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(3)
    for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            if 0 <= column < image.shape[2] and 0 <= row < image.shape[1]:
                total += share_x * share_y * image[:, row, column]
    return total


def test_a_warp_samples_each_image_at_its_own_points():
    original = images(2, 6)
    maps = torch.eye(3).repeat(2, 2, 1, 1)
    maps += 0.2 * torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    views = warp(original, maps, 5).unflatten(0, (2, 2)).double().numpy()
    for n, k, row, column in np.ndindex(2, 2, 5, 5):
        point = np.array([(2 * column + 1) / 5 - 1, (2 * row + 1) / 5 - 1, 1])
        x, y, scale = maps[n, k].double().numpy() @ point
        pixel = [((value / scale + 1) * 6 - 1) / 2 for value in (x, y)]
        expected = bilinear(original[n].double().numpy(), *pixel)
        assert views[n, k, :, row, column] == pytest.approx(expected, abs=1e-4)


def test_a_whole_crop_is_the_image_reduced():
    original = F.interpolate(images(1, 4), 32, mode="bilinear")
    view = warp(original, torch.eye(3)[None, None], 16, density=2)
    assert view.allclose(F.avg_pool2d(original, 2), atol=1e-5)


def test_the_perspective_takes_the_moved_corners_to_the_corners():
    inward = 0.7 * torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(2))
    ends = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    moved = torch.cat([ends * (1 - inward), torch.ones(5, 4, 1)], 2)
    points = torch.einsum("nij,nkj->nki", _perspective(inward), moved)
    assert (points[..., :2] / points[..., 2:]).allclose(ends.expand(5, 4, 2), atol=1e-4)


def test_an_affine_turn_is_undone_by_its_matrix():
    numbers = torch.tensor([[1.0, 0.5, 0.5, 0.5], [0.5, 0.5, 1.0, 0.0]])
    turned, shifted = _affine(numbers, torch.tensor([True, True]))
    angle = math.radians(15)
    expected = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    assert torch.linalg.inv(turned)[:2, :2].allclose(torch.tensor(expected), atol=1e-6)
    assert torch.linalg.inv(shifted)[:2, 2].tolist() == pytest.approx([0.2, -0.2])
    assert torch.equal(_affine(numbers, torch.tensor([False, False])), torch.eye(3).expand(2, 3, 3))


def test_augmentations_are_as_often_and_as_large_as_stated():
    augmentations = sampled(range(64), 32, 32)
    spread = 4 * math.sqrt(CHANCE * (1 - CHANCE) / (64 * 32))
    recoloured = (augmentations.colours != torch.tensor(NEUTRAL)).any(1).float().mean()
    assert recoloured == pytest.approx(CHANCE, abs=spread)
    still = (augmentations.warp - torch.eye(3)).abs().amax((1, 2)) < 1e-5
    assert still.float().mean() == pytest.approx((1 - CHANCE) ** 2, abs=0.04)
    boxes = augmentations.boxes.view(64, 32, 4)
    assert (boxes == boxes[:, :1]).all()
    erased = boxes[boxes[:, 0].sum(1) > 0, 0]
    assert len(erased) / 64 == pytest.approx(CHANCE, abs=0.23)
    left, top, right, bottom = erased.unbind(1)
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= 32
    share = (right - left) * (bottom - top) / 32**2
    assert 0.08 < share.min() < share.max() < 0.42
    assert 0.25 < ((bottom - top) > (right - left)).float().mean() < 0.75
    strength = augmentations.noise.flatten(1).std(1)
    assert strength.max() <= 1.05 * NOISE
    assert strength.mean() == pytest.approx(NOISE / 2, rel=0.2)


def test_crops_stay_within_the_image_and_keep_its_scale():
    crops = sampled(range(64), 16, 40, cutouts=4, style="crops", augmentations=())
    extent = crops.warp[:, 0, 0]
    assert extent.min() >= 16 / 40 - 1e-6
    assert extent.max() <= 1
    assert (crops.warp[:, :2, 2].abs() <= 1 - extent[:, None] + 1e-6).all()
    assert extent.std() > 0.1


def test_neutral_factors_leave_colours_and_greys_have_finite_gradients():
    original = images(2, 8).round().requires_grad_()
    jittered = color_jitter(original, torch.tensor(NEUTRAL).expand(2, 4))
    assert torch.equal(jittered, original)
    jittered.sum().backward()
    assert torch.equal(original.grad, torch.ones_like(original))
    grey = torch.linspace(0, 1, 6).view(1, 1, 2, 3).repeat(1, 3, 1, 1).requires_grad_()
    jittered = color_jitter(grey, torch.tensor([[1.0, 0.9, 1.3, 0.1]]))
    assert jittered.allclose(0.9 * grey, atol=1e-6)
    jittered.square().sum().backward()
    assert grey.grad.isfinite().all()
