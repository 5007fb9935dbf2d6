"""Jitter of colours: what it leaves, what it turns, and its derivative against differences."""

import colorsys

import numpy as np
import pytest
import torch

from tcig.methods.two_stage.cutouts import NEUTRAL, color_jitter

FACTORS = torch.tensor([[1.06, 0.93, 1.4, 0.08], NEUTRAL, [0.91, 1.1, 0.7, -0.3], [1, 1, 9.0, 0]])
"""The last saturates: S is clamped."""


def images(count, side=8, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_it_is_what_python_s_own_hsv_gives():
    original = images(len(FACTORS), 4)
    found = color_jitter(original, FACTORS)
    for n, row, column in np.ndindex(len(FACTORS), 4, 4):
        brightness, contrast, saturation, turn = FACTORS[n].tolist()
        lit = np.clip(original[n, :, row, column].numpy() + brightness - 1, 0, 1)
        hue, pure, value = colorsys.rgb_to_hsv(*np.clip(contrast * lit, 0, 1))
        expected = colorsys.hsv_to_rgb((hue + turn) % 1, min(pure * saturation, 1), value)
        assert found[n, :, row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_neutral_factors_leave_colours_and_gradients_even_of_saturated_pixels():
    original = images(2).round().requires_grad_()
    found = color_jitter(original, torch.tensor(NEUTRAL).expand(2, 4))
    assert torch.equal(found, original)
    found.sum().backward()
    assert torch.equal(original.grad, torch.ones_like(original))


def test_a_whole_turn_of_the_hue_changes_nothing_and_a_third_permutes_the_channels():
    original = images(1)
    whole, third = (torch.tensor([[1.0, 1, 1, turn]]) for turn in (1, 1 / 3))
    assert color_jitter(original, whole).allclose(original, atol=1e-5)
    assert color_jitter(original, third).allclose(original[:, [2, 0, 1]], atol=1e-5)


def test_greys_stay_grey_and_have_finite_gradients():
    original = torch.linspace(0, 1, 6).view(1, 1, 2, 3).repeat(1, 3, 1, 1).requires_grad_()
    found = color_jitter(original, torch.tensor([[1.0, 0.9, 1.3, 0.1]]))
    assert found.allclose(0.9 * original, atol=1e-6)
    found.square().sum().backward()
    assert original.grad.isfinite().all()


def test_the_derivative_is_that_of_small_differences():
    original = images(len(FACTORS), 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: color_jitter(x, FACTORS.double()), original)


def test_a_channel_that_is_clamped_gets_no_gradient():
    original = torch.tensor([0.98, 0.5, 0.02]).view(1, 3, 1, 1).requires_grad_()
    color_jitter(original, torch.tensor([[0.9, 1.0, 1.0, 0.0]])).sum().backward()
    assert original.grad[0, 2].item() == 0
    original.grad = None
    color_jitter(original, torch.tensor([[1.0, 1.1, 1.0, 0.0]])).sum().backward()
    assert original.grad[0, 0].item() == 0
