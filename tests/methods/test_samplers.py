"""The methods on the miniature diffusion models: batching, seeds, masks, and what each promises."""

import inspect

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from tcig.methods import blended, multidiffusion
from tcig.methods.base import gaussian, generators
from tcig.methods.blended import Blended, dilated
from tcig.methods.control import ControlNet, T2IAdapter
from tcig.methods.gligen import Gligen
from tcig.methods.inpainting import Inpainting
from tcig.methods.multidiffusion import BACKDROPS, MultiDiffusion
from tcig.methods.regions import grid_masks, painting_order, passes
from tcig.methods.sampling import TextOnly
from tcig.models.clip import load_clip
from tcig.models.diffusion import plan, to_images

METHODS = [TextOnly, Inpainting, Blended, MultiDiffusion, ControlNet, T2IAdapter, Gligen]
BATCH = {"9": 5, "7": 6, "10": 7}
"""Layouts of 2, 4 and 3 regions, and seeds."""
TWO, TWO_BOATS = "9", "3"
"""A layout of two regions, and one of three, two of which are boats."""


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def pixels_of(images):
    return np.stack([np.asarray(image) for image in images]).astype(int)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def blends(monkeypatch):
    """Arguments and result of each call of `blended.sample`, by name, `noises` as a list."""
    calls, original = [], blended.sample

    def sample(*args, **kwargs):
        arguments = inspect.signature(original).bind(*args, **kwargs).arguments
        arguments["noises"] = list(arguments["noises"])
        result = original(**arguments)
        calls.append(arguments | {"result": result.clone()})
        return result

    monkeypatch.setattr(blended, "sample", sample)
    return calls


@pytest.mark.parametrize("kind", METHODS)
def test_a_layout_is_drawn_alike_whatever_stands_beside_it(kind, sampler, layouts):
    method = sampler(kind)
    drawn = {}
    for names in (["9", "7", "10"], ["9", "7", "10"], ["10", "9", "7"], ["9"]):
        images = method.generate([layouts[n] for n in names], [BATCH[n] for n in names])
        for name, image in zip(names, pixels_of(images), strict=True):
            drawn.setdefault(name, []).append(image)
    for first, second, *others in drawn.values():
        assert first.shape == (64, 64, 3)
        assert np.array_equal(first, second)
        # Kernels sum in another order at another batch size: float32, magnified by guidance.
        for other in others:
            assert np.abs(first - other).max() <= 2
    assert len(drawn["9"]) == 4
    (other,) = pixels_of(method.generate([layouts["9"]], [99]))
    assert np.abs(other - drawn["9"][0]).mean() > 3, "another seed is another image"


@pytest.mark.parametrize("kind", [Inpainting, Blended, MultiDiffusion])
def test_a_region_without_a_cell_is_refused_by_name(kind, sampler, layouts, box_layout, refused):
    small = box_layout(128, identity="tiny_7", cat=(0, 64, 0, 64), bus=(0, 2, 0, 2))
    with refused("layout tiny_7: region 2 (bus) vanishes on the latent grid of 16x16"):
        sampler(kind).generate([layouts[TWO], small], [1, 2])


def mixture(method, layouts, steps):
    """Arguments of `multidiffusion.sample` after the schedule."""
    model, regions = method.model, method.regions(layouts)
    latents = normal(len(layouts), 4, 16, 16).to(model.device)
    count = len(regions.sample)
    colours = torch.arange(steps * count).view(steps, count) % BACKDROPS
    return latents, regions, 5.0, method.backdrops(), colours


def test_a_step_is_the_mean_of_the_regions_steps_where_they_lie(sampler, box_layout):
    method = sampler(MultiDiffusion)
    layout = box_layout(16, cat=(2, 12, 2, 12), bus=(6, 14, 6, 16))
    model, schedule = method.model, method.model.schedule(4)
    latents, regions, scale, backdrops, colours = mixture(method, [layout], 2)
    steps = []
    found = multidiffusion.sample(
        model,
        schedule,
        latents,
        regions,
        scale,
        backdrops,
        colours,
        lambda event, step, latents: steps.append((event, step, latents)),
    )
    cat, bus = grid_masks(layout, 16)[:, 0].to(model.device)
    masks = [(1 - cat) * (1 - bus), cat, bus]
    prompts = [layout.caption, "a cat", "a bus"]
    current = latents
    for step, t in enumerate(schedule.timesteps):
        total = torch.zeros_like(latents)
        for number, (mask, prompt) in enumerate(zip(masks, prompts, strict=True)):
            view = current
            if step < 2 and number:
                alpha = schedule.alphas_cumprod[t]
                backdrop = backdrops[colours[step, number]][None]
                noised = alpha.sqrt() * backdrop + (1 - alpha).sqrt() * latents
                view = torch.where(mask.bool(), current, noised)
            texts, rows = model.encode_prompts([prompt, ""])
            noise = model.guided(view, t, texts, plan(torch.tensor([0]), *rows[:, None]), scale)
            total += mask * schedule.step(noise, t, view).prev_sample
        current = total / sum(masks)
        assert steps[step][:2] == ("step", step)
        torch.testing.assert_close(steps[step][2], current, rtol=1e-4, atol=1e-4)
    assert torch.equal(found, steps[-1][2])


def test_backdrops_are_constant_colours_encoded_once(sampler):
    method = sampler(MultiDiffusion)
    found = method.backdrops()
    assert found.shape == (BACKDROPS, 4, 16, 16)
    assert method.backdrops() is found
    assert torch.equal(sampler(MultiDiffusion).backdrops(), found)
    images = method.model.decode(found)
    within, between = images.std((2, 3)).mean(), images.mean((2, 3)).std(0).mean()
    assert between > 5 * within
    assert images.mean((2, 3)).aminmax().min < -0.5
    assert images.mean((2, 3)).aminmax().max > 0.5


def test_dilations_are_by_growing_squares_the_largest_first():
    masks = normal(5, 1, 16, 16) > 2
    found = dilated(masks.float(), 3)
    for side, each in zip([7, 5, 3], found, strict=False):
        for mask, grown in zip(masks[:, 0], each[:, 0], strict=True):
            expected = binary_dilation(mask.numpy(), np.ones((side, side)))
            assert np.array_equal(grown.numpy(), expected)
    assert len(found) == 4
    assert torch.equal(found[-1], masks.float())
    assert len(dilated(masks.float(), 0)) == 1


def noised(schedule, source, noise, t):
    alpha = schedule.alphas_cumprod[t].to(source)
    return alpha.sqrt() * source + (1 - alpha).sqrt() * noise


@pytest.mark.parametrize(("dilation", "turns"), [(0, [0] * 5), (1, [0, 0, 0, 1, 1])])
def test_ldm_denoises_the_noised_source_outside_masks_that_take_turns(dilation, turns, sampler):
    """The largest dilation comes first, as published."""
    method, seen = sampler(Blended), []
    schedule, device = method.model.schedule(len(turns)), method.model.device
    mask = torch.zeros(2, 1, 16, 16, device=device)
    mask[0, :, 4:8, 2:12] = mask[1, :, 3:14, 8:10] = 1
    masks = dilated(mask, dilation)
    latents, source = (normal(2, 4, 16, 16, seed=seed).to(device) for seed in (0, 1))
    noises = list(normal(len(turns), 2, 4, 16, 16, seed=2).to(device))
    predictor = method.predictor(["a cat", "a bus"])

    def predict(latents, t):
        seen.append(latents)
        return predictor(latents, t)

    times = schedule.timesteps
    found = blended.sample(
        predict, schedule, times, latents, source, masks, noises=noises, after=False
    )
    sources = [noised(schedule, source, x, t) for t, x in zip(times, noises, strict=True)]
    for inputs, expected, turn in zip(seen, sources, turns, strict=True):
        untouched = ((inputs - expected).abs() < 1e-5).all(1, keepdim=True)
        assert torch.equal(untouched, masks[turn] == 0)
    outside = (masks[-1] == 0).expand(-1, 4, -1, -1)
    assert (found - sources[-1])[outside].abs().mean() > 1e-3


@pytest.mark.parametrize(
    ("variant", "timesteps", "from_noise"),
    [("sd2", [500, 250, 0], True), ("ldm", [751, 501, 251, 1], False)],
)
def test_variants_start_as_published(variant, timesteps, from_noise, sampler, layouts, blends):
    sampler(Blended, variant=variant).generate([layouts[TWO]], [5])
    first = blends[0]
    assert first["timesteps"].tolist() == timesteps
    draws = generators([5])
    _of_background, noise = (gaussian(draws, (4, 16, 16)) for _ in range(2))
    start = noised(first["schedule"], first["source"], noise, timesteps[0])
    expected = noise if from_noise else start
    torch.testing.assert_close(first["latents"], expected, rtol=0, atol=1e-5)
    assert not torch.allclose(noise, start, atol=0.01)


@pytest.mark.parametrize("handover", ["latent", "pixels"])
def test_each_region_is_blended_into_what_the_last_left(handover, sampler, layouts, blends):
    method, layout = sampler(Blended, handover=handover), layouts["10"]
    model = method.model
    (image,) = method.generate([layout], [5])
    order = painting_order(layout, "large-first")
    masks = grid_masks(layout, 16)
    for number, call in enumerate(blends):
        assert torch.equal(call["masks"][-1].cpu(), masks[[order[number]]])
        if number:
            before = blends[number - 1]["result"]
            expected = model.encode(model.decode(before)) if handover == "pixels" else before
            torch.testing.assert_close(call["source"], expected, rtol=0, atol=1e-5)
        elif handover == "latent":
            background = pixels_of(sampler(TextOnly).generate([layout], [5]))
            start = pixels_of(to_images(model.decode(call["source"])))
            assert np.abs(start - background).max() <= 1
    last = to_images(model.decode(blends[-1]["result"]))
    assert np.array_equal(pixels_of([image]), pixels_of(last))


def test_of_candidates_the_one_nearest_its_prompt_is_kept(sampler, layouts, blends):
    method = sampler(Blended, candidates=2, clip="mini:clip")
    batch, kept, picks = [layouts[name] for name in BATCH], [], []

    paint = method._paint
    method._paint = lambda *given: kept.append(paint(*given)) or kept[-1]
    method.generate(batch, list(BATCH.values()))
    clip = load_clip("mini:clip")
    assert method.weights["clip"] == clip.identity
    regions = passes(batch, "large-first", 16)
    for call, chosen, (_, masks, prompts) in zip(blends, kept, regions, strict=True):
        candidates = call["result"].unflatten(0, (-1, 2))
        images = method.model.decode(call["result"]).cpu().unflatten(0, (-1, 2))
        holes = masks.repeat_interleave(4, 2).repeat_interleave(4, 3)
        for row, (hole, text) in enumerate(zip(holes, clip.encode_texts(prompts), strict=True)):
            vectors = clip.encode_images((images[row] + 1) / 2 * hole)
            picks.append((vectors @ text).argmax().item())
            assert torch.equal(chosen[row], candidates[row, picks[-1]])
    assert set(picks) == {0, 1}
    assert list(sampler(Blended, clip="mini:clip").weights) == ["diffusion"]


@pytest.fixture
def inpainted(sampler, layouts, watched):
    """For a way of handing over: the method, the layout, its image, the UNet's inputs in each pass,
    and each pass's latents."""

    def run(handover, name):
        method, passed = sampler(Inpainting, handover=handover), []
        sample = method.text_to_image

        def recorded(*args, **kwargs):
            passed.append(sample(*args, **kwargs))
            return passed[-1].clone()

        method.text_to_image = recorded
        with watched(method.model) as inputs:
            (image,) = method.generate([layouts[name]], [5])
        passes = [inputs[n : n + 4] for n in range(0, len(inputs), 4)]
        return method, layouts[name], pixels_of([image])[0], passes, passed

    return run


@pytest.mark.parametrize("handover", ["latent", "pixels", "pasted"])
def test_what_a_pass_of_inpainting_leaves_outside_the_masks(handover, inpainted):
    method, layout, image, _, passed = inpainted(handover, TWO)
    assert len(passed) == 1 + len(layout.regions)
    decoded = [pixels_of(to_images(method.model.decode(latents)))[0] for latents in passed]
    masks = np.kron(grid_masks(layout, 16).amax((0, 1)).numpy(), np.ones((4, 4))) > 0
    change = np.abs(image - decoded[0]).max(2)
    if handover == "pasted":
        assert change[~masks].max() == 0
        assert np.abs(image - decoded[-1]).max(2)[~masks].mean() > 1
    else:
        assert change[~masks].mean() > 1
        assert np.array_equal(image, decoded[-1])
    assert change[masks].mean() > 1


@pytest.mark.parametrize("handover", ["latent", "pixels"])
def test_inpainting_sees_the_last_pass_blanked_in_the_mask(handover, inpainted):
    method, layout, _, seen, passed = inpainted(handover, "10")
    model = method.model
    blank = model.encode(torch.zeros(1, 3, 64, 64))
    order = painting_order(layout, "large-first")
    masks = [torch.ones(1, 1, 16, 16), *(grid_masks(layout, 16)[[region]] for region in order)]
    for number, (mask, inputs) in enumerate(zip(masks, seen, strict=True)):
        mask = mask.to(model.device)
        if number == 0:
            expected = blank
        elif handover == "latent":
            expected = torch.where(mask.bool(), blank, passed[number - 1])
        else:
            hole = mask.repeat_interleave(4, 2).repeat_interleave(4, 3)
            expected = model.encode(model.decode(passed[number - 1]).masked_fill(hole.bool(), 0))
        for step in inputs:
            for row in step:
                assert torch.equal(row[4:5], mask[0])
                torch.testing.assert_close(row[5:], expected[0], rtol=0, atol=1e-5)
