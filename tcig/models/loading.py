"""Reads folders in diffusers' layout, and networks that steer a UNet; a problem is one sentence."""

import contextlib
from pathlib import Path

import torch
from diffusers import ControlNetModel, T2IAdapter
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

from tcig.data.files import InputError
from tcig.models.devices import PLAIN, Compute, kept
from tcig.models.weights import locate, refused

CONTROLS = {"controlnet": ControlNetModel, "t2i-adapter": T2IAdapter}


def read_part(folder: Path, kind: type, dtype: torch.dtype):
    """Reads one part of a pipeline; a network must have every tensor in the file."""
    if kind is CLIPTokenizer:
        return kind.from_pretrained(folder)
    options = {"use_safetensors": True, "output_loading_info": True, "variant": variant_of(folder)}
    module, loading = kind.from_pretrained(folder, dtype=dtype, **options)
    if loading["missing_keys"]:
        raise ValueError(f"the weights lack {sorted(loading['missing_keys'])[0]}")
    return module


def variant_of(folder: Path) -> str | None:
    """Returns `fp16` if all weights in a folder are of that variant."""
    names = [path.name for path in folder.glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


@contextlib.contextmanager
def quiet():
    """Hides the progress bars of transformers and diffusers while they read weights."""
    libraries = [
        each for each in (diffusers_logging, transformers_logging) if each.is_progress_bar_enabled()
    ]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()


@kept
def load_control(source: str, kind: str, compute: Compute = PLAIN) -> nn.Module:
    """Loads a network in diffusers' layout, in evaluation mode, without gradients.

    It stays on the device even with `offload`, because the UNet needs it at every step.

    Args:
        source: `mini:NAME`, a folder, or a hub id.
        kind: a key of `CONTROLS`.
        compute: device, dtype and memory format.

    Raises:
        InputError: the folder is not such a network, or does not load.
    """
    folder, wanted = locate(source), CONTROLS[kind]
    if not (folder / "config.json").is_file():
        raise InputError(f"{source} lacks config.json: the folder of one {wanted.__name__} has it.")
    with quiet(), refused(f"{source}: {wanted.__name__}"):
        network = read_part(folder, wanted, compute.dtype)
    network.eval().requires_grad_(False).to(compute.device)
    return network.to(memory_format=compute.memory_format)
