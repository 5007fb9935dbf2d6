"""Where weights are: shipped with the package, in a folder, or on the hub."""

import hashlib
from pathlib import Path

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.models.mini.segmenters import WEIGHTS

MINIATURE = "mini:"
"""Prefix of a shipped model's name, as in `mini:stable-diffusion`."""


def locate(source: str) -> str:
    """The folder of `mini:NAME` or of a path, or the hub id that `source` then is.

    Raises:
        InputError: no such shipped model, or a path that is no folder.
    """
    if source.startswith(MINIATURE):
        name = source.removeprefix(MINIATURE)
        folder = WEIGHTS / name
        if not name or not folder.is_dir():
            there = ", ".join(sorted(path.name for path in WEIGHTS.iterdir() if path.is_dir()))
            raise InputError(f"no miniature model {source!r}: there are {there}.")
        return str(folder)
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        try:
            folder = Path(source).expanduser()
        except RuntimeError:  # ~ of an unknown user
            folder = None
        if not source or folder is None or not folder.is_dir():
            raise InputError(
                f"no folder {source!r} of weights: give a folder, mini:NAME or a hub id."
            )
        return str(folder)
    return source


def folder_of(source: str) -> Path:
    """As `locate`, for models that are read from folders alone.

    Raises:
        InputError: it is no folder.
    """
    folder = Path(locate(source))
    if not folder.is_dir():
        raise InputError(f"no folder {source} of weights: give a folder or mini:NAME.")
    return folder


def identity_of(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder).as_posix()} {sha256(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
