"""Stage 1: Equation 2, where it starts, its learning rates, and gradients that break."""

import numpy as np
import pytest
import torch
from PIL import Image

from tcig.methods.base import generators
from tcig.methods.guides import prepare_guides, summed_loss
from tcig.methods.two_stage.stage1 import (
    Stage1,
    Stage1Options,
    _ClampPixels,
    learning_rates,
    optimise,
    spherical_distance,
    start_latents,
)
from tcig.models.clip import load_clip
from tcig.models.devices import Compute
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import locate


@pytest.fixture(scope="module")
def vqgan():
    return load_vqgan(locate("mini:vqgan"))


@pytest.fixture(scope="module")
def clip():
    return load_clip("mini:clip")


@pytest.fixture
def layouts(box_layout):
    return [
        box_layout(64, "a cat and a bus", "1", cat=(8, 40, 4, 30), bus=(20, 60, 34, 62)),
        box_layout(64, "a dog on the snow", "2", dog=(10, 50, 10, 50)),
    ]


def options(**changes):
    shared = {"vqgan": "mini:vqgan", "clip": "mini:clip", "guides": ("mini:guide",)}
    return Stage1Options(**shared | {"iterations": 3, "cutouts": 2, "guide_size": 64} | changes)


def test_the_loss_is_equation_2(vqgan, clip, layouts):
    """CLIP's term against a cutout that is the image, the guide's against Equation 1."""
    settings = options(clip_weight=3.0, guide_weight=7.0, cutouts=1, augmentations=())
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    terms = Stage1(settings, vqgan, clip, 64).losses(layouts, generators([1, 2]))(images, 0)
    texts = clip.encode_texts([layout.caption for layout in layouts])
    distances = spherical_distance(clip.encode_images(images), texts)
    assert terms["clip"].allclose(3 * distances, rtol=1e-3)
    losses, _ = summed_loss(prepare_guides(settings, layouts), images, settings)
    assert terms["guide"].allclose(7 * losses)
    assert list(terms) == ["clip", "guide"]
    alone = options(clip_weight=0.0)
    terms = Stage1(alone, vqgan, None, 64).losses(layouts, generators([1, 2]))(images, 0)
    assert list(terms) == ["guide"]


def test_starts(vqgan):
    rngs = generators([0, 1])
    codes = start_latents(vqgan, "codes", 64, rngs)
    assert codes.shape == (2, 8, 16, 16)
    assert (torch.cdist(codes.movedim(1, -1).reshape(-1, 8), vqgan.codebook).amin(1) < 1e-4).all()
    grey = start_latents(vqgan, "grey", 64, rngs)
    assert torch.equal(grey[0], grey[1])
    assert grey[:1].allclose(vqgan.quantise(vqgan.encode(torch.zeros(1, 3, 64, 64))), atol=1e-5)
    pixels = start_latents(vqgan, "pixels", 64, rngs)
    assert not pixels[0].allclose(pixels[1])


def test_an_image_to_start_from_stays_without_iterations(vqgan, layouts, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    start = Image.fromarray(pixels).resize((64, 64))
    start.save(tmp_path / "start.png")
    settings = options(iterations=0, start=str(tmp_path / "start.png"), clip_weight=0.0)
    images = Stage1(settings, vqgan, None, 64)(layouts[:1], generators([0]))
    tensor = torch.from_numpy(np.array(start)).movedim(-1, 0)[None] / 127.5 - 1
    assert images.allclose(((vqgan(tensor) + 1) / 2).clamp(0, 1), atol=1e-5)


def test_rates_are_constant_or_fall_after_sixty_percent():
    assert learning_rates(Stage1Options(iterations=4, rate=0.2)) == [0.2] * 4
    falling = learning_rates(Stage1Options(iterations=11, rate=0.3, final_rate=1 / 3))
    assert falling[:7] == pytest.approx([0.3] * 7)
    assert falling[8] == pytest.approx(0.3 - 0.2 * 1.4 / 3.4)
    assert falling[10] == pytest.approx(0.1)
    assert learning_rates(Stage1Options(iterations=0)) == []


def test_losses_fall_and_the_guide_finds_the_objects(vqgan, clip, layouts):
    events = {"iteration": [], "guide": []}
    stage = Stage1(options(iterations=25, rate=0.2, guide_weight=20.0), vqgan, clip, 64)
    stage(layouts, generators([1, 2]), lambda event, **values: events[event].append(values))
    assert len(events["guide"]) == 25
    first, last = events["iteration"][0]["losses"], events["iteration"][-2]["losses"]
    for name in ("clip", "guide"):
        assert first[name].shape == (2,)
        assert last[name].mean() < first[name].mean()
    assert events["guide"][-1]["iou"].mean() > events["guide"][0]["iou"].mean() + 0.2
    assert events["iteration"][-1]["losses"] == {}


def test_a_clamped_pixel_passes_only_the_gradient_that_brings_it_back():
    pixels = torch.tensor([-0.5, -0.5, 0.5, 1.5, 1.5], requires_grad=True)
    weights = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    clamped = _ClampPixels.apply(pixels)
    (clamped * weights).sum().backward()
    assert clamped.tolist() == [0, 0, 0.5, 1, 1]
    assert pixels.grad.tolist() == [0, -1, 1, 1, 0]


@pytest.mark.parametrize(
    ("value", "rate"), [(float("nan"), 0.1), (float("inf"), 0.1), (0.0, 0.1), (1.0, float("nan"))]
)
def test_a_sample_that_is_not_optimised_is_an_error_with_its_iteration(vqgan, value, rate):
    """Zero too: it would be an unguided image."""

    def losses(images, iteration):
        factor = torch.tensor([1.0, value if iteration == 2 else 1.0])
        return {"loss": images.square().mean((1, 2, 3)) * factor}

    latents = start_latents(vqgan, "codes", 64, generators([0, 1]))
    with pytest.raises(FloatingPointError, match="iteration 2"):
        optimise(vqgan, latents, losses, [0.1, 0.1, rate, 0.1])


@pytest.fixture
def first_gradient(vqgan, clip, layouts, monkeypatch):
    """The latents' gradient in the first iteration, the guide's loss over 520 x 520 pixels."""

    def gradient(precision):
        gradients, step = [], torch.optim.Adam.step

        def spy(self):
            gradients.append(self.param_groups[0]["params"][0].grad.flatten().clone())
            return step(self)

        monkeypatch.setattr(torch.optim.Adam, "step", spy)
        compute = Compute(on="cpu", precision=precision)
        stage = Stage1(options(iterations=1, guide_size=520), vqgan, clip, 64, compute)
        stage(layouts[:1], generators([1]))
        return gradients[0]

    return gradient


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_gradient_survives_half_precision_at_the_size_of_the_paper(first_gradient, precision):
    """As in direct guidance; beside float16 stage 1 stays in float32."""
    half, exact = first_gradient(precision), first_gradient("float32")
    assert torch.cosine_similarity(half, exact, dim=0) >= 0.99
    assert half.norm() / exact.norm() == pytest.approx(1, abs=0.02)
