"""COCO's files over HTTP: annotations and images, resumed after a break and checked before use.

A file under way is `<name>.part`, with the server's ETag in `<name>.etag`, so that only an
unchanged file is resumed. The final name appears once the content was checked.
"""

import os
import re
import shutil
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import requests
from filelock import FileLock
from PIL import Image
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from tcig.data.errors import InputError

BASE = "http://images.cocodataset.org"
MIRROR = "TCIG_COCO_MIRROR"  # environment variable: a server of the same layout
CONNECTIONS = 4
RETRIES = 5
BACKOFF = 1.0  # seconds, doubled with every retry
TIMEOUT = 60  # seconds to connect, and without receiving a byte
CHUNK = 1 << 16
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
    with _writing(annotations), _session() as session:
        missing = [name for name in names if not (annotations / name).exists()]
        if missing:
            print(f"Downloading {url} (about 241 MB) into {annotations}", file=sys.stderr)
            _download(session, url, part, show=True)
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
            fault = f"the image {name!r} for {target} has no plain file name"
            raise InputError(f"{fault}, so replace the annotations by COCO's own")
    if all((target / name).exists() for name, *_ in images):
        return
    with _writing(target):
        sizes = {name: size for name, *size in images if not (target / name).exists()}
        failures = _fetch_missing(f"{_base()}/val{year}", target, sizes)
    if failures:
        raise InputError(
            f"{len(failures)} of {len(sizes)} images could not be fetched into {target}: "
            f"{'; '.join(failures[:3])}{'; ...' if len(failures) > 3 else ''}; "
            "run the same command again to resume"
        )


def _fetch_missing(base: str, target: Path, sizes: dict[str, list[int]]) -> list[str]:
    """Fetch the images of `sizes` (name to width, height); returns "name (reason)" of failures."""
    failures, unreachable, local = [], 0, threading.local()

    def fetch(name: str) -> None:
        url, part = f"{base}/{quote(name)}", target / f"{name}.part"
        _download(local.session, url, part)
        _check_image(part, *sizes[name], url)
        part.replace(target / name)
        _discard(part)

    pool = ThreadPoolExecutor(CONNECTIONS, "", lambda: setattr(local, "session", _session()))
    try:
        jobs = {pool.submit(fetch, name): name for name in sizes}
        for job in tqdm(as_completed(jobs), target.name, len(jobs), unit="image"):
            try:
                job.result()
                unreachable = 0
            except (InputError, requests.RequestException) as error:
                failures.append(f"{jobs[job]} ({error})")
                unreachable = 0 if isinstance(error, InputError) else unreachable + 1
            if unreachable == GIVE_UP:
                failures += [f"{jobs[job]} (not tried)" for job in jobs if job.cancel()]
                break
    finally:
        pool.shutdown(cancel_futures=True)
    return failures


def _base() -> str:
    return (os.environ.get(MIRROR) or BASE).rstrip("/")


def _session() -> requests.Session:
    session = requests.Session()
    session.headers["User-Agent"] = f"tcig/{version('tcig')}"
    # A Range counts encoded bytes, a .part holds decoded ones: they must be the same.
    session.headers["Accept-Encoding"] = "identity"
    busy = {429, *range(500, 600)}
    retry = Retry(RETRIES, backoff_factor=BACKOFF, status_forcelist=busy, retry_after_max=300)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Create `folder`, where one run at a time may write, as two would share a .part."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            yield
    except requests.RequestException as error:
        message = f"the server gives no answer: {error}, so check the network and {MIRROR}"
        raise InputError(f"{message}, then run the same command again to resume") from error
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error}, so mend that or move it") from error


def _download(session: requests.Session, url: str, part: Path, show: bool = False) -> None:
    """Complete `part` with the content of `url`, with a progress bar of bytes if `show`."""
    stored = part.with_suffix(".etag")
    for retry in range(RETRIES + 1):
        time.sleep(BACKOFF * (2**retry - 1))
        etag = stored.read_text() if stored.exists() else ""
        offset = part.stat().st_size if etag and part.exists() else 0
        headers = {"Range": f"bytes={offset}-", "If-Range": etag} if offset else {}
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            status, got = response.status_code, response.headers.get("Content-Range", "")
            if status == 416 and got == f"bytes */{offset}":
                return  # An earlier run ended between the last byte and the check.
            if status == 416 or (status == 206 and not got.startswith(f"bytes {offset}-")):
                _discard(part)
                continue
            if status not in (200, 206):
                answer = f"{url} answers {status} {response.reason}"
                raise InputError(f"{answer}, so check this address, and {MIRROR} if it is set")
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


def _extract(part: Path, names: list[str], url: str) -> None:
    unpacked = {part.with_name(f"{name}.part"): name for name in names}
    try:
        with zipfile.ZipFile(part) as archive:
            for path, name in unpacked.items():
                with archive.open(f"annotations/{name}") as member, path.open("wb") as file:
                    shutil.copyfileobj(member, file)  # raises at the end if the CRC is wrong
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        _discard(part)
        raise InputError(f"{url} is broken: {error}, so run again or check {MIRROR}") from error
    for path, name in unpacked.items():
        path.replace(part.with_name(name))
    _discard(part)


def _check_image(part: Path, width: int, height: int, url: str) -> None:
    try:
        with Image.open(part) as image:
            if image.size != (width, height):
                raise ValueError(f"its size is {image.size}, not {(width, height)}")
            image.load()
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
        _discard(part)
        raise InputError(f"{url} is not the image of the annotations: {error}") from error


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)
