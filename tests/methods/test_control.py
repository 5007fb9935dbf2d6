"""ControlNet, T2I-Adapter and GLIGEN against diffusers' own pipelines, on random weights."""

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
from tcig.methods.control import MAX_BOXES, ControlNet, Gligen, T2IAdapter
from tcig.methods.sampling import TextOnly

SEEDS = [5, 6]
GUIDED = {"num_inference_steps": 4, "guidance_scale": 7.5, "output_type": "latent"}
WIDE = {"height": 64, "width": 64}


@pytest.fixture
def pair(layouts):
    """Layouts of 2 and 4 regions."""
    return [layouts["9"], layouts["7"]]


def latents_of(method, layouts):
    with torch.inference_mode():
        captions = [layout.caption for layout in layouts]
        control, share = method.steer(layouts)
        return method.text_to_image(generators(SEEDS), captions, control=control, share=share)


def unsteered(sampler, layouts, **options):
    return latents_of(sampler(TextOnly, **options), layouts)


def apart(found, others):
    """How far two batches of latents lie apart, on the mean."""
    return (found - others).abs().mean().item()


def assert_draws_as(pipeline, method, sampler, pair, **settings):
    """Whether a method's latents are a pipeline's, and the map moves them."""
    found = latents_of(method, pair)
    pipeline.set_progress_bar_config(disable=True)
    negative, palette = method.options.negative, method.options.palette
    expected = pipeline(
        [layout.caption for layout in pair],
        image=[Image.fromarray(painted(layout.class_map(64), palette)) for layout in pair],
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
    found = latents_of(method, pair)
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


@pytest.mark.parametrize("kind", [ControlNet, T2IAdapter, Gligen])
@pytest.mark.parametrize(("share", "steered"), [(1.0, 4), (0.3, 1), (0.2, 0)])
def test_a_share_is_of_the_first_steps(kind, share, steered, sampler, pair):
    """Of 4 steps; unsteered it is text to image."""
    method, seen = sampler(kind, **{"grounded" if kind is Gligen else "share": share}), []

    def look(_, given, named):
        seen.append(any("additional_residual" in name or "attention" in name for name in named))

    handle = method.model.unet.register_forward_pre_hook(look, with_kwargs=True)
    found = latents_of(method, pair)
    handle.remove()
    assert seen == [True] * steered + [False] * (4 - steered)
    if not steered:
        assert torch.equal(found, unsteered(sampler, pair, weights=method.options.weights))


def test_gligen_sees_no_boxes_in_the_negative_prompt_even_if_it_is_the_caption(
    sampler, pair, watched
):
    """Two evaluations a step, which differ: guidance pulls towards the boxes."""
    layout, found = pair[0], []
    for guidance in (1.0, 7.5):
        method = sampler(Gligen, negative=layout.caption, guidance=guidance, grounded=1.0)
        with watched(method.model) as inputs:
            found.append(latents_of(method, [layout, layout]))
        assert [len(given) for given in inputs] == [4] * 4
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
    other = ControlNetModel.from_unet(narrow, load_weights_from_unet=False)
    other.save_pretrained(tmp_path / "narrow")
    write_controlnet(tmp_path / "coarse", conditioning_embedding_out_channels=(8, 16, 32, 64))
    for name in ("narrow", "coarse"):
        with refused(tmp_path / name, " does not fit mini:stable-diffusion: "):
            sampler(ControlNet, control=str(tmp_path / name))
    faults = {
        "full": {"adapter_type": "full_adapter"},
        "grey": {"in_channels": 1},
        "odd": {"downscale_factor": 24},
        "short": {"channels": (96, 128)},
    }
    for name, changes in faults.items():
        with refused(tmp_path / name, " does not fit mini:stable-diffusion: "):
            sampler(T2IAdapter, control=str(write_adapter(tmp_path / name, **changes)))
    with refused("its UNet takes no boxes: give a GLIGEN model"):
        sampler(Gligen, weights="mini:stable-diffusion")


def test_a_folder_of_something_else_is_one_sentence(sampler, refused, own_weights):
    with refused("mini:stable-diffusion lacks config.json: the folder of one ControlNetModel"):
        sampler(ControlNet, control="mini:stable-diffusion")
    with refused(": ControlNetModel cannot be loaded ("):
        sampler(ControlNet, control=own_weights[T2IAdapter]["control"])
