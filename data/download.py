"""Downloads files over HTTP, resumes interrupted downloads, and checks COCO's files.

`NAME.part` is an unfinished file. `NAME.etag` has the server's ETag, so that only an unchanged file
is resumed. A file gets its final name after its content was checked.
"""

import os
import shutil
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from tcig.data.files import InputError, sha256
from tcig.data.pictures import as_annotated, open_picture

RETRIES = 5
BACKOFF = 1.0  # seconds, doubled with every retry
TIMEOUT = 60  # seconds to connect, and to wait for the next byte
CHUNK = 1 << 16
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


@contextmanager
def connect(folder: Path, mirror: str, token: str | None = None) -> Iterator[requests.Session]:
    """Creates `folder`, locks it against other processes, and opens a session that retries.

    Args:
        folder: where files are written.
        mirror: environment variable that names another server, for error messages.
        token: of the Hugging Face hub; `requests` sends it to the first host only.

    Raises:
        InputError: the server fails, or the folder cannot be written.
    """
    busy = {429, *range(500, 600)}
    retry = Retry(RETRIES, backoff_factor=BACKOFF, status_forcelist=busy, retry_after_max=300)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"), requests.Session() as session:
            session.headers["User-Agent"] = f"tcig/{version('tcig')}"
            if token:
                session.headers["Authorization"] = f"Bearer {token}"
            session.headers["Accept-Encoding"] = "identity"  # a Range counts encoded bytes
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            yield session
    except requests.RequestException as error:
        raise InputError(
            f"{describe(error)}: check the network and {mirror}, then run the same command again "
            "to resume."
        ) from error
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error}.") from error


def describe(error: requests.RequestException) -> str:
    """Says in one phrase how a server failed."""
    if error.response is not None:
        return f"{error.response.url} answers {error.response.status_code} {error.response.reason}"
    return f"{error.request.url} gives no answer" if error.request else str(error)


def download(session: requests.Session, url: str, part: Path, show: bool = False) -> None:
    """Completes `part` with the content of `url`; `show` displays a progress bar.

    Raises:
        requests.RequestException: the server cannot be reached, or refuses (`HTTPError`).
    """
    saved = part.with_suffix(".etag")
    for retry in range(RETRIES + 1):
        time.sleep(BACKOFF * (2**retry - 1))
        etag = saved.read_text() if saved.exists() else ""
        offset = part.stat().st_size if etag and part.exists() else 0
        headers = {"Range": f"bytes={offset}-", "If-Range": etag} if offset else {}
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            status, span = response.status_code, response.headers.get("Content-Range", "")
            if status == 416 and span == f"bytes */{offset}":
                return  # An earlier run ended between the last byte and the check.
            if status == 416 or (status == 206 and not span.startswith(f"bytes {offset}-")):
                discard(part)
                continue
            response.raise_for_status()
            with suppress(requests.RequestException):
                return _receive(response, part, offset if status == 206 else 0, show)
    raise requests.ConnectionError(f"{url} broke off {RETRIES + 1} times")


def _receive(response: requests.Response, part: Path, offset: int, show: bool) -> None:
    total = offset + (response.raw.length_remaining or 0)
    bar = tqdm(None, part.stem, total, unit="B", unit_scale=True, initial=offset, disable=not show)
    with bar, part.open("ab" if offset else "wb") as file:
        if not offset:  # Only now, as a new ETag must not vouch for old bytes.
            part.with_suffix(".etag").write_text(response.headers.get("ETag", ""))
        for chunk in response.iter_content(CHUNK):  # urllib3 raises short of Content-Length
            bar.update(file.write(chunk))


def discard(part: Path) -> None:
    """Removes what an interrupted download left."""
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)


def fetch_annotations(folder: Path, year: int) -> None:
    """Downloads instances_val{year}.json and captions_val{year}.json to `folder/annotations`.

    Existing files are kept.

    Raises:
        InputError: the archive cannot be fetched or is broken, or the folder is not writable.
    """
    annotations = folder / "annotations"
    names = [f"{kind}_val{year}.json" for kind in ("instances", "captions")]
    if all((annotations / name).exists() for name in names):
        return
    url = f"{_base()}/annotations/annotations_trainval{year}.zip"
    part = annotations / f"annotations_trainval{year}.zip.part"
    with connect(annotations, MIRROR) as session:
        # another process may have fetched them until the folder was free
        if missing := [name for name in names if not (annotations / name).exists()]:
            print(f"Downloading {url} (about 241 MB) into {annotations}", file=sys.stderr)
            download(session, url, part, show=True)
            _check_archive(part, year, url)
            _extract(part, missing, url)


def fetch_images(folder: Path, year: int, images: Sequence[tuple[str, int, int]]) -> None:
    """Downloads images to `folder/val{year}`; a failed image does not stop the others.

    Existing files are kept. A new file must decode and have exactly its size.

    Args:
        folder: the dataset's folder.
        year: 2014 or 2017.
        images: file name, as `read_instances` checks it, width and height in pixels of each.

    Raises:
        InputError: the folder is not writable, or images failed.
    """
    target = folder / f"val{year}"
    if all((target / name).exists() for name, *_ in images):
        return
    with connect(target, MIRROR) as session:
        sizes = {name: size for name, *size in images if not (target / name).exists()}
        failures = _fetch_missing(session, f"{_base()}/val{year}", target, sizes)
    if failures:
        raise InputError(
            f"{len(failures)} of {len(sizes)} images could not be fetched into {target}: "
            f"{'; '.join(failures[:3])}{' and more' if len(failures) > 3 else ''}; "
            "run the same command again to resume."
        )


def _fetch_missing(
    session: requests.Session, base: str, target: Path, sizes: dict[str, list[int]]
) -> list[str]:
    """Fetches images of `sizes` (name to width, height); returns "name (reason)" of failures."""
    failures, unreachable = [], 0

    def fetch(name: str) -> None:
        url, part = f"{base}/{name}", target / f"{name}.part"
        download(session, url, part)
        _check_image(part, *sizes[name], url)
        part.replace(target / name)
        discard(part)

    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        jobs = {pool.submit(fetch, name): name for name in sizes}
        for job in tqdm(as_completed(jobs), target.name, len(jobs), unit="image"):
            try:
                job.result()
                unreachable = 0
            except InputError as error:
                failures.append(f"{jobs[job]} ({str(error).rstrip('.')})")
                unreachable = 0
            except requests.RequestException as error:
                failures.append(f"{jobs[job]} ({describe(error)})")
                unreachable = 0 if isinstance(error, requests.HTTPError) else unreachable + 1
            if unreachable == GIVE_UP:
                failures += [f"{jobs[job]} (not tried)" for job in jobs if job.cancel()]
                break
    finally:
        pool.shutdown(cancel_futures=True)
    return failures


def _base() -> str:
    return (os.environ.get(MIRROR) or BASE).rstrip("/")


def _check_archive(part: Path, year: int, url: str) -> None:
    """Refuses an unknown archive from COCO's own address (plain HTTP); warns for a mirror."""
    if sha256(part) == ARCHIVES[year]:
        return
    problem = f"{url} is not the archive that COCO published: its SHA-256 differs"
    if os.environ.get(MIRROR):
        warnings.warn(f"{problem}.", stacklevel=2)
        return
    discard(part)
    raise InputError(
        f"{problem} from {ARCHIVES[year][:12]}...: run again, or fetch it by another network."
    )


def _extract(part: Path, names: list[str], url: str) -> None:
    unpacked = {part.with_name(f"{name}.part"): name for name in names}
    try:
        with zipfile.ZipFile(part) as archive:
            for path, name in unpacked.items():
                with archive.open(f"annotations/{name}") as member, path.open("wb") as file:
                    shutil.copyfileobj(member, file)  # raises at the end if the CRC is wrong
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
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
