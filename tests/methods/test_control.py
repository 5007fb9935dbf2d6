"""ControlNet, T2I-Adapter and GLIGEN against diffusers' own pipelines, on random weights."""

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionGLIGENPipeline,
)
from diffusers import T2IAdapter as AdapterModel
from PIL import Image
from pycocotools import mask as coco_mask
from random_networks import BASE, unet_of, write_adapter, write_controlnet

from tcig.data.voc import painted
from tcig.methods.base import generators
from tcig.methods.control import ControlNet, T2IAdapter
from tcig.methods.gligen import MAX_BOXES, Gligen
from tcig.methods.sampling import TextOnly

SEEDS = [5, 6]
GUIDED = {"num_inference_steps": 4, "guidance_scale": 7.5, "output_type": "latent"}
WIDE = {"height": 64, "width": 64}


@pytest.fixture
def pair(layouts):
    """Layouts of 2 and 4 regions."""
    return [layouts["9"], layouts["7"]]


def latents_of(method, layouts, control, share):
    with torch.inference_mode():
        captions = [layout.caption for layout in layouts]
        return method.text_to_image(generators(SEEDS), captions, control=control, share=share)


def colour_images(layouts, palette):
    return [Image.fromarray(painted(layout.class_map(64), palette)) for layout in layouts]


def unsteered(sampler, layouts, **options):
    return latents_of(sampler(TextOnly, **options), layouts, None, 1)


def apart(found, others):
    """How far two batches of latents lie apart, on the mean."""
    return (found - others).abs().mean().item()


def assert_draws_as(pipeline, method, sampler, pair, **settings):
    """Whether a method's latents are a pipeline's, and the map moves them."""
    found = latents_of(method, pair, method.control(method.maps(pair)), 1)
    pipeline.set_progress_bar_config(disable=True)
    negative = method.options.negative
    expected = pipeline(
        [layout.caption for layout in pair],
        image=colour_images(pair, method.options.palette),
        negative_prompt=[negative] * 2,
        latents=method.start(generators(SEEDS)).cpu(),
        **GUIDED,
        **settings,
    ).images
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
    assert apart(found, unsteered(sampler, pair, negative=negative)) > 0.05


OPTIONS = {"scale": 0.6, "palette": "ade20k", "negative": "a cow"}


@pytest.mark.parametrize("settings", [{}, OPTIONS], ids=["defaults", "options"])
def test_a_network_steers_as_in_diffusers_pipeline(settings, sampler, pair, open_rows, own_weights):
    method = sampler(ControlNet, **settings)
    network = ControlNetModel.from_pretrained(open_rows["controlnet"]["control"])
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(BASE, controlnet=network)
    scale = {"controlnet_conditioning_scale": method.options.scale}
    assert_draws_as(pipeline, method, sampler, pair, **scale)
    method = sampler(T2IAdapter, **settings)
    network = AdapterModel.from_pretrained(own_weights[T2IAdapter]["control"])
    pipeline = StableDiffusionAdapterPipeline.from_pretrained(BASE, adapter=network)
    scale = {"adapter_conditioning_scale": method.options.scale}
    assert_draws_as(pipeline, method, sampler, pair, **scale, **WIDE)


@pytest.mark.parametrize(("grounded", "negative"), [(0.5, ""), (1.0, "a cow")])
def test_gligen_draws_as_diffusers_pipeline(grounded, negative, sampler, pair, open_rows):
    method = sampler(Gligen, grounded=grounded, negative=negative)
    found = latents_of(method, pair, method.control(pair), grounded)
    pipeline = StableDiffusionGLIGENPipeline.from_pretrained(open_rows["gligen"]["weights"])
    pipeline.set_progress_bar_config(disable=True)
    start = method.start(generators(SEEDS)).cpu()
    for row, layout in enumerate(pair):  # whose boxes are of all prompts of a call
        side = layout.side
        corners = [coco_mask.toBbox(region.mask) for region in layout.regions]
        boxes = [[x / side, y / side, (x + w) / side, (y + h) / side] for x, y, w, h in corners]
        expected = pipeline(
            layout.caption,
            gligen_phrases=[region.prompt for region in layout.regions],
            gligen_boxes=boxes,
            gligen_scheduled_sampling_beta=grounded,
            negative_prompt=negative,
            latents=start[[row]],
            **GUIDED,
            **WIDE,
        ).images
        torch.testing.assert_close(found[[row]].cpu(), expected, rtol=1e-4, atol=1e-4)
    plain = unsteered(sampler, pair, negative=negative, **open_rows["gligen"])
    assert apart(found, plain) > 0.02


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (ControlNet, {"share": 0.2}),
        (T2IAdapter, {"scale": 0.0}),
        (T2IAdapter, {"share": 0.2}),
        (Gligen, {"grounded": 0.2}),
    ],
)
def test_without_steering_it_is_text_to_image(kind, settings, sampler, pair):
    """Shares of 4 steps that leave none, and a scale of 0."""
    method = sampler(kind, **settings)
    floor = sampler(TextOnly, weights=method.options.weights)
    for one, other in zip(*(m.generate(pair, SEEDS) for m in (method, floor)), strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("kind", [ControlNet, T2IAdapter])
@pytest.mark.parametrize(("share", "steered"), [(1.0, 4), (0.3, 1)])
def test_a_share_is_of_the_first_steps(kind, share, steered, sampler, pair):
    method, seen = sampler(kind, share=share), []

    def look(_, given, named):
        seen.append(any("additional_residual" in name for name in named))

    handle = method.model.unet.register_forward_pre_hook(look, with_kwargs=True)
    method.generate(pair[:1], SEEDS[:1])
    handle.remove()
    assert seen == [True] * steered + [False] * (4 - steered)


def test_gligen_sees_no_boxes_in_the_negative_prompt_even_if_it_is_the_caption(
    sampler, pair, watched
):
    """Two evaluations a step, which differ: guidance pulls towards the boxes."""
    layout, found = pair[0], []
    for guidance in (1.0, 7.5):
        method = sampler(Gligen, negative=layout.caption, guidance=guidance, grounded=1.0)
        control = method.control([layout])
        with watched(method.model) as inputs, torch.inference_mode():
            captions = [layout.caption]
            found.append(method.text_to_image(generators([5]), captions, control=control))
        assert [len(given) for given in inputs] == [2] * 4
    assert apart(*found) > 1e-3


def test_gligen_takes_as_many_regions_as_it_has_places(sampler, layouts, refused):
    layout = layouts["9"]
    for count in (MAX_BOXES, MAX_BOXES + 1):
        many = layout.model_copy(update={"regions": layout.regions[:1] * count})
        if count == MAX_BOXES:
            assert len(sampler(Gligen).generate([many], [1])) == 1
        else:
            with refused("layout 9 has 31 regions, GLIGEN takes 30"):
                sampler(Gligen).generate([many], [1])


def test_a_network_that_does_not_fit_is_one_sentence(sampler, refused, tmp_path):
    narrow = unet_of()
    narrow.register_to_config(cross_attention_dim=96)
    wide = write_controlnet(tmp_path / "wide", conditioning_embedding_out_channels=(8, 16, 32, 64))
    with refused("it reads 8 pixels of a map a latent, the VAE makes 4"):
        sampler(ControlNet, control=str(wide))
    other = ControlNetModel.from_unet(narrow, load_weights_from_unet=False)
    other.save_pretrained(tmp_path / "narrow")
    with refused("its cross_attention_dim is 96, the UNet's 128"):
        sampler(ControlNet, control=str(tmp_path / "narrow"))
    faults = {
        "full": (
            {"adapter_type": "full_adapter"},
            "the UNet's levels [(96, 8), (128, 8), (128, 4)]",
        ),
        "grey": ({"in_channels": 1}, "it reads maps of 1 channels, not colours"),
        "coarse": ({"downscale_factor": 24}, "of a multiple of 24 px, not of 64"),
    }
    for name, (changes, said) in faults.items():
        with refused(tmp_path / name, " does not fit mini:stable-diffusion: ", said):
            sampler(T2IAdapter, control=str(write_adapter(tmp_path / name, **changes)))
    with refused("its UNet takes no boxes: give a GLIGEN model"):
        sampler(Gligen, weights="mini:stable-diffusion")


def test_a_folder_of_something_else_is_one_sentence(sampler, refused, own_weights, open_rows):
    with refused(
        "mini:stable-diffusion lacks config.json: the folder of one ControlNetModel has it"
    ):
        sampler(ControlNet, control="mini:stable-diffusion")
    with refused(": ControlNetModel cannot be loaded ("):
        sampler(ControlNet, control=own_weights[T2IAdapter]["control"])
    with refused(": T2IAdapter cannot be loaded ("):
        sampler(T2IAdapter, control=open_rows["controlnet"]["control"])


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (ControlNet, {"control": ""}, "control is empty: name a network"),
        (T2IAdapter, {"share": 1.5}, "share must be from 0 to 1, got 1.5"),
        (Gligen, {"grounded": -0.1}, "grounded must be from 0 to 1, got -0.1"),
        (Gligen, {"weights": ""}, "weights is empty: name a model"),
    ],
)
def test_options_that_cannot_be(kind, settings, said):
    with pytest.raises(ValueError, match=said):
        kind.Options(**settings)
