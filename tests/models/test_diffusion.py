"""The diffusion component against plain calls of its networks and diffusers' own pipeline."""

import copy
import json
import re
import shutil
import warnings
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tcig.data.files import InputError
from tcig.data.layout import Layout, Region
from tcig.data.masks import encode
from tcig.data.voc import BY_LABEL
from tcig.methods.base import Context, gaussian, generators
from tcig.methods.sampling import TextOnly
from tcig.models.devices import PLAIN, release
from tcig.models.diffusion import Diffusion, load_diffusion, plan, to_images
from tcig.models.weights import locate

MINI, INPAINTING = "mini:stable-diffusion", "mini:stable-diffusion-inpainting"
CAPTIONS = ["a cat and a bus on a green field", "two boats in the dark", "a cow"]
SEEDS = [3, 1, 4]
LABELS = [label for label in BY_LABEL if " " not in label]


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    return load_diffusion(MINI)


@pytest.fixture
def fresh(model):
    """The same networks with nothing kept."""
    parts = (model.unet, model.vae, model.text_encoder, model.tokenizer)
    return Diffusion(*parts, schedule={})


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layout_of(caption):
    region = Region(annotation=1, label="cat", mask=encode(np.ones((4, 4), bool)))
    return Layout(id="1", image="", side=4, caption=caption, regions=(region,))


def pixels_of(images):
    return np.stack([np.asarray(image) for image in images]).astype(int)


rows = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, database=None)
@given(rows)
def test_a_plan_gives_each_row_its_pairs_and_evaluates_none_twice(asked):
    calls = plan(*torch.tensor(asked).T)
    pairs = list(zip(calls.latents.tolist(), calls.texts.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert [pairs[k] for k in calls.positive] == [(n, positive) for n, positive, _ in asked]
    assert [pairs[k] for k in calls.negative] == [(n, negative) for n, _, negative in asked]
    assert set(pairs) == {(n, text) for n, *texts in asked for text in texts}


@pytest.mark.parametrize("source", [MINI, INPAINTING])
def test_guidance_is_that_of_the_unet_called_row_by_row(source):
    """In float64, so that rounding is far below 1e-9."""
    model = load_diffusion(source)
    unet = copy.deepcopy(model.unet).double()
    precise = Diffusion(unet, model.vae, model.text_encoder, model.tokenizer, schedule={})
    asked = [(0, 0, 3), (0, 1, 3), (1, 0, 3), (2, 3, 0)]  # latent, prompt, negative prompt
    latents, t = normal(3, 4, 16, 16).double().to(precise.device), torch.tensor(401)
    texts = precise.encode_prompts([*CAPTIONS, ""])[0].double()
    extra = normal(3, 5, 16, 16, seed=1).to(latents) if source == INPAINTING else None
    calls = plan(*torch.tensor(asked).T)
    strong, unguided = (
        precise.guided(latents, t, texts, calls, scale, extra) for scale in (5.0, 1.0)
    )
    for (n, positive, negative), *rows in zip(asked, strong, unguided, strict=True):
        given = latents[n] if extra is None else torch.cat([latents[n], extra[n]])
        conditional, plain = (
            unet(given[None], t, encoder_hidden_states=texts[k : k + 1]).sample[0]
            for k in (positive, negative)
        )
        expected = [5 * conditional - 4 * plain, conditional]
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-9)


def test_pixels_are_rounded():
    grey = torch.tensor([-1, -1 + 0.9 / 127.5, 0.002, 1]).expand(2, 3, 1, 4)
    for image in to_images(grey):
        assert (image.mode, image.size) == ("RGB", (4, 1))
        assert np.asarray(image)[0].tolist() == [[value] * 3 for value in (0, 1, 128, 255)]


def test_the_side_of_latents_and_sizes_that_cannot_be_made(model, refused):
    assert [model.side(size) for size in (16, 64, 96)] == [4, 16, 24]
    for size in (72, 65, 8, 0, -16):
        with refused(f"images of {size} px", "multiple of 16"):
            model.side(size)


def test_distinct_prompts_are_embedded_once_and_kept(fresh):
    sizes = []
    hook = lambda _, inputs: sizes.append(len(inputs[0]))  # noqa: E731
    handle = fresh.text_encoder.register_forward_pre_hook(hook)
    texts, rows = fresh.encode_prompts(["a cat", "", "a cat", "a dog", ""])
    assert rows.tolist() == [0, 1, 0, 2, 1]
    again, _ = fresh.encode_prompts(["a dog", "a cat", "a cow"])
    handle.remove()
    assert sizes == [1] * 4
    assert torch.equal(again[:2], texts[[2, 0]])
    for prompt, text in zip(["a cat", "", "a dog"], texts, strict=True):
        tokens = fresh.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
        expected = fresh.text_encoder(tokens.to(fresh.device)).last_hidden_state[0]
        torch.testing.assert_close(text, expected, rtol=0, atol=1e-5)


def test_a_long_prompt_is_cut_with_a_warning(fresh):
    length = fresh.text_encoder.config.max_position_embeddings
    prompt = " ".join(LABELS * 4)
    whole, cut = (fresh.tokenizer(prompt, truncation=cut).input_ids for cut in (False, True))
    with pytest.warns(UserWarning, match=f"the text encoder takes {length - 2} tokens") as caught:
        texts, _ = fresh.encode_prompts([prompt])
    lost = re.search(r": '(.+)' was cut off '", str(caught[0].message))[1]
    lost_tokens = fresh.tokenizer(lost, add_special_tokens=False).input_ids
    assert cut[:-1] + lost_tokens + whole[-1:] == whole
    expected = fresh.text_encoder(torch.tensor([cut], device=fresh.device))[0]
    torch.testing.assert_close(texts, expected, rtol=0, atol=1e-5)
    word = next(w for w in LABELS if len(fresh.tokenizer(w).input_ids) == 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh.encode_prompts([prompt, " ".join([word] * (length - 2))])  # this one just fits


def draw(source, **options):
    settings = {"weights": str(source), "steps": 4, "guidance": 3.0} | options
    method = TextOnly(Context(64), TextOnly.Options(**settings))
    return pixels_of(method.generate([layout_of(each) for each in CAPTIONS], SEEDS))


def draw_by_diffusers(folder, negative=""):
    pipe = StableDiffusionPipeline.from_pretrained(
        folder,
        scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        CAPTIONS,
        height=64,
        width=64,
        num_inference_steps=4,
        guidance_scale=3.0,
        negative_prompt=[negative] * len(CAPTIONS),
        latents=gaussian(generators(SEEDS), (4, 16, 16)),
    ).images
    return pixels_of(images)


@pytest.mark.parametrize("negative", ["", "a cat"])
def test_images_are_those_of_diffusers_pipeline(negative):
    found, expected = draw(MINI, negative=negative), draw_by_diffusers(locate(MINI), negative)
    assert found.shape == (3, 64, 64, 3)
    assert found.std() > 10
    assert np.abs(found - expected).max() <= 1


@pytest.fixture(scope="module")
def predicting_noise(tmp_path_factory):
    """A folder with the shipped VAE and text encoder and an untrained UNet that predicts noise."""
    home, shipped = tmp_path_factory.mktemp("epsilon") / "model", Path(locate(MINI))
    shutil.copytree(shipped, home, ignore=shutil.ignore_patterns("unet"))
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=4,
    ).save_pretrained(home / "unet")
    path = home / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text()) | {"prediction_type": "epsilon"}
    path.write_text(json.dumps(config))
    return home


def test_a_model_that_predicts_noise_is_sampled_as_by_diffusers(predicting_noise, monkeypatch):
    found, expected = draw(predicting_noise), draw_by_diffusers(predicting_noise)
    assert np.abs(found - expected).max() <= 1
    model = load_diffusion(str(predicting_noise), PLAIN)
    monkeypatch.setitem(model._schedule, "prediction_type", "v_prediction")
    assert np.abs(draw(predicting_noise) - expected).max() > 10


def test_the_schedule_is_the_models_own_but_for_changes(model):
    assert model.schedule(4).config.prediction_type == "v_prediction"
    assert model.schedule(4).timesteps.tolist() == [751, 501, 251, 1]
    assert model.schedule(4, steps_offset=0).timesteps.tolist() == [750, 500, 250, 0]
    with pytest.raises(InputError, match="1001 steps are more than the model's 1000 timesteps"):
        model.schedule(1001)


def test_a_model_is_loaded_once(predicting_noise):
    model = load_diffusion(str(predicting_noise))
    assert load_diffusion(str(predicting_noise)) is model
    release()
    assert load_diffusion(str(predicting_noise)) is not model
    for network in (model.unet, model.vae, model.text_encoder):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def shorten(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def lose_a_tensor(path):
    tensors = load_file(path)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, path, {"format": "pt"})


def other_shapes(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block_out_channels": [16, 16]}))


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (shorten, "unet/diffusion_pytorch_model.safetensors"),
        (shorten, "unet/config.json"),
        (other_shapes, "unet/config.json"),
        (lose_a_tensor, "text_encoder/model.safetensors"),
        (shorten, "tokenizer/tokenizer.json"),
        (shorten, "scheduler/scheduler_config.json"),
        (Path.unlink, "vae/diffusion_pytorch_model.safetensors"),
        (shutil.rmtree, "unet"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_damaged_or_missing_files_are_one_line(predicting_noise, tmp_path, damage, file, refused):
    folder = shutil.copytree(predicting_noise, tmp_path / "model")
    damage(folder / file)
    with refused(folder, file.split("/")[0]):
        load_diffusion(str(folder))


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS = {
    "Euler": ("EulerDiscreteScheduler", {"steps_offset": 1}),
    "DPM-Solver": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
    "LMS": ("LMSDiscreteScheduler", {"prediction_type": "v_prediction"}),
    "DDIM": ("DDIMScheduler", {"set_alpha_to_one": False}),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("old", [False, True], ids=["whole", "old"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_of_another_origin_is_read_as_diffusers_own_pipeline_reads_it(
    name, old, tmp_path
):
    """Of any class, and of an age in which fewer settings were written."""
    kind, settings = SCHEDULERS[name]
    shutil.copytree(locate(MINI), tmp_path / "model")
    folder = tmp_path / "model" / "scheduler"
    getattr(diffusers, kind)(**BETAS | settings).save_pretrained(folder)
    path = folder / "scheduler_config.json"
    if old:
        written = {**BETAS, **settings, "_class_name": kind, "_diffusers_version": "0.2.2"}
        path.write_text(json.dumps(written))
    ddim = DDIMScheduler.from_pretrained(folder)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model", scheduler=ddim)
    expected = pipeline.scheduler
    expected.set_timesteps(10)
    found = load_diffusion(str(tmp_path / "model")).schedule(10)
    assert found.timesteps.equal(expected.timesteps)
    assert found.alphas_cumprod.equal(expected.alphas_cumprod)
    assert found.final_alpha_cumprod.equal(expected.final_alpha_cumprod)
    names = ("prediction_type", "clip_sample", "steps_offset", "set_alpha_to_one")
    assert all(found.config[name] == expected.config[name] for name in names)
    latents = torch.full((1, 4, 2, 2), 5.0)
    clean = found.step(torch.zeros_like(latents), found.timesteps[-1], latents).pred_original_sample
    assert clean.abs().max() > 1, "latents are not clipped to [-1, 1]"
