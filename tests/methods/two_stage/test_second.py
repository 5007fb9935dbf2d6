"""Stage 2: the stock pipelines with the sample's own seed, whatever their family."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    EulerDiscreteScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tcig.data.errors import InputError
from tcig.methods.draws import generators
from tcig.methods.two_stage.second import SecondOptions, SecondStage
from tcig.models.fetch import adopt, place_of
from tcig.models.random_weights import write_random_weights
from tcig.models.weights import identity_of, locate

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


def test_a_run_leaves_nothing_that_a_later_run_meets():
    stage = SecondStage(options(), 64)

    def refine(prompt):
        (image,) = stage.refine([noise(64)], [prompt], generators([1]))
        return np.asarray(image)

    first = refine("a cat")
    assert not np.array_equal(refine("two dogs and a bus on a green field"), first)
    assert np.array_equal(refine("a cat"), first)


def test_a_blackened_image_is_a_failure(monkeypatch):
    stage = SecondStage(options(), 64)

    def blackening(self, **inputs):
        images = np.stack([np.zeros((64, 64, 3)), np.ones((64, 64, 3))])
        return SimpleNamespace(images=images, nsfw_content_detected=[True, False])

    monkeypatch.setattr(type(stage.pipeline), "__call__", blackening)
    with pytest.raises(InputError, match="safety checker blackened the image"):
        stage.refine([noise(64)] * 2, ["a cat"] * 2, generators([1, 2]))


def test_an_output_of_another_size_is_resized(monkeypatch):
    stage = SecondStage(options(), 64)
    given = SimpleNamespace(images=np.zeros((1, 128, 128, 3)))
    monkeypatch.setattr(type(stage.pipeline), "__call__", lambda *_, **__: given)
    (found,) = stage.refine([noise(64)], ["a cat"], generators([1]))
    assert found.size == (64, 64)


def test_what_is_no_pipeline_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="not found; expected a folder"):
        SecondStage(options(pipeline=str(tmp_path / "none")), 64)
    with pytest.raises(InputError, match="is no pipeline for stage 2") as caught:
        SecondStage(options(pipeline=str(tmp_path)), 64)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"strength 1\.5 is no share"):
        options(strength=1.5)
    with pytest.raises(ValueError, match=r"strength 0\.1 of 6 steps is not one step"):
        options(strength=0.1)


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


def test_it_may_work_at_a_size_of_its_own(monkeypatch):
    stage, sizes = SecondStage(options(size=128), 64), []

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
    for stage in ("one", "two"):
        sentencepiece_alone(folder / stage / "tokenizer")


def sentencepiece_alone(folder):
    """A tokenizer as IF's repositories have it: `spiece.model`, without `tokenizer.json`."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a cat on a mat", "a dog and a bus", "two boats in the dark"]),
        model_writer=model,
        vocab_size=24,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    for path in folder.iterdir():
        path.unlink()
    (folder / "spiece.model").write_bytes(model.getvalue())
    tokenizer = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


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
    stage = SecondStage(options(pipeline=one, upscaler=two, steps=4), 64)
    assert type(stage.pipeline).__name__ == "IFImg2ImgPipeline"
    assert not hasattr(stage.upscaler, "vae")
    assert stage.upscaler.text_encoder is None
    both = refined_as_if_alone(stage)
    plain = SecondStage(options(pipeline=one, steps=4), 64).refine(
        INPUTS, PROMPTS, generators([1, 2])
    )
    assert grey_levels(plain[0], both[0]) > 0
    (drawn,) = stage.draw(["a cat"], generators([3]))
    assert drawn.size == (64, 64)
    assert stage.identity == f"{identity_of(one)} {identity_of(two)}"


def test_an_upscaler_that_is_none_is_one_sentence():
    with pytest.raises(InputError, match=r"is no stage II of DeepFloyd IF \("):
        SecondStage(options(upscaler="mini:clip"), 64)


def test_an_option_that_a_pipeline_does_not_take_is_refused():
    with pytest.raises(InputError, match=r"second\.true_cfg_scale: StableDiffusionImg2ImgPipeline"):
        SecondStage(options(true_cfg_scale=2.0), 64)


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
    stage = SecondStage(options(pipeline=transformer, steps=4), 64)
    refined_as_if_alone(stage)
    assert grey_levels(*stage.refine([noise(32)] * 2, ["a cat"] * 2, generators([1, 2]))) > 0
    drawn = stage.draw(["a cat"] * 2, generators([3, 3]))
    assert drawn[0].size == (64, 64)
    assert grey_levels(*drawn) <= 2


def test_flux_takes_its_own_classifier_free_guidance(narrow):
    write_random_weights(FLUX, place_of(FLUX))
    adopt(FLUX, "random")
    found = {}
    for scale, negative in [(1.0, ""), (1.0, "a bus"), (4.0, "a bus"), (4.0, "a cat")]:
        changes = {"true_cfg_scale": scale, "negative": negative, "guidance": 0.0}
        stage = SecondStage(options(pipeline=FLUX, steps=4, **changes), 64)
        (found[scale, negative],) = stage.refine([noise(32)], ["a cat"], generators([1]))
    assert grey_levels(found[1.0, ""], found[1.0, "a bus"]) == 0
    assert grey_levels(found[1.0, ""], found[4.0, "a bus"]) > 0
    assert grey_levels(found[1.0, ""], found[4.0, "a cat"]) <= 1, "the prompt against itself"
    assert options(true_cfg_scale=4.0, guidance=0.0).evaluations == 2 * options().steps // 2


def test_a_pipeline_without_an_image_to_image_form_is_one_sentence(tmp_path):
    index = {
        "_class_name": "PixArtAlphaPipeline",
        "transformer": ["diffusers", "Transformer2DModel"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="is no pipeline for stage 2") as caught:
        SecondStage(options(pipeline=str(tmp_path)), 64)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_a_failure_with_its_step(monkeypatch):
    stage = SecondStage(options(guidance=1e38), 64)
    with pytest.raises(FloatingPointError, match=r"step [1-3]"):
        stage.refine([noise(64)], ["a cat"], generators([1]))
    stage = SecondStage(options(), 64)
    decode = type(stage.pipeline.vae).decode
    broken = lambda *given, **more: tuple(x * float("nan") for x in decode(*given, **more))  # noqa: E731
    monkeypatch.setattr(type(stage.pipeline.vae), "decode", broken)
    with pytest.raises(FloatingPointError, match="image"):
        stage.refine([noise(64)], ["a cat"], generators([1]))
