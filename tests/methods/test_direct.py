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

NAMES = ["9", "7", "10"]
"""Layouts of 2, 4 and 3 regions."""


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


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("recurrence", [1, 2])
def test_it_is_universal_guidance(prediction, recurrence, sampler, layouts, monkeypatch):
    # The guide's gradient enlarges rounding, which differs between processors: no more than needed.
    weight = {1: 12.0, 2: 2.0}[recurrence] if prediction == "v_prediction" else 1000.0
    method = direct(sampler, weight=weight, recurrence=recurrence)
    schedule = dict(method.model._schedule) | {"prediction_type": prediction}
    monkeypatch.setattr(method.model, "_schedule", schedule)
    chosen = [layouts[name] for name in NAMES[:2]]
    found = method.generate(chosen, [5, 6])
    expected = in_noise(method, chosen, generators([5, 6]), prediction)
    unguided = direct(sampler, weight=0.0, recurrence=recurrence)
    plain = in_noise(unguided, chosen, generators([5, 6]), prediction)
    with torch.no_grad():
        expected, plain = (pixels_of(to_images(method.model.decode(z))) for z in (expected, plain))
    assert np.abs(pixels_of(found) - expected).max() <= 1
    assert np.abs(expected - plain).mean() > 3, "the guidance is seen"


def test_a_layout_is_drawn_alike_whatever_stands_beside_it(sampler, layouts):
    """Exactly in equal batches; elsewhere the guide's gradient enlarges rounding, as in stage 1."""
    method, drawn = direct(sampler, weight=30.0, recurrence=2, steps=2), {}
    seeds = dict(zip(NAMES, [5, 6, 7], strict=True))
    for names in (NAMES, NAMES, NAMES[::-1], NAMES[:1]):
        images = method.generate([layouts[n] for n in names], [seeds[n] for n in names])
        for name, image in zip(names, pixels_of(images), strict=True):
            drawn.setdefault(name, []).append(image)
    for first, second, *others in drawn.values():
        assert np.array_equal(first, second)
        assert all(np.abs(first - other).mean() < 1 for other in others)


@pytest.mark.parametrize("wrong", [{"recurrence": 0}, {"guides": ()}, {"steps": 0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"at least 1|empty"):
        DirectGuidance.Options(**wrong)


class EnoughError(Exception):
    """Ends a run after its first gradient."""


@pytest.fixture
def first_gradient(layouts, monkeypatch):
    """The gradient of the first step under a number format, of a mean over 520 x 520 pixels."""

    def draw(precision, steps):
        found = []

        def once(*given):
            found.append(differentiate(*given))
            raise EnoughError

        monkeypatch.setattr(module, "differentiate", once)
        compute = Compute(on="cpu", precision=precision)
        options = {"weights": "mini:stable-diffusion", "guides": ("mini:guide",), "guide_size": 520}
        method = DirectGuidance(
            Context(64, None, compute), module.DirectOptions(**options, steps=steps)
        )
        with pytest.raises(EnoughError):
            method.generate([layouts[NAMES[0]]], [5])
        release()
        return found[0].flatten()

    return draw


@pytest.mark.parametrize("steps", [1, 10])
def test_the_gradient_survives_float16_at_the_size_of_the_paper(first_gradient, steps):
    """At timesteps 1 and 901: unscaled, most of a mean over so many pixels becomes zero."""
    half, exact = (first_gradient(precision, steps) for precision in ("float16", "float32"))
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
