"""COCO's files over HTTP: annotations and images, resumed after a break and checked before use.

The final name of a file appears once its content was checked.
"""

import os
import re
import shutil
import sys
import threading
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import quote

import requests
from tqdm import tqdm

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.data.photographs import as_annotated
from tcig.data.pictures import open_picture
from tcig.data.transfer import discard, download, open_session, writing

BASE = "http://images.cocodataset.org"
MIRROR = "TCIG_COCO_MIRROR"  # environment variable: a server of the same layout
ARCHIVES = {
    2014: "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
    2017: "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
}
"""SHA-256 of annotations_trainval{year}.zip, as torchvision's prototype datasets check them; COCO
itself prints none."""
CONNECTIONS = 4
GIVE_UP = 2 * CONNECTIONS  # images in a row without an answer from the server


def fetch_annotations(folder: Path, year: int) -> None:
    """Make sure `folder/annotations` has instances_val{year}.json and captions_val{year}.json.

    Only what is missing is fetched and written. Raises InputError if the archive cannot be
    fetched or is broken, or if the folder is not writable.
    """
    annotations = folder / "annotations"
    names = [f"{kind}_val{year}.json" for kind in ("instances", "captions")]
    if all((annotations / name).exists() for name in names):
        return
    url = f"{_base()}/annotations/annotations_trainval{year}.zip"
    part = annotations / f"annotations_trainval{year}.zip.part"
    with writing(annotations, MIRROR), open_session() as session:
        missing = [name for name in names if not (annotations / name).exists()]
        if missing:
            print(f"Downloading {url} (about 241 MB) into {annotations}", file=sys.stderr)
            download(session, url, part, MIRROR, show=True)
            _check_archive(part, year, url)
            _extract(part, missing, url)


def fetch_images(folder: Path, year: int, images: Sequence[tuple[str, int, int]]) -> None:
    """Make sure `folder/val{year}` has the images, each (file name, width, height in pixels).

    Only what is missing is fetched; it must decode and have exactly its size. An image that fails
    does not stop the others, unless the server ceases to answer. Raises InputError for a name
    that is not a plain file name, a folder that is not writable, and finally for the failures.
    """
    target = folder / f"val{year}"
    for name, *_ in images:
        if not re.fullmatch(r"\w[\w-]*\.\w+", name):
            raise InputError(
                f"the image {name!r} for {target} has no plain file name: replace the annotations "
                "by COCO's own."
            )
    if all((target / name).exists() for name, *_ in images):
        return
    with writing(target, MIRROR):
        sizes = {name: size for name, *size in images if not (target / name).exists()}
        failures = _fetch_missing(f"{_base()}/val{year}", target, sizes)
    if failures:
        raise InputError(
            f"{len(failures)} of {len(sizes)} images could not be fetched into {target}: "
            f"{'; '.join(failures[:3])}{'; ...' if len(failures) > 3 else ''}; "
            "run the same command again to resume."
        )


def _fetch_missing(base: str, target: Path, sizes: dict[str, list[int]]) -> list[str]:
    """Fetch the images of `sizes` (name to width, height); returns "name (reason)" of failures."""
    failures, unreachable, local = [], 0, threading.local()

    def fetch(name: str) -> None:
        url, part = f"{base}/{quote(name)}", target / f"{name}.part"
        download(local.session, url, part, MIRROR)
        _check_image(part, *sizes[name], url)
        part.replace(target / name)
        discard(part)

    pool = ThreadPoolExecutor(CONNECTIONS, "", lambda: setattr(local, "session", open_session()))
    try:
        jobs = {pool.submit(fetch, name): name for name in sizes}
        for job in tqdm(as_completed(jobs), target.name, len(jobs), unit="image"):
            try:
                job.result()
                unreachable = 0
            except (InputError, requests.RequestException) as error:
                failures.append(f"{jobs[job]} ({str(error).rstrip('.')})")
                unreachable = 0 if isinstance(error, InputError) else unreachable + 1
            if unreachable == GIVE_UP:
                failures += [f"{jobs[job]} (not tried)" for job in jobs if job.cancel()]
                break
    finally:
        pool.shutdown(cancel_futures=True)
    return failures


def _base() -> str:
    return (os.environ.get(MIRROR) or BASE).rstrip("/")


def _check_archive(part: Path, year: int, url: str) -> None:
    """Refuses another archive than COCO's from its own address, which is plain HTTP; of a mirror it
    says so."""
    if sha256(part) == ARCHIVES[year]:
        return
    if os.environ.get(MIRROR):
        text = f"{url} is not the archive that COCO published: its SHA-256 differs."
        warnings.warn(text, stacklevel=2)
        return
    discard(part)
    raise InputError(
        f"{url} is not the archive that COCO published: its SHA-256 differs from "
        f"{ARCHIVES[year][:12]}...: run again, or fetch it by another network."
    )


def _extract(part: Path, names: list[str], url: str) -> None:
    unpacked = {part.with_name(f"{name}.part"): name for name in names}
    try:
        with zipfile.ZipFile(part) as archive:
            for path, name in unpacked.items():
                with archive.open(f"annotations/{name}") as member, path.open("wb") as file:
                    shutil.copyfileobj(member, file)  # raises at the end if the CRC is wrong
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        RuntimeError,  # a member is encrypted or packed in another way
    ) as error:
        discard(part)
        raise InputError(f"{url} is broken ({error}): run again or check {MIRROR}.") from error
    for path, name in unpacked.items():
        path.replace(part.with_name(name))
    discard(part)


def _check_image(part: Path, width: int, height: int, url: str) -> None:
    try:
        picture = open_picture(part)
        if as_annotated(picture, (width, height)) is None:
            raise InputError(f"its size is {picture.size}, not {(width, height)}")
    except InputError as error:
        discard(part)
        reason = str(error).rstrip(".")
        raise InputError(f"{url} is not the image of the annotations: {reason}.") from error
