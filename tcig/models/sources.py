"""The catalogue of all weights that the profiles need, and the files of a model at its source."""

import os
import re
import tomllib
from collections.abc import Collection
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple
from urllib.parse import quote

from huggingface_hub import HfApi, constants, errors, get_session, try_to_load_from_cache
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status
from pydantic import BaseModel, ConfigDict, Field

from tcig.data.download import TIMEOUT
from tcig.data.files import InputError, parse_json, read_file

MIRROR = "TCIG_WEIGHTS_MIRROR"
"""Environment variable: a server with NAME/FILE for the catalogue's files that have addresses."""
FILES = {
    "clip": [("open_clip_config.json", "open_clip_model.safetensors")],
    "mask2former": [("config.json", "preprocessor_config.json", "model.safetensors")],
    "vqgan": [
        ("model.yaml", "model.safetensors"),
        ("model.yaml", "last.ckpt"),
        ("config.json", "diffusion_pytorch_model.safetensors"),
        ("config.json", "diffusion_pytorch_model.bin"),
    ],
}
"""Alternative sets of files of each kind of model, in order of preference."""
WITHOUT = ("safety_checker", "watermarker")
"""Parts of pipelines that no row uses by default."""
INDEX = "model_index.json"
PLAIN = r"(.*/)?(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"
HALF = r".*\bfp16\b.*\.safetensors|.*\.index\.fp16\.json"


class Entry(BaseModel):
    """One model of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Hub id, or a name of our own for files that have addresses."""
    kind: Literal["diffusers", "vqgan", "clip", "deeplabv3", "mask2former", "inception"]
    what: str = ""
    size: int | None = None
    """Approximate size of the download in bytes."""
    licence: str = "unknown"
    preprocessing: str = ""
    gated: bool = False
    """Whether the licence must be accepted on the hub first."""
    revision: str | None = None
    """Commit or branch of the hub; None: the newest of the main branch."""
    urls: dict[str, str] = {}
    """File to address; empty for a hub id."""
    sha256: dict[str, str] = {}
    """File to hash, or to its first digits, where a source states them."""
    without: tuple[str, ...] = ()
    """Parts of the pipeline that are not needed."""
    codes: int | None = Field(None, gt=0)
    """Size of a VQGAN's codebook."""
    mirrors: tuple[str, ...] = ()
    """Other hub ids of the same weights."""
    renamed: dict[str, dict[str, str]] = {}
    """Mirror to file to path in that repository, where it differs."""


@cache
def catalogue() -> dict[str, Entry]:
    """Returns all entries by name, in the order of the file."""
    text = Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8")
    return {name: Entry(name=name, **entry) for name, entry in tomllib.loads(text).items()}


def entry_of(name: str) -> Entry:
    """Returns the catalogue's entry; any other hub id is a pipeline or network of diffusers."""
    return catalogue().get(name) or Entry(name=name, kind="diffusers")


class RemoteFile(NamedTuple):
    """A file that a source offers, with its size and hash (or first digits) if stated."""

    place: str
    """Address, or path on this machine."""
    size: int | None = None
    sha256: str | None = None


class Listing(NamedTuple):
    """The needed files of a source; only the hub has a revision, a commit."""

    source: str
    revision: str | None
    files: dict[str, RemoteFile]


def list_files(entry: Entry, source: str | None = None, revision: str | None = None) -> Listing:
    """Lists the needed files that a source offers.

    Args:
        entry: the model.
        source: a folder, an address or a hub id; default: the model's own.
        revision: commit, branch or tag of the hub; default: the catalogue's, else the newest.

    Raises:
        InputError: the source lacks files or cannot be reached.
    """
    if source is not None and Path(source).expanduser().is_dir():
        return _list_folder(entry, Path(source).expanduser())
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"{entry.name} is not in the folder of weights, and HF_HUB_OFFLINE forbids fetching "
            "it; unset it, or give a folder as --source."
        )
    if source is None and entry.urls:
        mirror = os.environ.get(MIRROR)
        return _list_addresses(entry, mirror and f"{mirror.rstrip('/')}/{quote(entry.name)}")
    if source is None:
        return _list_hub(entry, entry.name, revision or entry.revision)
    if re.match("https?://", source):
        return _list_addresses(entry, source.rstrip("/"))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise InputError(f"--source {source!r} is not a folder, a URL or a hub id.")
    return _list_hub(entry, source, revision)


def _list_folder(entry: Entry, folder: Path) -> Listing:
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    index = read_file(folder / INDEX) if INDEX in paths else b""
    files = {
        name: RemoteFile(str(folder / name), (folder / name).stat().st_size, entry.sha256.get(name))
        for name in needed_files(entry, paths, index, str(folder))
    }
    return Listing(str(folder.resolve()), None, files)


def _list_addresses(entry: Entry, base: str | None) -> Listing:
    """The files of an entry at `base`, or else at their own addresses."""
    names = list(entry.urls) or FILES.get(entry.kind, [()])[0]
    if not names:
        raise InputError(
            f"{entry.name} cannot be fetched from an address, which does not list its files; give "
            "a hub id or a folder, or another hub by HF_ENDPOINT."
        )
    files = {}
    for name in names:
        place = f"{base}/{quote(name)}" if base else entry.urls[name]
        files[name] = RemoteFile(place, None, entry.sha256.get(name))
    return Listing(base or place, None, files)


def _list_hub(entry: Entry, repository: str, revision: str | None) -> Listing:
    """The files of a repository, each on the hub or in huggingface_hub's cache."""
    try:
        info = HfApi().model_info(
            repository, revision=revision, files_metadata=True, timeout=TIMEOUT
        )
        base = f"{constants.ENDPOINT}/{repository}/resolve/{info.sha}"
        siblings = {sibling.rfilename: sibling for sibling in info.siblings}
        index = b""
        if INDEX in siblings:
            response = get_session().get(
                f"{base}/{INDEX}", headers=build_hf_headers(), timeout=TIMEOUT
            )
            hf_raise_for_status(response)
            index = response.content
    except Exception as error:  # the client raises nearly anything without a network
        raise _refusal(entry, repository, revision, error) from None
    renamed = entry.renamed.get(repository, {})
    available = [*siblings, *(name for name, path in renamed.items() if path in siblings)]
    files = {}
    for name in needed_files(entry, available, index, repository):
        path = renamed.get(name, name)
        cached = try_to_load_from_cache(repository, path, revision=info.sha)
        place = cached if isinstance(cached, str) else f"{base}/{quote(path)}"
        lfs = siblings[path].lfs
        files[name] = RemoteFile(place, siblings[path].size, lfs.sha256 if lfs else None)
    return Listing(repository, info.sha, files)


def _refusal(entry: Entry, repository: str, revision: str | None, error: Exception) -> InputError:
    """The sentence for an error of the hub."""
    hub = constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        return gated(entry, repository)
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{repository} has no revision {revision} on {hub}.")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        others = [name for name in (entry.name, *entry.mirrors) if name != repository]
        known = f"; other copies: {', '.join(others)}" if others else ""
        return InputError(
            f"{repository} is not on {hub}, or needs a token (HF_TOKEN); give a hub id or a folder "
            f"as --source{known}."
        )
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return InputError(
        f"{hub} gives no answer about {repository} ({reason}): check the network and HF_ENDPOINT, "
        "then run the same command again."
    )


def gated(entry: Entry, repository: str) -> InputError:
    """Returns the error for a model whose licence was not accepted."""
    return InputError(
        f"{repository} is gated: accept its licence ({entry.licence}) at "
        f"{constants.ENDPOINT}/{repository}, then set HF_TOKEN or run `hf auth login`."
    )


def needed_files(entry: Entry, paths: Collection[str], index: bytes, source: str) -> list[str]:
    """Returns the files of a source that a model needs.

    These are the settings and the safetensors of a network of diffusers or of each part of a
    pipeline, in fp16 if available, or one of the sets in `FILES`.

    Args:
        entry: the model.
        paths: all files of the source.
        index: content of the source's `model_index.json`, if it has one.
        source: named in error messages.

    Raises:
        InputError: a needed file is missing.
    """
    if entry.kind != "diffusers":
        choices = FILES.get(entry.kind, [tuple(entry.urls)])
        for files in choices:
            if set(files) <= set(paths):
                return list(files)
        expected = " or ".join(", ".join(files) for files in choices)
        raise InputError(f"{source} lacks files of {entry.name}; expected {expected}.")
    if INDEX not in paths and "config.json" in paths:
        return ["config.json", *_weights("", paths, source)]
    files = [INDEX]
    for part in _parts(entry, index, source):
        settings = rf"{part}/[^/]*\.(json|txt|model)"
        files += [p for p in paths if re.fullmatch(settings, p) and ".index." not in p]
        files += _weights(part, paths, source)
    return files


def _parts(entry: Entry, index: bytes, source: str) -> list[str]:
    """The needed parts of a pipeline; their names are those of folders."""
    try:
        parts = [
            part
            for part, kind in parse_json(index, INDEX).items()
            if isinstance(kind, list) and kind and kind[0] and part not in WITHOUT + entry.without
        ]
    except (InputError, AttributeError):
        parts = []
    if not parts:
        raise InputError(f"{source} is not a pipeline of diffusers: {INDEX} is missing or empty.")
    for part in parts:
        if not re.fullmatch(r"\w+", part, re.ASCII):
            raise InputError(f"{source}: {INDEX} has the part {part!r}; expected a name.")
    return parts


def _weights(part: str, paths: Collection[str], source: str) -> list[str]:
    """Safetensors of a part, or of a network at the root (""); a tokenizer has none."""
    files = [path for path in paths if PurePosixPath(path).parent == PurePosixPath(part)]
    weights = [path for path in files if re.fullmatch(HALF, path)]
    weights = weights or [path for path in files if re.fullmatch(PLAIN, path)]
    if not files or (not weights and any(path.endswith((".bin", ".ckpt")) for path in files)):
        what = f" of {part}" if part else ""
        raise InputError(f"{source} has no safetensors{what}; nothing else is loaded.")
    return weights
