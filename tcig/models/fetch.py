"""Fetches weights into the store: disk need first, resumed, every file checked, then locked."""

import datetime
import os
import re
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

import huggingface_hub
from huggingface_hub import try_to_load_from_cache
from safetensors.torch import save_file

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.data.transfer import RefusedError, discard, download, open_session, writing
from tcig.models.catalogue import Entry, catalogue, entry_of
from tcig.models.sources import HUB, MIRROR, Listing, Remote, gated, list_files
from tcig.models.store import Locked, Stored, lacking, place_of, read_lock, store, write_lock

UNDER_WAY = ".source"
"""File in a model's folder while it is fetched: from where, then the names of its files."""
SHOWN = 1 << 20
"""Bytes from which on a file has a progress bar; ours."""


def fetch(
    name: str, source: str | None = None, revision: str | None = None, anew: bool = False
) -> Path:
    """Makes sure that the store has a model; gives its folder.

    What the lock file has of it must be found again, file by file; only the source may differ.

    Args:
        name: of the catalogue, or any hub id of a pipeline of diffusers'.
        source: hub id, address or folder in place of the entry's own.
        revision: of the hub, in place of the locked one or the newest.
        anew: forget what the lock file has of it.

    Raises:
        InputError: no such name, it cannot be had, the disk is too small, or the files are others
            than before.
    """
    if name not in catalogue() and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InputError(
            f"unknown model {name!r}; expected a name that `tcig weights list` shows, or a hub id "
            "ORG/NAME."
        )
    entry, folder = entry_of(name), place_of(name)
    locked = None if anew else read_lock().get(name)
    if locked and not lacking(folder, locked):
        if revision not in (None, locked.revision):
            raise InputError(
                f"{name} is locked at revision {locked.revision}: --anew takes {revision} instead."
            )
        return folder
    if revision is None and locked and locked.source == (source or name):
        revision = locked.revision
    listing = list_files(entry, source, revision)
    with writing(folder, MIRROR if entry.urls else HUB):
        marker, origin = folder / UNDER_WAY, f"{listing.source}@{listing.revision}"
        before, *started = marker.read_text().splitlines() if marker.exists() else [""]
        resumed = before == origin
        _remove(folder, set(started) - set(listing.files))  # of a fetch from elsewhere
        marker.write_text("\n".join([origin, *listing.files]))
        pending = {
            name: remote
            for name, remote in listing.files.items()
            if not _kept(folder / name, name, remote, locked, resumed)
        }
        _state(entry, folder, pending)
        for file, remote in pending.items():
            _get(entry, listing, file, remote, folder / file)
        _adopt(entry, listing, locked)
    return folder


def adopt(name: str, source: str) -> None:
    """Locks the files that lie in a model's folder of the store, as if fetched from `source`.

    Raises:
        InputError: they are not those of such a model.
    """
    entry, folder = entry_of(name), place_of(name)
    listing = list_files(entry, str(folder))
    _adopt(entry, listing._replace(source=source), None)


def _adopt(entry: Entry, listing: Listing, locked: Locked | None) -> None:
    folder = place_of(entry.name)
    found = _lock_of(listing, folder)
    _compare(entry.name, found, locked)
    if earlier := read_lock().get(entry.name):  # whose files loaders could take for this one's
        _remove(folder, (earlier.files | earlier.converted).keys() - found.files.keys())
    _remove(folder, {UNDER_WAY})
    made = _converted(entry, found, folder)
    write_lock(entry.name, made)
    for each in made.converted:
        (folder / each).unlink()


def _remove(folder: Path, names: Collection[str]) -> None:
    """Removes files that a fetch put into a model's folder; what others put there stays."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
        discard(_part(folder / name))


def _kept(path: Path, name: str, remote: Remote, locked: Locked | None, resumed: bool) -> bool:
    """Whether the store has this file whole; by its hash, or from an interrupted fetch alike."""
    known = (locked and (locked.files | locked.converted).get(name)) or None
    wanted = known.sha256 if known else remote.sha256
    if not path.is_file() or (remote.size is not None and path.stat().st_size != remote.size):
        return False
    return resumed if wanted is None else sha256(path).startswith(wanted)


def _state(entry: Entry, folder: Path, pending: dict[str, Remote]) -> None:
    """Says what will be fetched, and refuses what the disk cannot hold."""
    sizes = [remote.size for remote in pending.values()]
    need = entry.size or 0 if None in sizes else sum(sizes)
    started = sum(p.stat().st_size for n in pending if (p := _part(folder / n)).exists())
    free = shutil.disk_usage(folder).free
    if pending:
        print(
            f"{entry.name}: {_gb(need)} in {len(pending)} files to {folder} ({_gb(free)} free"
            f"{f', {_gb(started)} already there' if started else ''}; licence: {entry.licence})",
            file=sys.stderr,
        )
    if need - started > free:
        raise InputError(
            f"{entry.name} needs {_gb(need - started)}, {folder} has {_gb(free)} free: make room, "
            "or choose another folder by TCIG_WEIGHTS."
        )


def _get(entry: Entry, listing: Listing, name: str, remote: Remote, path: Path) -> None:
    """One file, checked against what its source says of it."""
    part = _part(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if listing.revision is None and Path(remote.place).is_file():
        shutil.copyfile(remote.place, part)
    elif cached := _cached(listing, name):
        shutil.copyfile(cached, part)
    else:
        token = huggingface_hub.get_token() if listing.revision else None
        show = remote.size is None or remote.size >= SHOWN
        with open_session(token) as session:
            try:
                download(session, remote.place, part, MIRROR if entry.urls else HUB, show)
            except RefusedError as error:
                if listing.revision and error.status in (401, 403):
                    raise InputError(gated(entry, listing.source)) from None
                raise
    size = part.stat().st_size
    if remote.size not in (None, size) or not sha256(part).startswith(remote.sha256 or ""):
        discard(part)
        raise InputError(
            f"{remote.place} is not what its source says it is ({size} bytes, SHA-256 or size "
            "differ): run the same command again, or give another --source."
        )
    part.replace(path)
    discard(part)


def _cached(listing: Listing, name: str) -> str | None:
    """The same file in huggingface_hub's own cache, where other tools put it."""
    if not listing.revision:
        return None
    found = try_to_load_from_cache(listing.source, name, revision=listing.revision)
    return found if isinstance(found, str) else None


def _lock_of(listing: Listing, folder: Path) -> Locked:
    files = {
        name: Stored(size=(folder / name).stat().st_size, sha256=sha256(folder / name))
        for name in listing.files
    }
    day = datetime.date.today().isoformat()
    return Locked(source=listing.source, revision=listing.revision, fetched=day, files=files)


def _compare(name: str, found: Locked, locked: Locked | None) -> None:
    """Refuses other files than were locked."""
    if locked is None:
        return
    before = locked.files | locked.converted
    differing = [n for n, file in found.files.items() if before.get(n) != file]
    if differing:
        for each in differing:
            (place_of(name) / each).unlink()
        raise InputError(
            f"{name}: {differing[0]} from {found.source} is not what was fetched on "
            f"{locked.fetched} from {locked.source} (SHA-256 in {store() / 'lock.json'}): give the "
            "source that still has it, or --anew to take the new one and forget the old."
        )


def _converted(entry: Entry, found: Locked, folder: Path) -> Locked:
    """A VQGAN's pickled checkpoint made into safetensors, once; the codebook checked."""
    if entry.kind != "vqgan":
        return found
    from tcig.models.vqgan import load_vqgan

    model = load_vqgan(folder)
    if entry.codes not in (None, len(model.codebook)):
        raise InputError(
            f"{found.source} has a codebook of {len(model.codebook)}, {entry.name} has "
            f"{entry.codes}: give another --source."
        )
    pickled = [name for name in found.files if name.endswith((".ckpt", ".bin"))]
    if not pickled:
        return found
    taming = "model.yaml" in found.files
    name = "model.safetensors" if taming else "diffusion_pytorch_model.safetensors"
    draft = folder / f".{name}.{os.getpid()}.part"
    save_file(model.state_dict(), draft)
    draft.replace(folder / name)
    kept = {n: file for n, file in found.files.items() if n not in pickled}
    kept[name] = Stored(size=(folder / name).stat().st_size, sha256=sha256(folder / name))
    converted = {each: found.files[each] for each in pickled}
    return found.model_copy(update={"files": kept, "converted": converted})


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
