"""Checkpoint files read without unpickling, and put into the network that they must fit."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tcig.data.errors import InputError


def read_state(path: Path, allowed: Sequence = ()) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, or of a checkpoint of torch's that holds nothing else.

    Args:
        path: the file.
        allowed: classes that a checkpoint may hold beside tensors, see
            `torch.serialization.safe_globals`.

    Raises:
        InputError: it cannot be read as such.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything on what is no checkpoint
        held = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it holds {held[1]} and only tensors are read, so save its state_dict alone"
            if held
            else first_line(error)[:200].partition(". ")[0]
        )
        raise InputError(f"{path} cannot be read as weights ({reason}).") from None


def fill(network: nn.Module, state: dict[str, Tensor], source: Path | str) -> None:
    """Loads tensors into a network, every one and no other.

    Raises:
        InputError: they do not fit; `source` is named.
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
    """Of its message, or its type's name."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
