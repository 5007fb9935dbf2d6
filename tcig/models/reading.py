"""Reading folders in diffusers' layout, quietly and with one sentence for what is wrong."""

import contextlib
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_log
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_log

from tcig.data.errors import InputError


def read_part(folder: Path, kind: type, dtype: torch.dtype):
    """A part of the model; a network has every one of its tensors from the file."""
    if kind is CLIPTokenizer:
        return kind.from_pretrained(folder)
    options = {"use_safetensors": True, "output_loading_info": True, "variant": variant_of(folder)}
    module, loading = kind.from_pretrained(folder, dtype=dtype, **options)
    if loading["missing_keys"]:
        raise ValueError(f"the weights lack {sorted(loading['missing_keys'])[0]}")
    return module


def variant_of(folder: Path) -> str | None:
    """`fp16` where a folder has its weights in that variant alone."""
    names = [path.name for path in folder.glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


@contextlib.contextmanager
def refused(what: str):
    """Turns whatever the libraries raise on unusable files into one sentence."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"{what} cannot be loaded ({reason[:300]}).") from None


@contextlib.contextmanager
def quiet():
    """Without the bars that transformers and diffusers show while they read weights from disk."""
    libraries = [
        each for each in (diffusers_log, transformers_log) if each.is_progress_bar_enabled()
    ]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()
