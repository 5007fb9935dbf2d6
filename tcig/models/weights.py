"""Where weights are: shipped with the package, in a folder, or in the store of fetched ones."""

import hashlib
import json
import os
import re
from pathlib import Path

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.models.catalogue import catalogue
from tcig.models.fetch import fetch
from tcig.models.mini import WEIGHTS
from tcig.models.store import read_lock

MINIATURE = "mini:"
"""Prefix of a shipped model's name, as in `mini:stable-diffusion`."""


def local(source: str | Path) -> Path | None:
    """The folder of `mini:NAME` or of a path; None for what is fetched: a hub id or a name of the
    catalogue.

    Raises:
        InputError: no such shipped model, or a path that is no folder.
    """
    source = str(source)
    if source.startswith(MINIATURE):
        name = source.removeprefix(MINIATURE)
        folder = WEIGHTS / name
        if not name or not folder.is_dir():
            there = ", ".join(sorted(path.name for path in WEIGHTS.iterdir() if path.is_dir()))
            raise InputError(f"no miniature model {source!r}: there are {there}.")
        return folder
    try:
        folder = Path(source).expanduser()
    except RuntimeError:  # ~ of an unknown user
        folder = None
    if source and folder and folder.is_dir():
        return folder
    if source in catalogue() or re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        return None
    raise InputError(f"no folder {source!r} of weights: give a folder, mini:NAME or a hub id.")


def locate(source: str | Path) -> Path:
    """The folder of `mini:NAME`, of a path, or of a model of the store, fetched where it lacks.

    Raises:
        InputError: see `local` and `tcig.models.fetch.fetch`.
    """
    return local(source) or fetch(str(source))


def identity_of(source: str | Path) -> str:
    """Of a fetched model its name, revision and a hash of its files' hashes; else `hash_of`.

    Raises:
        InputError: see `locate`.
    """
    folder = locate(source)
    if local(source):
        return hash_of(folder)
    locked = read_lock()[str(source)]
    files = {name: file.sha256 for name, file in locked.files.items()}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return f"{source}@{locked.revision or '-'} {digest}"


def hash_of(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below `folder`.

    Links are followed, also to folders. Hidden files and folders do not count, as no loader reads
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
