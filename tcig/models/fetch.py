"""Fetches weights, checks every file, and locks what was fetched.

`lock.json` in the folder of weights has the source and revision of each model, and the size and
SHA-256 of each file. `tcig.data.download` downloads the files, because huggingface_hub 2.4.0 starts
a file again after an interruption.
"""

import datetime
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import requests
from filelock import FileLock
from huggingface_hub import get_token
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors.torch import save

from tcig.data.download import connect, discard, download
from tcig.data.files import InputError, read_file, sha256, write_whole
from tcig.models.sources import (
    MIRROR,
    Entry,
    Listing,
    RemoteFile,
    catalogue,
    entry_of,
    gated,
    list_files,
)

VARIABLE = "TCIG_WEIGHTS"
"""Environment variable: the folder of fetched weights; default: `tcig/weights` in the cache."""
PICKLES = {"last.ckpt", "diffusion_pytorch_model.bin"}
"""A VQGAN's files that are converted to safetensors."""
SHOWN = 1 << 20
"""Smallest size in bytes of a file that gets a progress bar (our choice)."""


class FileRecord(BaseModel):
    """Size and hash of a fetched file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class LockEntry(BaseModel):
    """One model's files, as they were when first fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """Hub id, address or folder."""
    revision: str | None
    """Commit of the hub."""
    fetched: str
    """Date."""
    files: dict[str, FileRecord]
    converted: dict[str, FileRecord] = {}
    """Files that were fetched, converted to safetensors and deleted."""


LOCK = TypeAdapter(dict[str, LockEntry])


def store() -> Path:
    """Returns the folder of all fetched weights."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(VARIABLE) or f"{cache}/tcig/weights").expanduser()


def place_of(name: str) -> Path:
    """Returns the folder of one model; it need not exist."""
    return store() / name.replace("/", "--")


def read_lock() -> dict[str, LockEntry]:
    """Reads the lock file: name of the model to entry.

    Raises:
        InputError: the file is damaged.
    """
    path = store() / "lock.json"
    try:
        return LOCK.validate_json(read_file(path)) if path.exists() else {}
    except ValidationError:
        raise InputError(
            f"{path} is not a lock file of weights; restore it, or move it away and fetch again."
        ) from None


def write_lock(name: str, entry: LockEntry) -> None:
    """Sets one model's entry; entries that other processes set meanwhile stay."""
    with FileLock(store() / ".lock"):
        entries = dict(sorted((read_lock() | {name: entry}).items()))
        write_whole(store() / "lock.json", LOCK.dump_json(entries, indent=2) + b"\n")


def present(name: str) -> Path | None:
    """Returns the folder of a fetched model; None if a file is missing or has another size."""
    entry, folder = read_lock().get(name), place_of(name)
    if entry is None:
        return None
    for file, record in entry.files.items():
        path = folder / file
        if not path.is_file() or path.stat().st_size != record.size:
            return None
    return folder


def verify(name: str) -> str:
    """Compares every byte of a fetched model with the lock file; "" if all is well."""
    entry = read_lock().get(name)
    if entry is None:
        return "it was not fetched"
    wrong = [f for f, record in entry.files.items() if not _intact(place_of(name) / f, record)]
    return f"missing or changed since the fetch: {', '.join(wrong)}" if wrong else ""


def fetch(
    name: str, source: str | None = None, revision: str | None = None, anew: bool = False
) -> Path:
    """Fetches a model unless all of its files are there; returns its folder.

    Files must equal those in the lock file; only their source may differ.

    Args:
        name: name of the catalogue, or the hub id of a pipeline or network of diffusers.
        source: hub id, address or folder to use instead of the model's own.
        revision: revision of the hub; default: the locked one, else the catalogue's or the newest.
        anew: forget what the lock file has, and accept other files.

    Raises:
        InputError: unknown name, unusable source, full disk, or files that differ from the lock.
    """
    if name not in catalogue() and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InputError(
            f"unknown model {name!r}; expected a name that `tcig weights list` shows, or a hub id "
            "ORG/NAME."
        )
    entry, folder = entry_of(name), place_of(name)
    locked = None if anew else read_lock().get(name)
    if locked and present(name):
        if revision not in (None, locked.revision):
            raise InputError(
                f"{name} is locked at revision {locked.revision}: --anew takes {revision} instead."
            )
        return folder
    if locked and revision is None and locked.source == (source or name):
        revision = locked.revision
    listing = list_files(entry, source, revision)
    token = get_token() if listing.revision else None
    with connect(folder, MIRROR if entry.urls else "HF_ENDPOINT", token) as session:
        if not anew and present(name):  # another process fetched it meanwhile
            return folder
        origin = hashlib.sha256(f"{listing.source}@{listing.revision}".encode()).hexdigest()
        staging = folder / f".fetch-{origin[:12]}"
        for other in set(folder.glob(".fetch-*")) - {staging}:
            shutil.rmtree(other)
        staging.mkdir(exist_ok=True)
        known = locked.files if locked else {}
        missing = {
            file: remote
            for file, remote in listing.files.items()
            if not (staging / file).exists()
            and (entry.kind == "vqgan" or not _intact(folder / file, known.get(file, remote)))
        }
        _check_space(entry, missing, staging)
        for file, remote in missing.items():
            try:
                _get(session, remote, staging / file)
            except requests.HTTPError as error:
                if listing.revision and error.response.status_code in (401, 403):
                    raise gated(entry, listing.source) from None
                raise
        try:
            _lock(entry, listing, locked, staging)
        except InputError:
            shutil.rmtree(staging)
            raise
        shutil.rmtree(staging)
    return folder


def adopt(name: str, source: str) -> None:
    """Locks the files in a model's folder as if they had been fetched from `source`.

    Raises:
        InputError: files are missing.
    """
    entry, folder = entry_of(name), place_of(name)
    _lock(entry, list_files(entry, str(folder))._replace(source=source), None, folder)


def _intact(path: Path, file: FileRecord | RemoteFile) -> bool:
    return bool(file.sha256) and path.is_file() and sha256(path).startswith(file.sha256)


def _check_space(entry: Entry, missing: Mapping[str, RemoteFile], staging: Path) -> None:
    """Prints what will be fetched, and refuses it if the disk is too small."""
    sizes = [remote.size for remote in missing.values()]
    need = entry.size or 0 if None in sizes else sum(sizes)
    need -= sum(path.stat().st_size for path in staging.rglob("*.part"))
    free = shutil.disk_usage(staging).free
    print(
        f"{entry.name}: {_gb(need)} in {len(missing)} files to {staging.parent} ({_gb(free)} free; "
        f"licence: {entry.licence})",
        file=sys.stderr,
    )
    if need > free:
        raise InputError(
            f"{entry.name} needs {_gb(need)}, {staging.parent} has {_gb(free)} free: make room, or "
            f"choose another folder by {VARIABLE}."
        )


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def _get(session: requests.Session, remote: RemoteFile, path: Path) -> None:
    """Downloads or copies a file, and compares it with what its source states."""
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if Path(remote.place).is_file():
        shutil.copyfile(remote.place, part)
    else:
        download(session, remote.place, part, remote.size is None or remote.size >= SHOWN)
    size = part.stat().st_size
    if remote.size not in (None, size) or not sha256(part).startswith(remote.sha256 or ""):
        discard(part)
        raise InputError(
            f"{remote.place} is not what its source says it is ({size} bytes, SHA-256 or size "
            "differ); run the same command again, or give another --source."
        )
    part.replace(path)
    discard(part)


def _lock(entry: Entry, listing: Listing, locked: LockEntry | None, staging: Path) -> None:
    """Compares files with the lock file, converts pickles, moves all into place, locks them."""
    folder = place_of(entry.name)
    files = {
        file: _record(staging / file if (staging / file).exists() else folder / file)
        for file in listing.files
    }
    known = locked.files | locked.converted if locked else files
    if changed := [file for file in files if files[file] != known.get(file)]:
        raise InputError(
            f"{entry.name}: {changed[0]} from {listing.source} is not what was fetched on "
            f"{locked.fetched} from {locked.source} (SHA-256 in {store() / 'lock.json'}); give the "
            "source that still has it, or --anew to take the new one and forget the old."
        )
    pickles = {}
    if entry.kind == "vqgan":
        path = _convert(entry, listing.source, staging)
        pickles = {file: files.pop(file) for file in PICKLES & files.keys()}
        files[path.name] = _record(path)
    for file in files:
        if (staging / file).exists():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (staging / file).replace(folder / file)
    if earlier := read_lock().get(entry.name):  # loaders could take its files for this one's
        for file in earlier.files.keys() - files.keys():
            (folder / file).unlink(missing_ok=True)
    day = datetime.date.today().isoformat()
    origin = {"source": listing.source, "revision": listing.revision, "fetched": day}
    write_lock(entry.name, LockEntry(**origin, files=files, converted=pickles))
    for file in pickles:
        (staging / file).unlink()


def _record(path: Path) -> FileRecord:
    return FileRecord(size=path.stat().st_size, sha256=sha256(path))


def _convert(entry: Entry, source: str, folder: Path) -> Path:
    """Checks a VQGAN, and writes its weights as safetensors if they are pickled."""
    from tcig.models.vqgan import load_vqgan

    model = load_vqgan(folder)
    if entry.codes not in (None, len(model.codebook)):
        raise InputError(
            f"{source} has a codebook of {len(model.codebook)}, {entry.name} has {entry.codes}: "
            "give another --source."
        )
    taming = (folder / "model.yaml").exists()
    path = folder / ("model.safetensors" if taming else "diffusion_pytorch_model.safetensors")
    if not path.exists():
        write_whole(path, save(model.state_dict()))
    return path
