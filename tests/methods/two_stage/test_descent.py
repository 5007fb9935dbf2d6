"""The descent of latents: its pieces against closed forms, its steps against Adam's written out."""

import pytest
import torch

from tcig.methods.draws import generators
from tcig.methods.two_stage.descent import _ClampPixels, optimise, slopes, synthesise
from tcig.methods.two_stage.first import start_latents
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import locate


@pytest.fixture(scope="module")
def vqgan():
    return load_vqgan(locate("mini:vqgan"))


def square(images, iteration):
    return (images - iteration).square().sum((1, 2, 3))


def wave(images, iteration):
    return images.sin().mean((1, 2, 3)) * iteration


@pytest.mark.parametrize("losses", [{"a": square}, {"a": square, "b": wave}])
def test_slopes_are_the_losses_and_the_gradient_of_their_sum(losses):
    images = torch.rand(2, 3, 8, 8).requires_grad_()
    for iteration in (1, 2):
        found, gradient = slopes(losses, images * 2, iteration)
        expected = {name: loss(images * 2, iteration) for name, loss in losses.items()}
        assert list(found) == list(losses)
        assert all(found[name].equal(loss.detach()) for name, loss in expected.items())
        assert not any(loss.requires_grad for loss in found.values())
        (whole,) = torch.autograd.grad(sum(expected.values()).sum(), images)
        assert (2 * gradient).allclose(whole, rtol=1e-6)


def test_a_clamped_pixel_passes_only_the_gradient_that_brings_it_back():
    pixels = torch.tensor([-0.5, -0.5, 0.5, 1.5, 1.5], requires_grad=True)
    weights = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    clamped = _ClampPixels.apply(pixels)
    (clamped * weights).sum().backward()
    assert clamped.tolist() == [0, 0, 0.5, 1, 1]
    assert pixels.grad.tolist() == [0, -1, 1, 1, 0]


def test_images_are_of_codes_and_gradients_pass_straight_through(vqgan):
    latents = start_latents(vqgan, "codes", 64, generators([0])) + 0.01
    latents.requires_grad_()
    codes = vqgan.codebook[vqgan.codes(latents.detach())].movedim(-1, 1).contiguous()
    images = synthesise(vqgan, latents)
    assert images.allclose(((vqgan.decode(codes) + 1) / 2).clamp(0, 1), atol=1e-5)
    quantised = codes.clone().requires_grad_()
    _ClampPixels.apply((vqgan.decode(quantised) + 1) / 2).square().sum().backward()
    images.square().sum().backward()
    assert latents.grad.allclose(quantised.grad, atol=1e-4)


def test_the_optimiser_takes_adams_steps_and_clamps_to_the_codebook(vqgan):
    start = start_latents(vqgan, "codes", 64, generators([3]))
    rates = [0.1, 0.7, 0.05]
    seen = []

    def red(images, iteration):
        return (images[:, 0] - 1).square().mean((1, 2))

    optimise(vqgan, start, {"red": red}, rates, lambda event, **found: seen.append(found))
    low, high = vqgan.codebook.amin(0)[:, None, None], vqgan.codebook.amax(0)[:, None, None]
    latents, first, second = start.clone(), 0, 0
    for step, rate in enumerate(rates, start=1):
        latents.requires_grad_()
        images = synthesise(vqgan, latents)
        assert images.allclose(seen[step - 1]["images"], atol=1e-5)
        loss = (images[:, 0] - 1).square().mean((1, 2)).sum()
        (gradient,) = torch.autograd.grad(loss, latents)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scaled = (second / (1 - 0.999**step)).sqrt() + 1e-8
        latents = (latents - rate * first / (1 - 0.9**step) / scaled).detach()
        latents = latents.clamp(low, high)
    assert synthesise(vqgan, latents).allclose(seen[-1]["images"], atol=1e-4)
    assert [found["iteration"] for found in seen] == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_sample_that_is_not_optimised_is_an_error_with_its_iteration(vqgan, value):
    """Zero too: it would be an unguided image."""

    def loss(images, iteration):
        factor = torch.tensor([1.0, value if iteration == 2 else 1.0])
        return images.square().mean((1, 2, 3)) * factor

    latents = start_latents(vqgan, "codes", 64, generators([0, 1]))
    with pytest.raises(FloatingPointError, match="iteration 2"):
        optimise(vqgan, latents, {"loss": loss}, [0.1] * 4)


def test_a_learning_rate_that_is_not_a_number_is_an_error(vqgan):
    latents = start_latents(vqgan, "codes", 64, generators([0]))
    with pytest.raises(FloatingPointError, match="iteration 0"):
        optimise(vqgan, latents, {"loss": square}, [float("nan")])
