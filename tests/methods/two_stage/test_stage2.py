"""Stage 2: the stock pipelines with the sample's own seed, whatever their family."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import (
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tcig.data.files import InputError
from tcig.methods.base import generators
from tcig.methods.two_stage.stage2 import Stage2, Stage2Options
from tcig.models.fetch import adopt, place_of
from tcig.models.random_weights import write_random_weights
from tcig.models.weights import locate

MINI = locate("mini:stable-diffusion")


def options(**changes):
    shared = {"pipeline": "mini:stable-diffusion", "steps": 6, "guidance": 5.0, "strength": 0.5}
    return Stage2Options(**shared | changes)


def noise(size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


def grey_levels(a, b):
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max()


@pytest.mark.parametrize("resample", ["lanczos", "nearest"])
def test_it_is_the_stock_pipeline(resample):
    stage = Stage2(options(negative="a bus", resample=resample), 64)
    image, prompt = noise(32), "a cat on a green field"
    settings = {"negative_prompt": "a bus", "num_inference_steps": 6, "guidance_scale": 5.0}
    (refined,) = stage.refine([image], [prompt], generators([7]))
    enlarged = image.resize((64, 64), Image.Resampling[resample.upper()])
    stock, (rng,) = StableDiffusionImg2ImgPipeline.from_pretrained(MINI), generators([7])
    expected = stock(prompt, image=enlarged, strength=0.5, generator=rng, **settings).images[0]
    assert grey_levels(refined, expected) <= 1
    (drawn,) = stage.text_to_image([prompt], generators([7]))
    stock, (rng,) = StableDiffusionPipeline.from_pretrained(MINI), generators([7])
    expected = stock(prompt, generator=rng, height=64, width=64, **settings).images[0]
    assert grey_levels(drawn, expected) <= 1


def test_images_are_refined_as_if_alone_and_the_same_again():
    stage = Stage2(options(), 64)
    both = refined_as_if_alone(stage)
    again = stage.refine(INPUTS, PROMPTS, generators([1, 2]))
    assert all(grey_levels(*pair) == 0 for pair in zip(both, again, strict=True))
    outputs = stage.refine([INPUTS[0]] * 2, ["a cat"] * 2, generators([1, 2]))
    assert grey_levels(*outputs) > 20


def test_a_blackened_image_is_a_failure(monkeypatch):
    stage = Stage2(options(), 64)

    def blackening(self, **inputs):
        images = np.stack([np.zeros((64, 64, 3)), np.ones((64, 64, 3))])
        return SimpleNamespace(images=images, nsfw_content_detected=[True, False])

    monkeypatch.setattr(type(stage.pipeline), "__call__", blackening)
    with pytest.raises(InputError, match="safety checker blackened the image"):
        stage.refine([noise(64)] * 2, ["a cat"] * 2, generators([1, 2]))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"pipeline": "/no/folder"}, "'/no/folder' not found"),
        ({"pipeline": "EMPTY"}, "pipeline for stage 2 cannot be loaded"),
        ({"pipeline": "PIXART"}, "pipeline for stage 2 cannot be loaded"),
        ({"upscaler": "mini:clip"}, r"mini:clip: stage II of DeepFloyd IF cannot be loaded \("),
        ({"true_cfg_scale": 2.0}, r"second\.true_cfg_scale: StableDiffusionImg2ImgPipeline"),
    ],
)
def test_what_cannot_be_set_up_is_one_sentence(settings, match, tmp_path):
    index = {"_class_name": "PixArtAlphaPipeline"}
    (tmp_path / "PIXART").mkdir()
    (tmp_path / "PIXART" / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "EMPTY").mkdir()
    if settings.get("pipeline", "").isupper():
        settings = {"pipeline": str(tmp_path / settings["pipeline"])}
    with pytest.raises(InputError, match=match) as caught:
        Stage2(options(**settings), 64)
    assert "\n" not in str(caught.value)


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match=r"strength must be from 0 to 1, got 1\.5"):
        options(strength=1.5)
    with pytest.raises(ValueError, match=r"strength 0\.1 of 6 steps is not one step"):
        options(strength=0.1)


def test_it_may_work_at_a_size_of_its_own(monkeypatch):
    stage, sizes = Stage2(options(size=128), 64), []

    def pipeline(self, image, **_):
        sizes.extend(each.size for each in image)
        return SimpleNamespace(images=np.stack([np.asarray(each) / 255 for each in image]))

    monkeypatch.setattr(type(stage.pipeline), "__call__", pipeline)
    (found,) = stage.refine([noise(32)], ["a cat"], generators([1]))
    assert sizes == [(128, 128)]
    assert found.size == (64, 64)


def small_if(folder):
    """DeepFloyd IF's two stages of random weights, at 16 px each."""
    torch.manual_seed(0)
    schedule = DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range")
    text = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    shared = {
        "tokenizer": T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]),
        "text_encoder": T5EncoderModel(text),
        "scheduler": schedule,
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }
    unet = {
        "sample_size": 16,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "in_channels": 3,
        "out_channels": 6,
        "cross_attention_dim": 32,
        "encoder_hid_dim": 32,
        "attention_head_dim": 8,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
    }
    IFPipeline(unet=UNet2DConditionModel(**unet), **shared).save_pretrained(folder / "one")
    larger = UNet2DConditionModel(**unet | {"in_channels": 6, "class_embed_type": "timestep"})
    second = IFSuperResolutionPipeline(unet=larger, image_noising_scheduler=schedule, **shared)
    second.save_pretrained(folder / "two")


INPUTS, PROMPTS = [noise(32), noise(32, 1)], ["a cat", "a dog"]


def refined_as_if_alone(stage):
    """Two images refined in a batch, each as alone."""
    both = stage.refine(INPUTS, PROMPTS, generators([1, 2]))
    assert {image.size for image in both} == {(64, 64)}
    for n, image in enumerate(both):
        (alone,) = stage.refine([INPUTS[n]], [PROMPTS[n]], generators([n + 1]))
        assert grey_levels(alone, image) <= 2
    return both


def test_a_pipeline_on_pixels_serves_with_its_upscaler(tmp_path):
    small_if(tmp_path)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    stage = Stage2(options(pipeline=one, upscaler=two, steps=4), 64)
    assert type(stage.pipeline).__name__ == "IFImg2ImgPipeline"
    assert not hasattr(stage.upscaler, "vae")
    assert stage.upscaler.text_encoder is None
    both = refined_as_if_alone(stage)
    plain = Stage2(options(pipeline=one, steps=4), 64).refine(INPUTS, PROMPTS, generators([1, 2]))
    assert grey_levels(plain[0], both[0]) > 0
    (drawn,) = stage.text_to_image(["a cat"], generators([3]))
    assert drawn.size == (64, 64)


SD3, FLUX = "stabilityai/stable-diffusion-3-medium-diffusers", "black-forest-labs/FLUX.1-schnell"


@pytest.fixture(params=[SD3, FLUX])
def transformer(request, narrow):
    """A pipeline with a transformer, of random weights, where fetched ones are."""
    name = request.param
    write_random_weights(name, place_of(name))
    if name == SD3:  # the hub's lists a T5 that is not fetched
        path = place_of(name) / "model_index.json"
        index = json.loads(path.read_text()) | {
            "text_encoder_3": ["transformers", "T5EncoderModel"]
        }
        path.write_text(json.dumps(index | {"tokenizer_3": ["transformers", "T5TokenizerFast"]}))
    adopt(name, "random")
    return name


def test_a_pipeline_with_a_transformer_serves(transformer):
    stage = Stage2(options(pipeline=transformer, steps=4), 64)
    refined_as_if_alone(stage)
    assert grey_levels(*stage.refine([noise(32)] * 2, ["a cat"] * 2, generators([1, 2]))) > 0
    drawn = stage.text_to_image(["a cat"] * 2, generators([3, 3]))
    assert drawn[0].size == (64, 64)
    assert grey_levels(*drawn) <= 2


def test_flux_takes_its_own_classifier_free_guidance(narrow):
    write_random_weights(FLUX, place_of(FLUX))
    adopt(FLUX, "random")
    found = {}
    for scale, negative in [(1.0, ""), (1.0, "a bus"), (4.0, "a bus"), (4.0, "a cat")]:
        changes = {"true_cfg_scale": scale, "negative": negative, "guidance": 0.0}
        stage = Stage2(options(pipeline=FLUX, steps=4, **changes), 64)
        (found[scale, negative],) = stage.refine([noise(32)], ["a cat"], generators([1]))
    assert grey_levels(found[1.0, ""], found[1.0, "a bus"]) == 0
    assert grey_levels(found[1.0, ""], found[4.0, "a bus"]) > 0
    assert grey_levels(found[1.0, ""], found[4.0, "a cat"]) <= 1, "the prompt against itself"
    assert options(true_cfg_scale=4.0, guidance=0.0).evaluations(from_noise=False) == 2 * 3


def test_numbers_that_are_not_finite_are_a_failure_with_its_step(monkeypatch):
    stage = Stage2(options(guidance=1e38), 64)
    with pytest.raises(FloatingPointError, match=r"step [1-3]"):
        stage.refine([noise(64)], ["a cat"], generators([1]))
    stage = Stage2(options(), 64)
    decode = type(stage.pipeline.vae).decode
    broken = lambda *given, **more: tuple(x * float("nan") for x in decode(*given, **more))  # noqa: E731
    monkeypatch.setattr(type(stage.pipeline.vae), "decode", broken)
    with pytest.raises(FloatingPointError, match="image"):
        stage.refine([noise(64)], ["a cat"], generators([1]))
