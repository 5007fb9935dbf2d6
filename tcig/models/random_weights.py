"""Random weights of the catalogue's architectures, in the files of the real ones.

Rehearsals and tests load them in place of fetched weights. `configs/*.json` has one architecture a
file: the catalogue's models that have it, and each network's class and configuration.
"""

import json
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import open_clip
import torch
import yaml
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from safetensors.torch import save_file
from torch import nn

from tcig.data.files import InputError
from tcig.models.sources import catalogue

SEED = 0
START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT_LENGTH = 77
"""Tokens of a prompt for CLIP's text encoder."""


@cache
def architectures() -> dict[str, dict[str, Any]]:
    """Returns the content of the JSON file of each model of the catalogue that has one."""
    files = sorted(Path(__file__).with_name("configs").glob("*.json"))
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return {name: content for content in contents for name in content["models"]}


def build_networks(architecture: dict[str, Any]) -> dict[str, nn.Module]:
    """Builds the networks of an architecture, on the default device and in its number format."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, architecture.get("dtype", "float32")))
    try:
        return {name: _build(network) for name, network in architecture["networks"].items()}
    finally:
        torch.set_default_dtype(before)


def write_random_weights(name: str, folder: Path) -> None:
    """Writes random weights of a model of the catalogue, in the files of its source.

    Raises:
        InputError: the model's architecture is unknown.
    """
    if name not in architectures():
        raise InputError(f"{name}: unknown architecture; expected a model of tcig/models/configs.")
    architecture, entry = architectures()[name], catalogue()[name]
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        networks = build_networks(architecture)
    if "pipeline" in architecture:
        _save_pipeline(architecture, networks, folder)
        return
    (network,) = networks.values()
    config = architecture["networks"]["model"]["config"]
    match entry.kind:
        case "diffusers":
            network.save_pretrained(folder, variant=architecture.get("variant"))
        case "vqgan":  # a Lightning checkpoint, as taming's
            target = {"target": "taming.models.vqgan.VQModel", "params": config}
            (folder / "model.yaml").write_text(yaml.safe_dump({"model": target}))
            torch.save({"state_dict": network.state_dict()}, folder / "last.ckpt")
        case "clip":
            _save_open_clip(config, network, folder)
        case "deeplabv3" | "inception":
            torch.save(network.state_dict(), folder / next(iter(entry.urls)))
        case "mask2former":
            from transformers import Mask2FormerImageProcessor

            network.save_pretrained(folder)
            size = {"height": 384, "width": 384}
            Mask2FormerImageProcessor(size=size).save_pretrained(folder)


def same_architecture(name: str) -> list[str]:
    """Returns the other models of the catalogue whose random weights are the same."""
    models = architectures().get(name, {}).get("models", [])
    return [other for other in models if other != name]


def _build(part: dict[str, Any]) -> Any:
    """Calls the class or function that a JSON file names with its configuration."""
    kind = resolve_name(part["class"])
    if config_class := getattr(kind, "config_class", None):  # of transformers
        return kind(config_class(**part["config"]))
    return kind(**part["config"])


def _save_pipeline(
    architecture: dict[str, Any], networks: dict[str, nn.Module], folder: Path
) -> None:
    from transformers import CLIPTokenizer

    write_clip_tokenizer(folder / "tokenizer")
    clip = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    parts = architecture["pipeline"]
    tokenizers = {
        name: clip if kind == "clip" else _t5_tokenizer()
        for name, kind in parts["tokenizers"].items()
    }
    kind = resolve_name(parts["class"])
    pipeline = kind(
        **networks, **tokenizers, **parts["options"], scheduler=_build(parts["scheduler"])
    )
    pipeline.save_pretrained(folder, variant=architecture.get("variant"))


def write_clip_tokenizer(folder: Path) -> None:
    """Writes the files of transformers' `CLIPTokenizer`, with open_clip's merges and ids."""
    folder.mkdir(parents=True, exist_ok=True)
    ranks = SimpleTokenizer().bpe_ranks
    merges = sorted(ranks, key=ranks.get)
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": CONTEXT_LENGTH,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _t5_tokenizer() -> Any:
    """Returns a T5 tokenizer with one token for each letter."""
    from transformers import T5Tokenizer

    letters = [(letter, -float(n)) for n, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz")]
    special = [(name, 0.0) for name in ("<pad>", "</s>", "<unk>")]
    return T5Tokenizer(vocab=special + letters, extra_ids=0)


def _save_open_clip(config: dict[str, Any], network: nn.Module, folder: Path) -> None:
    pixels = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    content = {"model_cfg": config, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
