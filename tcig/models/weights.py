"""Finds weights (shipped, in a folder, or fetched), identifies them, and reads checkpoints."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tcig.data.files import InputError, sha256
from tcig.models.fetch import fetch, read_lock
from tcig.models.mini import WEIGHTS
from tcig.models.sources import catalogue

MINIATURE = "mini:"
"""Prefix of a shipped model's name, as in `mini:stable-diffusion`."""


def local(source: str | Path) -> Path | None:
    """Returns the folder of `mini:NAME` or of a path; None for a hub id or a catalogue's name.

    Raises:
        InputError: unknown miniature model, or a path that is not a folder.
    """
    source = str(source)
    if source.startswith(MINIATURE):
        name = source.removeprefix(MINIATURE)
        folder = WEIGHTS / name
        if not name or not folder.is_dir():
            known = ", ".join(sorted(path.name for path in WEIGHTS.iterdir() if path.is_dir()))
            raise InputError(f"unknown miniature model {source!r}; available: {known}.")
        return folder
    try:
        folder = Path(source).expanduser()
    except RuntimeError:  # ~ of an unknown user
        folder = None
    if source and folder and folder.is_dir():
        return folder
    if source in catalogue() or re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        return None
    raise InputError(f"weights {source!r} not found; expected a folder, mini:NAME or a hub id.")


def locate(source: str | Path) -> Path:
    """Returns the folder of weights, and fetches them if they are missing.

    Raises:
        InputError: see `local` and `tcig.models.fetch.fetch`.
    """
    return local(source) or fetch(str(source))


def identity_of(source: str | Path) -> str:
    """Returns name, revision and a hash of the files' hashes of a fetched model; else `hash_of`.

    Raises:
        InputError: see `locate`.
    """
    folder = locate(source)
    if local(source):
        return hash_of(folder)
    entry = read_lock()[str(source)]
    files = {name: file.sha256 for name, file in entry.files.items()}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return f"{source}@{entry.revision or '-'} {digest}"


def hash_of(folder: Path) -> str:
    """Returns a SHA-256 of the names and contents of all files below `folder`.

    It follows links to files and folders, and skips hidden files and folders, as no loader reads
    them.
    """
    files, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [each for each in folders if real not in seen and not each.startswith(".")]
        seen.add(real)
        files += [Path(place, name) for name in names if not name.startswith(".")]
    files = sorted(path for path in files if path.is_file())
    lines = [f"{path.relative_to(folder).as_posix()} {sha256(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_state(path: Path, allowed: Sequence = ()) -> dict[str, Tensor]:
    """Reads the tensors of a `.safetensors` file or of a torch checkpoint, without unpickling.

    Args:
        path: the file.
        allowed: classes that a checkpoint may hold besides tensors, see
            `torch.serialization.safe_globals`.

    Raises:
        InputError: the file cannot be read.
    """
    with refused(f"{path}", "cannot be read as weights"):
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)


def fill(network: nn.Module, state: dict[str, Tensor], source: Path | str) -> None:
    """Loads tensors into a network; their names must be exactly those of the network.

    Raises:
        InputError: the tensors do not fit; the message names `source`.
    """
    with refused(f"{source}", "does not fit the network"):
        nn.Module.load_state_dict(network, state)  # whatever the network overrides


@contextmanager
def refused(what: str, failure: str = "cannot be loaded") -> Iterator[None]:
    """Turns whatever the libraries raise on unusable files into one sentence.

    Raises:
        InputError: the sentence, with `what`, `failure`, and the first sentence of the error.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if held := re.search(r"GLOBAL (\S+)", text):  # of torch, in many sentences
            text = f"it holds {held[1]} and only tensors are read, so save its state_dict alone"
        reason = text.partition(". ")[0].rstrip(".")[:300] or type(error).__name__
        raise InputError(f"{what} {failure} ({reason}).") from None
