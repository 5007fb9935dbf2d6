"""Reads checkpoints and folders in diffusers' layout; a problem becomes one sentence."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

from tcig.data.files import InputError


def read_state(path: Path, allowed: Sequence = ()) -> dict[str, Tensor]:
    """Reads the tensors of a `.safetensors` file or of a torch checkpoint, without unpickling.

    Args:
        path: the file.
        allowed: classes that a checkpoint may hold besides tensors, see
            `torch.serialization.safe_globals`.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything on a bad file
        held = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it holds {held[1]} and only tensors are read, so save its state_dict alone"
            if held
            else first_line(error)[:200].partition(". ")[0]
        )
        raise InputError(f"{path} cannot be read as weights ({reason}).") from None


def fill(network: nn.Module, state: dict[str, Tensor], source: Path | str) -> None:
    """Loads tensors into a network; their names must be exactly those of the network.

    Raises:
        InputError: the tensors do not fit; the message names `source`.
    """
    wanted = set(network.state_dict())
    given = {str(key) for key in state} if isinstance(state, dict) else set()
    if given != wanted:
        odd = sorted(wanted - given) or sorted(given - wanted)
        raise InputError(
            f"{source} does not fit the network: {len(wanted - given)} of {len(wanted)} tensors "
            f"are missing and {len(given - wanted)} unknown ({odd[0]} first)."
        )
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{source} does not fit the network: {reason.rstrip('.')}.") from None


def first_line(error: Exception) -> str:
    """Returns the first line of the error's message, or the name of its type."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


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
def refused(what: str):
    """Turns whatever the libraries raise on unusable files into one sentence."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".") or type(error).__name__
        raise InputError(f"{what} cannot be loaded ({reason[:300]}).") from None


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
