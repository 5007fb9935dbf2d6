"""The methods on the miniature diffusion models: batching, seeds, masks, and what each promises."""

import inspect

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from tcig.methods import blended, inpainting, multidiffusion
from tcig.methods.blended import Blended, dilated
from tcig.methods.controlnet import ControlNet
from tcig.methods.draws import gaussian, generators
from tcig.methods.gligen import Gligen
from tcig.methods.inpainting import Inpainting
from tcig.methods.multidiffusion import BACKDROPS, MultiDiffusion, Regions
from tcig.methods.regions import grid_masks, passes
from tcig.methods.t2i_adapter import T2IAdapter
from tcig.methods.text_only import TextOnly
from tcig.models.clip import load_clip
from tcig.models.diffusion import Calls, plan, to_images

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
def spied(monkeypatch):
    """Arguments and result of each call of a module's `sample`, by name, `noises` as a list."""

    def spy(module):
        seen, original = [], module.sample

        def sample(*given):
            names = inspect.signature(original).parameters
            arguments = dict(zip(names, given, strict=True))
            if "noises" in arguments:
                arguments["noises"] = list(arguments["noises"])
            result = original(**arguments)
            seen.append(arguments | {"result": result.clone()})
            return result

        monkeypatch.setattr(module, "sample", sample)
        return seen

    return spy


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


@pytest.mark.parametrize("kind", METHODS)
def test_another_seed_is_another_image(kind, sampler, layouts):
    first, second = pixels_of(sampler(kind).generate([layouts[TWO]] * 2, [1, 2]))
    assert np.abs(first - second).mean() > 3


@pytest.mark.parametrize("kind", [Inpainting, Blended, MultiDiffusion])
def test_a_region_without_a_cell_is_refused_by_name(kind, sampler, layouts, box_layout, refused):
    small = box_layout(128, identity="tiny_7", cat=(0, 64, 0, 64), bus=(0, 2, 0, 2))
    with refused("layout tiny_7: region 2 (bus) vanishes on the latent grid of 16x16"):
        sampler(kind).generate([layouts[TWO], small], [1, 2])


@pytest.mark.parametrize(
    ("bootstrapping", "shared"), [("off", 4), ("paper", 3), ("code", 2), (1, 0)]
)
@pytest.mark.parametrize(("name", "regions", "prompts"), [(TWO, 3, 3), (TWO_BOATS, 4, 3)])
def test_evaluations_of_multidiffusion(
    bootstrapping, shared, name, regions, prompts, sampler, layouts, watched
):
    method = sampler(MultiDiffusion, bootstrapping=bootstrapping)
    with watched(method.model) as inputs:
        method.generate([layouts[name]], [5])
    sizes = [2 * regions] * (4 - shared) + [prompts + 1] * shared
    assert [len(given) for given in inputs] == sizes


def apart(latents, positive, negative):
    """As `plan`, with nothing shared."""
    count = torch.arange(len(latents))
    texts = torch.cat([positive, negative])
    return Calls(latents.repeat(2), texts, count, count + len(latents))


def mixture(method, layouts, steps):
    """Arguments of `multidiffusion.sample` after the schedule."""
    model, regions = method.model, method.regions(layouts)
    latents = normal(len(layouts), 4, 16, 16).to(model.device)
    count = len(regions.sample)
    colours = torch.arange(steps * count).view(steps, count) % BACKDROPS
    return latents, regions, 5.0, method.backdrops(), colours


@pytest.mark.parametrize("steps", [0, 2])
def test_sharing_evaluations_does_not_change_them(steps, sampler, layouts, watched, monkeypatch):
    method = sampler(MultiDiffusion)
    model, given = method.model, mixture(method, [layouts[TWO_BOATS], layouts[TWO]], steps)
    found, sizes = [], []
    for each in (plan, apart):
        monkeypatch.setattr(multidiffusion, "plan", each)
        with watched(model) as inputs:
            found.append(multidiffusion.sample(model, model.schedule(4), *given))
        sizes.append([len(latents) for latents in inputs])
    assert sizes == [[14] * steps + [8] * (4 - steps), [14] * 4]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


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


def test_regions_of_multidiffusion(sampler, box_layout, layouts):
    method = sampler(MultiDiffusion)
    boxes = box_layout(16, cat=(2, 12, 2, 12), bus=(6, 14, 6, 16))
    regions = method.regions([boxes, layouts[TWO_BOATS]])
    assert isinstance(regions, Regions)
    assert regions.sample.tolist() == [0] * 3 + [1] * 4
    assert regions.background.tolist() == [True, False, False, True, False, False, False]
    assert regions.positive.tolist() == [0, 1, 2, 3, 4, 5, 4]
    assert regions.negative.tolist() == [6] * 7
    for layout, mask in ((boxes, regions.masks[:3]), (layouts[TWO_BOATS], regions.masks[3:])):
        foreground = grid_masks(layout, 16).to(mask)
        assert torch.equal(mask[1:], foreground)
        assert torch.equal(mask[0], 1 - foreground.amax(0))


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


@pytest.mark.parametrize("count", [0, 1, 3])
def test_dilations_are_by_growing_squares_the_largest_first(count):
    masks = normal(5, 1, 16, 16) > 2
    found = dilated(masks.float(), count)
    sides = [7, 5, 3][3 - count :]
    for side, each in zip(sides, found, strict=False):
        for mask, grown in zip(masks[:, 0], each[:, 0], strict=True):
            expected = binary_dilation(mask.numpy(), np.ones((side, side)))
            assert np.array_equal(grown.numpy(), expected)
    assert len(found) == count + 1
    assert torch.equal(found[-1], masks.float())


def noised(schedule, source, noise, t):
    alpha = schedule.alphas_cumprod[t].to(source)
    return alpha.sqrt() * source + (1 - alpha).sqrt() * noise


@pytest.fixture
def blend(sampler):
    """Runs `blended.sample` on two random latents; returns what went in and came out."""

    def run(after, steps=4, dilation=0):
        method = sampler(Blended)
        model = method.model
        schedule, place = model.schedule(steps), model.device
        mask = torch.zeros(2, 1, 16, 16, device=place)
        mask[0, :, 4:8, 2:12] = mask[1, :, 3:14, 8:10] = 1
        given = {
            "latents": normal(2, 4, 16, 16).to(place),
            "source": normal(2, 4, 16, 16, seed=1).to(place),
            "masks": dilated(mask, dilation),
            "noises": list(normal(steps, 2, 4, 16, 16, seed=2).to(place)),
        }
        texts, calls = method.prompted(["a cat", "a bus"])
        settings = {"texts": texts, "calls": calls, "guidance": 5.0, "after": after}
        timesteps = schedule.timesteps
        return model, schedule, {"timesteps": timesteps, **given, **settings}

    return run


def outside(mask: Tensor) -> Tensor:
    return (mask == 0).expand(-1, 4, -1, -1)


def test_sd2_leaves_the_source_noised_to_the_last_timestep_outside_the_mask(blend, watched):
    model, schedule, given = blend(after=True)
    with watched(model) as inputs:
        found = blended.sample(model, schedule, **given)
    assert torch.equal(inputs[0][given["calls"].positive], given["latents"])
    t, noise = given["timesteps"][-1], given["noises"][-1]
    kept = noised(schedule, given["source"], noise, t)
    out = outside(given["masks"][-1])
    torch.testing.assert_close(found[out], kept[out], rtol=0, atol=1e-5)
    assert (found - kept)[~out].abs().mean() > 0.1


def test_ldm_denoises_the_source_noised_to_each_timestep_outside_the_mask(blend, watched):
    model, schedule, given = blend(after=False)
    with watched(model) as inputs:
        found = blended.sample(model, schedule, **given)
    out = outside(given["masks"][-1])
    for seen, t, noise in zip(inputs, given["timesteps"], given["noises"], strict=True):
        row = seen[given["calls"].positive]
        kept = noised(schedule, given["source"], noise, t)
        torch.testing.assert_close(row[out], kept[out], rtol=0, atol=1e-5)
        assert (row - kept)[~out].abs().mean() > 0.1
    assert (found - kept)[out].abs().mean() > 1e-3


def test_dilated_masks_take_turns_as_published(blend, watched):
    model, schedule, given = blend(after=False, steps=5, dilation=1)
    with watched(model) as inputs:
        blended.sample(model, schedule, **given)
    first, last = given["masks"]
    steps = zip(inputs, given["timesteps"], given["noises"], strict=True)
    for step, (seen, t, noise) in enumerate(steps):
        row = seen[given["calls"].positive]
        kept = noised(schedule, given["source"], noise, t)
        untouched = ((row - kept).abs() < 1e-5).all(1, keepdim=True)
        assert torch.equal(untouched, (first if step < 3 else last) == 0)


@pytest.mark.parametrize(
    ("variant", "timesteps", "from_noise"),
    [("sd2", [500, 250, 0], True), ("ldm", [751, 501, 251, 1], False)],
)
def test_variants_start_as_published(variant, timesteps, from_noise, sampler, layouts, spied):
    seen, method = spied(blended), sampler(Blended, variant=variant)
    layout = layouts[TWO]
    method.generate([layout], [5])
    assert len(seen) == len(layout.regions)
    first = seen[0]
    assert first["timesteps"].tolist() == timesteps
    draws = generators([5])
    _of_background, noise = (gaussian(draws, (4, 16, 16)) for _ in range(2))
    start = noised(first["schedule"], first["source"], noise, timesteps[0])
    expected = noise if from_noise else start
    torch.testing.assert_close(first["latents"], expected, rtol=0, atol=1e-5)
    assert not torch.allclose(noise, start, atol=0.01)


@pytest.mark.parametrize("handover", ["latent", "pixels"])
def test_each_region_is_blended_into_what_the_last_left(handover, sampler, layouts, spied):
    seen, after = spied(blended), []
    method = sampler(Blended, handover=handover)
    model, layout = method.model, layouts["10"]

    def callback(event, rows=None, latents=None, done=None):
        if event != "progress":
            assert (event, rows) == ("pass", [0])
            after.append(latents.clone())

    (image,) = method.generate([layout], [5], callback)
    order = [painted[0][1] for painted in passes([layout], "large-first")]
    masks = grid_masks(layout, 16)
    background = sampler(TextOnly).generate([layout], [5])
    for number, (call, left) in enumerate(zip(seen, after, strict=True)):
        assert torch.equal(call["masks"][-1].cpu(), masks[[order[number]]])
        assert torch.equal(call["result"], left)
        if number:
            before = after[number - 1]
            expected = model.encode(model.decode(before)) if handover == "pixels" else before
            torch.testing.assert_close(call["source"], expected, rtol=0, atol=1e-5)
        elif handover == "latent":
            found = to_images(model.decode(call["source"]))
            assert np.abs(pixels_of(found) - pixels_of(background)).max() <= 1
        t, noise = call["timesteps"][-1], call["noises"][-1]
        out = outside(call["masks"][-1])
        kept = noised(call["schedule"], call["source"], noise, t)
        torch.testing.assert_close(left[out], kept[out], rtol=0, atol=1e-5)
    assert np.array_equal(pixels_of([image]), pixels_of(to_images(model.decode(after[-1]))))


def test_of_candidates_the_one_nearest_its_prompt_is_kept(sampler, layouts, spied):
    seen, after, picks = spied(blended), [], []
    method = sampler(Blended, candidates=2, clip="mini:clip")
    batch = [layouts[n] for n in BATCH]
    method.generate(
        batch,
        list(BATCH.values()),
        lambda event, rows=(), latents=None, **_: (
            after.append(latents[rows].clone()) if event == "pass" else None
        ),
    )
    clip = load_clip("mini:clip")
    assert method.weights["clip"] == clip.identity
    for call, kept, painted in zip(seen, after, passes(batch, "large-first"), strict=True):
        images = method.model.decode(call["result"]).cpu().unflatten(0, (-1, 2))
        for row, (number, region) in enumerate(painted):
            mask = grid_masks(batch[number], 16)[region].repeat_interleave(4, 1)
            hole = mask.repeat_interleave(4, 2)
            vectors = clip.encode_images((images[row] + 1) / 2 * hole)
            text = clip.encode_texts([batch[number].regions[region].prompt])
            best = (vectors @ text.T).argmax().item()
            assert torch.equal(kept[row], call["result"].unflatten(0, (-1, 2))[row, best])
            picks.append(best)
    assert set(picks) == {0, 1}


def test_without_candidates_no_clip_is_loaded(sampler):
    assert list(sampler(Blended, clip="mini:clip").weights) == ["diffusion"]


@pytest.mark.parametrize("handover", ["latent", "pixels", "pasted"])
def test_what_a_pass_of_inpainting_leaves_outside_the_masks(handover, sampler, layouts, spied):
    seen, method = spied(inpainting), sampler(Inpainting, handover=handover)
    layout = layouts[TWO]
    found = pixels_of(method.generate([layout], [5]))[0]
    assert len(seen) == 1 + len(layout.regions)
    decoded = [pixels_of(to_images(method.model.decode(call["result"])))[0] for call in seen]
    masks = np.kron(grid_masks(layout, 16).amax((0, 1)).numpy(), np.ones((4, 4))) > 0
    change = np.abs(found - decoded[0]).max(2)
    if handover == "pasted":
        assert change[~masks].max() == 0
        assert np.abs(found - decoded[-1]).max(2)[~masks].mean() > 1
    else:
        assert change[~masks].mean() > 1
        assert np.array_equal(found, decoded[-1])
    assert change[masks].mean() > 1


@pytest.mark.parametrize("handover", ["latent", "pixels"])
def test_inpainting_sees_the_last_pass_blanked_in_the_mask(
    handover, sampler, layouts, spied, watched
):
    seen, method = spied(inpainting), sampler(Inpainting, handover=handover)
    model, layout = method.model, layouts["10"]
    with watched(model) as inputs:
        method.generate([layout], [5])
    for step, given in enumerate(inputs):
        call = seen[step // 4]
        for row in given:
            assert torch.equal(row[4:], torch.cat([call["mask"], call["masked"]], 1)[0])
    blank = model.encode(torch.zeros(1, 3, 64, 64))
    assert torch.equal(seen[0]["mask"], torch.ones_like(seen[0]["mask"]))
    assert torch.equal(seen[0]["masked"], blank)
    order = [painted[0][1] for painted in passes([layout], "large-first")]
    for number, region in enumerate(order, start=1):
        mask = grid_masks(layout, 16)[[region]].to(model.device)
        assert torch.equal(seen[number]["mask"], mask)
        before = seen[number - 1]["result"]
        if handover == "latent":
            expected = torch.where(mask.bool(), blank, before)
        else:
            hole = mask.repeat_interleave(4, 2).repeat_interleave(4, 3)
            expected = model.encode(model.decode(before).masked_fill(hole.bool(), 0))
        torch.testing.assert_close(seen[number]["masked"], expected, rtol=0, atol=1e-5)


def test_inpainting_needs_nine_channels(sampler, refused):
    with refused("takes 4 channels, 9 are needed: give an inpainting model"):
        sampler(Inpainting, weights="mini:stable-diffusion")
