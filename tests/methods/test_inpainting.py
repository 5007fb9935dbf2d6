"""Stable Inpainting and Blended Latent Diffusion: what each pass paints, sees and leaves."""

import inspect

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from tcig.methods import inpainting
from tcig.methods.base import gaussian, generators
from tcig.methods.inpainting import Blended, Inpainting, blend, dilated, painting_order, passes
from tcig.methods.sampling import TextOnly, grid_masks
from tcig.models.clip import load_clip
from tcig.models.diffusion import to_images

BATCH = {"9": 5, "7": 6, "10": 7}
"""Layouts of 2, 4 and 3 regions, and seeds."""


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
    """Arguments and result of each call of `blend`, by name, `noises` as a list."""
    calls = []

    def recorded(*args, **kwargs):
        arguments = inspect.signature(blend).bind(*args, **kwargs).arguments
        arguments["noises"] = list(arguments["noises"])
        *_, result = blend(**arguments)
        calls.append(arguments | {"result": result.clone()})
        yield result

    monkeypatch.setattr(inpainting, "blend", recorded)
    return calls


@pytest.mark.parametrize("order", ["large-first", "small-first", "given"])
def test_passes_paint_every_region_once_in_order_one_of_a_layout_at_a_time(order, layouts):
    some = [layouts[name] for name in BATCH]
    found = passes(some, Blended.Options(order=order), 16)
    assert [rows for rows, _, _ in found] == [[0, 1, 2], [0, 1, 2], [1, 2], [1]]
    for number, layout in enumerate(some):
        own = [(rows.index(number), *rest) for rows, *rest in found if number in rows]
        turns, masks = painting_order(layout, order), grid_masks(layout, 16)
        areas = [int(layout.regions[turn].pixels.sum()) for turn in turns]
        expected = {"large-first": sorted(areas)[::-1], "small-first": sorted(areas)}
        assert areas == expected.get(order, areas)
        assert order != "given" or turns == sorted(turns)
        for region, (row, mask, prompts) in zip(turns, own, strict=True):
            assert torch.equal(mask[row], masks[region])
            assert prompts[row] == layout.regions[region].prompt


def test_dilations_are_by_growing_squares_the_largest_first():
    masks = normal(5, 1, 16, 16) > 2
    found = dilated(masks.float(), 3)
    for side, each in zip([7, 5, 3, 1], found, strict=True):
        for mask, grown in zip(masks[:, 0], each[:, 0], strict=True):
            expected = binary_dilation(mask.numpy(), np.ones((side, side)))
            assert np.array_equal(grown.numpy(), expected)
    assert len(dilated(masks.float(), 0)) == 1


def noised(schedule, source, noise, t):
    alpha = schedule.alphas_cumprod[t].to(source)
    return alpha.sqrt() * source + (1 - alpha).sqrt() * noise


@pytest.mark.parametrize(("dilation", "turns"), [(0, [0] * 5), (1, [0, 0, 0, 1, 1])])
def test_ldm_denoises_the_noised_source_outside_masks_that_take_turns(dilation, turns, sampler):
    """The largest dilation comes first, as published."""
    method, seen = sampler(Blended), []
    schedule = method.model.schedule(len(turns))
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, 4:8, 2:12] = mask[1, :, 3:14, 8:10] = 1
    masks = dilated(mask, dilation)
    latents, source = (normal(2, 4, 16, 16, seed=seed) for seed in (0, 1))
    noises = list(normal(len(turns), 2, 4, 16, 16, seed=2))
    predictor = method.predictor(["a cat", "a bus"])

    def predict(latents, t):
        seen.append(latents)
        return predictor(latents, t)

    times = schedule.timesteps
    *_, found = blend(predict, schedule, times, latents, source, masks, noises, after=False)
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
    sampler(Blended, variant=variant).generate([layouts["9"]], [5])
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
    for number, call in enumerate(blends):
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
    regions = passes(batch, method.options, 16)
    for call, chosen, (_, masks, prompts) in zip(blends, kept, regions, strict=True):
        candidates = call["result"].unflatten(0, (-1, 2))
        images = method.model.decode(call["result"]).unflatten(0, (-1, 2))
        holes = masks.repeat_interleave(4, 2).repeat_interleave(4, 3)
        for row, (hole, text) in enumerate(zip(holes, clip.encode_texts(prompts), strict=True)):
            vectors = clip.encode_images((images[row] + 1) / 2 * hole)
            picks.append((vectors @ text).argmax().item())
            assert torch.equal(chosen[row], candidates[row, picks[-1]])
    assert set(picks) == {0, 1}
    assert list(sampler(Blended, clip="mini:clip").weights) == ["diffusion"]


@pytest.mark.parametrize("handover", ["latent", "pixels", "pasted"])
def test_inpainting_sees_the_last_pass_blanked_in_the_mask(handover, sampler, layouts, watched):
    """And what lies outside the masks stays only where it is pasted back."""
    method, layout, passed = sampler(Inpainting, handover=handover), layouts["10"], []
    model, sample = method.model, method.text_to_image

    def recorded(*args, **kwargs):
        passed.append(sample(*args, **kwargs))
        return passed[-1].clone()

    method.text_to_image = recorded
    with watched(model) as inputs:
        (image,) = pixels_of(method.generate([layout], [5]))
    decoded = [model.decode(latents) for latents in passed]
    blank = model.encode(torch.zeros(1, 3, 64, 64))
    masks = grid_masks(layout, 16)[painting_order(layout, "large-first")]
    holes = masks.repeat_interleave(4, 2).repeat_interleave(4, 3).bool()
    left = decoded[0]
    for step, given in enumerate(inputs):
        turn = step // 4 - 1
        mask = masks[turn] if turn >= 0 else torch.ones(1, 16, 16)
        if turn > 0 and step % 4 == 0:
            before = decoded[turn]
            pasted = torch.where(holes[turn - 1], before, left)
            left = pasted if handover == "pasted" else before
        expected = blank
        if turn >= 0 and handover == "latent":
            expected = torch.where(mask.bool(), blank, passed[turn])
        elif turn >= 0:
            expected = model.encode(left.masked_fill(holes[turn], 0))
        for row in given:
            assert torch.equal(row[4:5], mask)
            torch.testing.assert_close(row[5:], expected[0], rtol=0, atol=1e-5)
    background, last = (pixels_of(to_images(decoded[n]))[0] for n in (0, -1))
    outside = ~holes.any(0)[0].numpy()
    if handover == "pasted":
        assert (image == background)[outside].all()
    else:
        assert (image == last).all()
        assert np.abs(image - background)[outside].mean() > 1
