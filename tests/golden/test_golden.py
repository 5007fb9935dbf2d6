"""Our samplers against what the published implementations computed; see README.md here."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from tcig.methods import multidiffusion
from tcig.methods.inpainting import VARIANTS, blend
from tcig.methods.multidiffusion import Regions
from tcig.methods.two_stage import stage1
from tcig.methods.two_stage.cutouts import Augmentations, augment, color_jitter, erase
from tcig.methods.two_stage.stage1 import optimise, spherical_distance, synthesise
from tcig.methods.views import warp
from tcig.models.clip import load_clip
from tcig.models.diffusion import load_diffusion, plan
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import locate

TOLERANCE = 1e-4
PROMPTS = ["a cat, a bus and a dog on a green field", "a cat", "a bus", "a dog"]


def golden(name):
    return load_file(Path(__file__).parent / f"{name}.safetensors")


@pytest.fixture(scope="module")
def model():
    return load_diffusion("mini:stable-diffusion")


def difference(a, b):
    return (a - b).abs().max().item()


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "negatives"),
    [
        ("boot0", [""] * 4),
        ("boot2", [""] * 4),
        ("boot4", [""] * 4),
        ("negative", ["a boat", "a car", "a car", "a car"]),
    ],
)
def test_multidiffusion(model, name, negatives):
    stored = golden(f"multidiffusion_{name}")
    texts, rows = model.encode_prompts(PROMPTS + negatives)
    background = torch.tensor([True, False, False, False])
    regions = Regions(
        stored["masks"], torch.zeros(4, dtype=torch.long), background, texts, rows[:4], rows[4:]
    )
    backdrops = stored.get("backgrounds", stored["initial"][:0])
    drawn = stored.get("indices", torch.zeros(0, 3, dtype=torch.long))
    colours = F.pad(drawn, (1, 0))
    steps = list(
        multidiffusion.sample(
            model, model.schedule(10), stored["initial"], regions, 7.5, backdrops, colours
        )
    )
    assert model.schedule(10).timesteps.tolist() == stored["timesteps"].tolist()
    for latents, expected in zip(steps, stored["latents"], strict=True):
        assert difference(latents[0], expected) < TOLERANCE
    assert difference(steps[-1], stored["final"]) < TOLERANCE


@torch.inference_mode()
def test_blended_latent_diffusion(model):
    stored = golden("blended_latent_diffusion")
    image = stored["image"].movedim(-1, 0)[None] / 127.5 - 1
    assert difference(model.encode(image), stored["source"]) < TOLERANCE
    variant = VARIANTS["sd2"]
    schedule = model.schedule(10, **variant.schedule)
    timesteps = schedule.timesteps[int(10 * variant.skip) :]
    assert timesteps.tolist() == stored["timesteps"].tolist()
    texts, rows = model.encode_prompts(["a cat", "a bus", ""])
    calls = plan(torch.arange(2), rows[:2], rows[2:].expand(2))
    *_, latents = blend(
        lambda latents, t: model.guided(latents, t, texts, calls, 7.5),
        schedule,
        timesteps,
        stored["initial"],
        stored["source"].expand(2, -1, -1, -1),
        [stored["latent_mask"]],
        stored["noise"],
        variant.after,
    )
    assert difference(latents, stored["final"]) < TOLERANCE


@pytest.fixture(scope="module")
def published_loop():
    """VQGAN, start, and the loss of images at each iteration, by the recorded noise."""
    stored = golden("vqgan_clip_loop")
    noises = torch.cat([golden(f"vqgan_clip_noise_{n}")["noises"] for n in (0, 1)])
    vqgan, clip = load_vqgan(locate("mini:vqgan")), load_clip("mini:clip")
    start = vqgan.codebook[stored["start_indices"].view(1, 16, 16)].movedim(-1, 1)
    text = clip.encode_texts(["a cat and a bus"])
    assert difference(text, F.normalize(stored["embed"], dim=-1)) < TOLERANCE

    def loss(images, iteration):
        noise = stored["facs"][iteration] * noises[iteration]
        cutouts = augment(images, Augmentations(None, None, None, noise), clip.size, "pooled")
        views = clip.encode_images(cutouts)
        return spherical_distance(views, text).mean()[None]

    return stored, vqgan, start, loss


def test_vqgan_clip_loop(published_loop, threads):
    """Adam enlarges a jump of a ReLU's gradient, so that rounding alone may part the two."""
    threads(1)  # as the recordings were made
    stored, vqgan, start, loss = published_loop
    seen, found = [], []

    def watch(event, iteration, latents, losses, **_):
        seen.append(latents)
        found.extend(loss.item() for loss in losses.values())

    optimise(vqgan, start, lambda *given: {"clip": loss(*given)}, [0.1] * 6, watch)
    exact = abs(found[0] - stored["loss"][0].item()) < 2e-6  # as on the recording's processor
    assert found == pytest.approx(stored["loss"].tolist(), abs=1e-5 if exact else 5e-3)
    for latents, expected in zip(seen[1:], stored["z"], strict=True):
        assert difference(latents, expected) < (TOLERANCE if exact else 0.5)


def test_vqgan_clip_losses_and_gradients_one_by_one(published_loop):
    stored, vqgan, start, loss = published_loop
    for iteration, latents in enumerate([start, *stored["z"][:-1]]):
        latents = latents.clone().requires_grad_()
        found = loss(synthesise(vqgan, latents), iteration)
        assert found.item() == pytest.approx(stored["loss"][iteration].item(), abs=1e-4)
        found.sum().backward()
        expected = stored["grad"][iteration]
        assert (latents.grad - expected).norm() < 0.02 * expected.norm()


def test_vqgan_clip_steps_by_the_published_gradients(published_loop, monkeypatch):
    stored, vqgan, start, _ = published_loop
    monkeypatch.setattr(stage1, "synthesise", lambda vqgan, latents, compute: latents)
    seen = []

    def given(latents, iteration):
        return {"given": (latents * stored["grad"][iteration]).sum((1, 2, 3))}

    optimise(
        vqgan,
        start,
        given,
        [0.1] * 6,
        lambda event, latents, **_: seen.append(latents),
    )
    for latents, expected in zip(seen[1:], stored["z"], strict=True):
        assert difference(latents, expected) < 1e-5


def test_pooling():
    stored = golden("vqgan_clip_pooling")
    silent = Augmentations(None, None, None, torch.zeros(1, 3, 64, 64))
    views = augment(stored["image"], silent, 64, "pooled")
    assert difference(views, stored["pooled"]) < 1e-6


def test_distance():
    stored = golden("vqgan_clip_distance")
    a, b = F.normalize(stored["input"], dim=-1), F.normalize(stored["embed"], dim=-1)
    assert difference(spherical_distance(a, b), stored["distance"]) < 1e-6
    pairs = spherical_distance(a[:, None], b[None])
    assert pairs.mean().item() == pytest.approx(stored["mean"].item(), abs=1e-6)


@pytest.mark.parametrize(("name", "spread"), [("affine", 1.0), ("perspective", 64 / 63)])
def test_a_warp_by_kornias_matrix(name, spread):
    """Its perspective reads the image at 64/63 of the distance from the centre; ours does not."""
    stored = golden(f"vqgan_clip_{name}")
    image = golden("vqgan_clip_image")["image"]
    pixels = torch.tensor([[2 / 63, 0, -1], [0, 2 / 63, -1], [0, 0, 1]], dtype=torch.float64)
    forward = pixels @ stored["transform"].double() @ torch.linalg.inv(pixels)
    places = torch.linalg.inv(forward) @ torch.diag(torch.tensor([spread, spread, 1.0]).double())
    views = warp(image, places.float()[None], 64)
    chosen = stored["applied"].bool()
    assert chosen.sum() == 4
    assert difference(views[chosen], stored["output"][chosen]) < TOLERANCE


def test_erasing():
    stored = golden("vqgan_clip_erasing")
    x, y, width, height = stored["boxes"][0].tolist()
    box = torch.tensor([[x, y, x + width, y + height]])
    found = erase(golden("vqgan_clip_image")["image"], box)
    assert torch.equal(found, stored["output"])


def test_colours():
    stored = golden("vqgan_clip_jitter")
    assert stored["order"].tolist() == [0, 1, 2, 3]
    image = golden("vqgan_clip_image")["image"]
    names = ("brightness", "contrast", "saturation", "hue")
    factors = torch.stack([stored[name] for name in names], 1)
    views = color_jitter(image.expand(6, -1, -1, -1), factors)
    assert difference(views, stored["output"]) < TOLERANCE
