"""Stage 2: the stock pipelines with the sample's own seed, whatever their family."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tcig.data.errors import InputError
from tcig.methods.draws import generators
from tcig.methods.two_stage.second import SecondOptions, SecondStage
from tcig.models.weights import locate

MINI = locate("mini:stable-diffusion")


def options(**changes):
    shared = {"pipeline": "mini:stable-diffusion", "steps": 6, "guidance": 5.0, "strength": 0.5}
    return SecondOptions(**shared | changes)


def noise(size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


def grey_levels(a, b):
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max()


def test_refining_is_the_stock_pipeline_on_the_enlarged_image():
    stage = SecondStage(options(negative="a bus"), 64)
    image, prompt = noise(32), "a cat on a green field"
    (found,) = stage.refine([image], [prompt], generators([7]))
    stock = StableDiffusionImg2ImgPipeline.from_pretrained(MINI)
    expected = stock(
        prompt=prompt,
        negative_prompt="a bus",
        image=image.resize((64, 64), Image.Resampling.LANCZOS),
        strength=0.5,
        num_inference_steps=6,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    assert grey_levels(found, expected) <= 1


def test_from_noise_it_is_the_stock_text_to_image():
    stage = SecondStage(options(), 64)
    (found,) = stage.draw(["a cat"], generators([7]))
    stock = StableDiffusionPipeline.from_pretrained(MINI)
    draw = torch.Generator().manual_seed(7)
    settings = {"num_inference_steps": 6, "guidance_scale": 5.0, "height": 64, "width": 64}
    assert grey_levels(found, stock("a cat", generator=draw, **settings).images[0]) <= 1


def test_an_image_gives_many_outputs_each_as_if_alone():
    stage = SecondStage(options(), 64)
    image = noise(64)
    both = stage.refine([image, image], ["a cat"] * 2, generators([1, 2]))
    assert grey_levels(*both) > 20
    for seed, found in zip((1, 2), both, strict=True):
        (alone,) = stage.refine([image], ["a cat"], generators([seed]))
        assert grey_levels(alone, found) <= 2


@pytest.mark.parametrize("resample", ["nearest", "bicubic"])
def test_the_enlargement_is_an_option(resample):
    still = SecondStage(options(strength=0.34, steps=3, resample=resample), 64)
    image = noise(16)
    enlarged = image.resize((64, 64), Image.Resampling[resample.upper()])
    found, expected = (
        still.refine([each], ["a cat"], generators([1]))[0] for each in (image, enlarged)
    )
    assert grey_levels(found, expected) == 0


def test_a_blackened_image_is_a_failure(monkeypatch):
    stage = SecondStage(options(), 64)

    def blackening(**inputs):
        black = Image.new("RGB", (64, 64))
        return SimpleNamespace(images=[black, noise(64)], nsfw_content_detected=[True, False])

    monkeypatch.setattr(stage, "pipeline", blackening)
    with pytest.raises(InputError, match="safety checker blackened the image"):
        stage.refine([noise(64)] * 2, ["a cat"] * 2, generators([1, 2]))


def test_an_output_of_another_size_is_resized(monkeypatch):
    stage = SecondStage(options(), 64)
    monkeypatch.setattr(stage, "pipeline", lambda **_: SimpleNamespace(images=[noise(128)]))
    (found,) = stage.refine([noise(64)], ["a cat"], generators([1]))
    assert found.size == (64, 64)


def test_what_is_no_pipeline_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        SecondStage(options(pipeline=str(tmp_path / "none")), 64)
    with pytest.raises(InputError, match="is no pipeline for stage 2") as caught:
        SecondStage(options(pipeline=str(tmp_path)), 64)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"strength 1\.5 is no share"):
        options(strength=1.5)


def small_sdxl(folder):
    """A Stable Diffusion XL of random weights, 1/1000 of its size."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(MINI, subfolder="tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=40,
        projection_dim=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
        cross_attention_dim=64,
    )
    StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(MINI, subfolder="vae"),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(),
    ).save_pretrained(folder)


def test_another_family_serves_unchanged(tmp_path):
    small_sdxl(tmp_path)
    stage = SecondStage(options(pipeline=str(tmp_path), steps=4), 64)
    assert type(stage.pipeline).__name__ == "StableDiffusionXLImg2ImgPipeline"
    first = stage.refine([noise(32)], ["a cat"], generators([1]))
    again = stage.refine([noise(32)], ["a cat"], generators([1]))
    other = stage.refine([noise(32)], ["a cat"], generators([2]))
    assert first[0].size == (64, 64)
    assert grey_levels(first[0], again[0]) == 0
    assert grey_levels(first[0], other[0]) > 0
