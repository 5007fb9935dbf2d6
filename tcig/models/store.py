"""The folder of fetched weights and its lock file: what was fetched first is used ever after.

The folder is `TCIG_WEIGHTS`, else `tcig/weights` in the user's cache. `lock.json` in it has, of
every model, the source, its revision, and size and SHA-256 of every file. Copied to another machine
it makes that one take the same files or refuse.
"""

import json
import os
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from tcig.data.errors import InputError
from tcig.data.files import read_json, sha256, write_whole

VARIABLE = "TCIG_WEIGHTS"
"""Environment variable: the folder."""


class Stored(BaseModel):
    """One file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Locked(BaseModel):
    """One model's files, as they were when first fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """Hub id, address or folder."""
    revision: str | None
    """Commit of the hub."""
    fetched: str
    """Day."""
    files: dict[str, Stored]
    converted: dict[str, Stored] = {}
    """Files that were fetched, then made into safetensors and not kept."""

    @property
    def size(self) -> int:
        """Bytes of the files that are kept."""
        return sum(file.size for file in self.files.values())


def store() -> Path:
    """The folder of all fetched weights."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(VARIABLE) or f"{cache}/tcig/weights").expanduser()


def place_of(name: str) -> Path:
    """The folder of one model's files, whether or not it is there."""
    return store() / name.replace("/", "--")


def read_lock() -> dict[str, Locked]:
    """What the lock file has, by name.

    Raises:
        InputError: it is damaged.
    """
    path = store() / "lock.json"
    if not path.exists():
        return {}
    try:
        content = read_json(path)
        return {name: Locked.model_validate(entry) for name, entry in content.items()}
    except (InputError, AttributeError, ValidationError):
        raise InputError(
            f"{path} is no lock file of weights: restore it, or move it away and fetch again."
        ) from None


def write_lock(name: str, locked: Locked) -> None:
    """Sets one model's entry; entries that other processes set meanwhile stay."""
    with FileLock(store() / ".lock"):
        entries = read_lock() | {name: locked}
        content = {key: entries[key].model_dump() for key in sorted(entries)}
        write_whole(store() / "lock.json", json.dumps(content, indent=2) + "\n")


def lacking(folder: Path, locked: Locked) -> list[str]:
    """Files that are not there in their size, the cheap part of `faults`."""
    return [
        name
        for name, file in locked.files.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != file.size
    ]


def present(name: str) -> Path | None:
    """The folder of a fetched model, None where it was not fetched or lacks a file."""
    locked = read_lock().get(name)
    folder = place_of(name)
    return folder if locked and not lacking(folder, locked) else None


def faults(name: str) -> list[str]:
    """What is wrong with a fetched model, a phrase each; reads every byte."""
    locked = read_lock()[name]
    folder = place_of(name)
    short = lacking(folder, locked)
    found = [
        f"{each} is cut" if (folder / each).exists() else f"{each} is missing" for each in short
    ]
    for each, file in locked.files.items():
        if each not in short and sha256(folder / each) != file.sha256:
            found.append(f"{each} has another content than when it was fetched")
    return found
