"""What a source of weights has to offer: the hub, addresses, or a folder."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

import huggingface_hub
from huggingface_hub import errors

from tcig.data.errors import InputError
from tcig.data.files import parse_json
from tcig.data.transfer import TIMEOUT, open_session
from tcig.models.catalogue import Entry

MIRROR = "TCIG_WEIGHTS_MIRROR"
"""Environment variable: a server that has NAME/FILE for the catalogue's files with addresses."""
HUB = "HF_ENDPOINT"
"""Environment variable of huggingface_hub's: another hub."""
OFFLINE = "HF_HUB_OFFLINE"
"""Environment variable of huggingface_hub's: nothing is fetched."""

LAYOUTS = {
    "clip": [("open_clip_config.json", "open_clip_model.safetensors")],
    "mask2former": [("config.json", "preprocessor_config.json", "model.safetensors")],
    "vqgan": [
        ("model.yaml", "model.safetensors"),
        ("model.yaml", "last.ckpt"),
        ("config.json", "diffusion_pytorch_model.safetensors"),
        ("config.json", "diffusion_pytorch_model.bin"),
    ],
}
"""Kind -> the sets of files that it may have, the better first."""
WITHOUT = ("safety_checker", "watermarker")
"""Parts of pipelines that no row uses by default."""


class Remote(NamedTuple):
    """A file that can be had: where, and what the source says of it."""

    place: str
    """Address, or path of a local file."""
    size: int | None = None
    sha256: str | None = None
    """Or its first digits."""


class Listing(NamedTuple):
    """What is fetched from one source: its revision, and file name -> file."""

    source: str
    revision: str | None
    files: dict[str, Remote]


def offline() -> bool:
    """Whether the user forbids the network."""
    return os.environ.get(OFFLINE, "").upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str:
    """The hub's address."""
    return (os.environ.get(HUB) or huggingface_hub.constants.ENDPOINT).rstrip("/")


def list_files(entry: Entry, source: str | None = None, revision: str | None = None) -> Listing:
    """The files of an entry that `source` has.

    Args:
        entry: as said.
        source: a folder, the address of one, or a hub id (default: the entry's own).
        revision: commit, branch or tag of the hub (default: of its own hub id the entry's, else the
            newest).

    Raises:
        InputError: the source has no such files, or cannot be asked.
    """
    if source is not None and Path(source).expanduser().is_dir():
        return _folder(entry, Path(source).expanduser())
    if offline():
        raise InputError(
            f"{entry.name} is not in the folder of weights, and {OFFLINE} forbids fetching it: "
            "unset it, or give a folder as --source."
        )
    if source is None and entry.urls:
        mirror = os.environ.get(MIRROR)
        base = mirror and f"{mirror.rstrip('/')}/{quote(entry.name)}"
        return _addresses(entry, base)
    if source is not None and re.match("https?://", source):
        return _addresses(entry, source.rstrip("/"))
    if source is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise InputError(f"--source {source} is no folder, no address and no hub id.")
    if source is None:
        return _hub(entry, entry.name, revision or entry.revision)
    return _hub(entry, source, revision)


def _addresses(entry: Entry, base: str | None) -> Listing:
    names = list(entry.urls) or list(LAYOUTS.get(entry.kind, [()])[0])
    if not names:
        raise InputError(
            f"{entry.name} cannot be fetched from an address, which does not list its files: give "
            f"a hub id or a folder, or another hub by {HUB}."
        )
    places = {n: f"{base}/{quote(n)}" if base else entry.urls[n] for n in names}
    files = {name: Remote(place, None, entry.sha256.get(name)) for name, place in places.items()}
    return Listing(base or entry.urls[names[-1]], None, files)


def _folder(entry: Entry, folder: Path) -> Listing:
    paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    index = folder / "model_index.json"
    chosen = choose(
        entry, paths, lambda: _index(index.read_bytes() if index.exists() else b""), str(folder)
    )
    files = {
        name: Remote(str(folder / name), (folder / name).stat().st_size, entry.sha256.get(name))
        for name in chosen
    }
    return Listing(str(folder.resolve()), None, files)


def _hub(entry: Entry, name: str, revision: str | None) -> Listing:
    try:
        api = huggingface_hub.HfApi(endpoint=endpoint(), token=huggingface_hub.get_token())
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT)
    except errors.GatedRepoError:
        raise InputError(gated(entry, name)) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{name} has no revision {revision} on {endpoint()}.") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        known = [mirror for mirror in (entry.name, *entry.mirrors) if mirror != name]
        hint = " or ".join(f"`tcig weights fetch {entry.name} --source {m}`" for m in known)
        raise InputError(
            f"{name} is not on {endpoint()}, or not without a token (HF_TOKEN): give a mirror or a "
            f"folder as --source{f', as {hint}' if hint else ''}."
        ) from None
    except Exception as error:  # whatever the hub's client raises without network
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(
            f"{endpoint()} gives no answer about {name} ({reason}): check the network and {HUB}, "
            "then run the same command again."
        ) from None
    base = f"{endpoint()}/{name}/resolve/{info.sha}"

    def index() -> dict:
        with open_session(huggingface_hub.get_token()) as session:
            answer = session.get(f"{base}/model_index.json", timeout=TIMEOUT)
        if answer.status_code in (401, 403):
            raise InputError(gated(entry, name))
        return _index(answer.content)

    siblings = {each.rfilename: each for each in info.siblings}
    renamed = entry.renamed.get(name, {})
    there = [*siblings, *(ours for ours, path in renamed.items() if path in siblings)]
    paths = {path: renamed.get(path, path) for path in choose(entry, there, index, name)}
    files = {
        ours: Remote(
            f"{base}/{quote(path)}",
            siblings[path].size,
            siblings[path].lfs.sha256 if siblings[path].lfs else None,
        )
        for ours, path in paths.items()
    }
    return Listing(name, info.sha, files)


def gated(entry: Entry, name: str) -> str:
    """The sentence for a model whose licence was not accepted."""
    return (
        f"{name} is gated: accept its licence ({entry.licence}) at {endpoint()}/{name}, then give "
        "your token as HF_TOKEN or by `hf auth login`."
    )


def _index(content: bytes) -> dict:
    """`model_index.json`; empty where it is none."""
    try:
        found = parse_json(content, "model_index.json")
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def choose(entry: Entry, paths: Sequence[str], index: Callable[[], dict], source: str) -> list[str]:
    """Which of a source's files are needed.

    Of a pipeline of diffusers': its settings and the safetensors of its parts, in fp16 where there
    are such; of one network of diffusers', as a ControlNet, the same.

    Args:
        entry: as said.
        paths: all files, relative.
        index: gives the pipeline's `model_index.json`.
        source: for the message.

    Raises:
        InputError: a file that is needed is not there.
    """
    if entry.kind == "diffusers" and "model_index.json" not in paths and "config.json" in paths:
        return ["config.json", *_weights("", paths, source)]
    if entry.kind == "diffusers":
        return _pipeline(entry, paths, index(), source)
    layouts = LAYOUTS.get(entry.kind) or [tuple(entry.urls)]
    for layout in layouts:
        if set(layout) <= set(paths):
            return list(layout)
    wanted = " or ".join(", ".join(layout) for layout in layouts)
    raise InputError(f"{source} lacks the files of {entry.name}: {wanted}.")


def _pipeline(entry: Entry, paths: Sequence[str], index: dict, source: str) -> list[str]:
    parts = [
        part
        for part, kind in index.items()
        if isinstance(kind, list) and kind and kind[0] and part not in (*WITHOUT, *entry.without)
    ]
    if not parts:
        raise InputError(f"{source} is no pipeline of diffusers': it has no model_index.json.")
    for part in parts:
        if not re.fullmatch(r"\w+", part, re.ASCII):
            raise InputError(f"{source}: model_index.json has the part {part!r}; expected a name.")
    chosen = ["model_index.json"]
    for part in parts:
        here = [path for path in paths if str(PurePosixPath(path).parent) == part]
        settings = [p for p in here if re.search(r"\.(json|txt|model)$", p) and ".index." not in p]
        chosen += settings + _weights(part, paths, source)
    return chosen


def _weights(part: str, paths: Sequence[str], source: str) -> list[str]:
    """The safetensors of a part, or of the network that has no parts; none of a tokenizer."""
    here = [path for path in paths if PurePosixPath(path).parent == PurePosixPath(part)]
    half = [p for p in here if re.search(r"\bfp16\b.*\.safetensors$|\.index\.fp16\.json$", p)]
    plain = r"(^|/)(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$"
    weights = half or [path for path in here if re.search(plain, path)]
    if not here or (not weights and any(path.endswith((".bin", ".ckpt")) for path in here)):
        what = f" of {part}" if part else ""
        raise InputError(f"{source} has no safetensors{what}: nothing else is loaded.")
    return weights
