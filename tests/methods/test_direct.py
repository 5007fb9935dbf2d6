"""The loss guides the sampler: against Universal Guidance written out in noise."""

import numpy as np
import pytest
import torch

from tcig.methods import direct as module
from tcig.methods.base import Context, gaussian, generators
from tcig.methods.direct import DirectGuidance, differentiate
from tcig.methods.guides import prepare_guides, summed_loss
from tcig.models.devices import Compute, release
from tcig.models.diffusion import to_images


def direct(sampler, **options):
    return sampler(DirectGuidance, guides=("mini:guide",), **{"recurrence": 1} | options)


def pixels_of(images):
    return np.stack([np.asarray(image) for image in images]).astype(int)


def in_noise(method, layouts, rngs, prediction):
    """Algorithm 1 of Bansal et al. in the form of their code: everything as a noise."""
    model, options = method.model, method.options
    guides = prepare_guides(options, layouts)
    z = gaussian(rngs, (4, 16, 16))
    texts, calls = method.prompted([each.caption for each in layouts])
    texts = texts.clone()
    times = model.schedule(options.steps).timesteps.tolist()
    shares = model.schedule(options.steps).alphas_cumprod
    for t, earlier in zip(times, [*times[1:], None], strict=True):
        a = shares[t]
        before = shares[earlier] if earlier is not None else model.schedule(4).final_alpha_cumprod
        for repetition in range(options.recurrence):
            z = z.detach().requires_grad_()
            output = model.guided(z, torch.tensor(t), texts, calls, options.guidance)
            v = prediction == "v_prediction"
            noise = a.sqrt() * output + (1 - a).sqrt() * z if v else output
            clean = (z - (1 - a).sqrt() * noise) / a.sqrt()
            images = (model.decode(clean, clamped=False) + 1) / 2
            loss = summed_loss(guides, images, options)[0].sum()
            noise = noise + options.weight * (1 - a).sqrt() * torch.autograd.grad(loss, z)[0]
            with torch.no_grad():
                clean = (z - (1 - a).sqrt() * noise) / a.sqrt()
                earlier_z = before.sqrt() * clean + (1 - before).sqrt() * noise
                z = earlier_z
                if repetition < options.recurrence - 1:
                    beta = a / before
                    z = beta.sqrt() * earlier_z + (1 - beta).sqrt() * gaussian(rngs, (4, 16, 16))
    return z.detach()


@pytest.mark.parametrize(
    ("prediction", "recurrence", "weight"), [("v_prediction", 2, 2.0), ("epsilon", 1, 1000.0)]
)
def test_it_is_universal_guidance(prediction, recurrence, weight, sampler, layouts, monkeypatch):
    # The guide's gradient enlarges rounding, which differs between processors: no more than needed.
    method = direct(sampler, weight=weight, recurrence=recurrence)
    schedule = dict(method.model._schedule) | {"prediction_type": prediction}
    monkeypatch.setattr(method.model, "_schedule", schedule)
    chosen = [layouts["9"], layouts["7"]]  # of 2 and 4 regions
    found = method.generate(chosen, [5, 6])
    expected = in_noise(method, chosen, generators([5, 6]), prediction)
    unguided = direct(sampler, weight=0.0, recurrence=recurrence)
    plain = in_noise(unguided, chosen, generators([5, 6]), prediction)
    with torch.no_grad():
        expected, plain = (pixels_of(to_images(method.model.decode(z))) for z in (expected, plain))
    assert np.abs(pixels_of(found) - expected).max() <= 1
    assert np.abs(expected - plain).mean() > 3, "the guidance is seen"


class EnoughError(Exception):
    """Ends a run after its first gradient."""


@pytest.fixture
def first_gradient(layouts, monkeypatch):
    """The gradient of the first step under a number format, of a mean over 520 x 520 pixels."""

    def draw(precision):
        found = []

        def once(*given):
            found.append(differentiate(*given))
            raise EnoughError

        monkeypatch.setattr(module, "differentiate", once)
        compute = Compute(on="cpu", precision=precision)
        options = {"weights": "mini:stable-diffusion", "guides": ("mini:guide",), "guide_size": 520}
        options = module.DirectOptions(**options, steps=10)
        method = DirectGuidance(Context(64, None, compute), options)
        with pytest.raises(EnoughError):
            method.generate([layouts["9"]], [5])
        release()
        return found[0].flatten()

    return draw


def test_the_gradient_survives_float16_at_the_size_of_the_paper(first_gradient):
    """Unscaled, most of a mean over so many pixels becomes zero."""
    half, exact = map(first_gradient, ("float16", "float32"))
    assert torch.cosine_similarity(half, exact, dim=0) >= 0.99
    assert half.norm() / exact.norm() == pytest.approx(1, abs=0.02)


def test_a_scaled_gradient_is_the_gradient_to_the_last_bit():
    torch.manual_seed(0)
    latents = torch.randn(3, 4, 8, 8, requires_grad=True)
    images = torch.nn.functional.conv2d(latents, torch.randn(3, 4, 3, 3))

    def loss(images):
        return (images.square() * 1e-7).mean((1, 2, 3)) * torch.tensor([1.0, 1e-3, 1e3])

    (expected,) = torch.autograd.grad(loss(images).sum(), latents, retain_graph=True)
    assert differentiate(loss, images, latents, "").equal(expected)


@pytest.mark.parametrize(
    ("factor", "match"), [(0.0, "zero"), (float("nan"), "NaN"), (float("inf"), "infinite")]
)
def test_a_gradient_that_guides_nothing_is_an_error(factor, match):
    latents = torch.ones(2, 4, 2, 2, requires_grad=True)
    factors = torch.tensor([1.0, factor])

    def loss(images):
        return images.sum((1, 2, 3)) * factors

    with pytest.raises(FloatingPointError, match=f"timestep 7: .*{match}"):
        differentiate(loss, latents[:, :3] * 2, latents, "timestep 7")
