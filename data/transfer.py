"""Downloads files over HTTP and resumes interrupted downloads.

`NAME.part` is an unfinished file. `NAME.etag` has the server's ETag, so that only an unchanged file
is resumed. The caller checks the content and renames the file.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from tcig.data.errors import InputError

RETRIES = 5
BACKOFF = 1.0  # seconds, doubled with every retry
TIMEOUT = 60  # seconds to connect, and to wait for the next byte
CHUNK = 1 << 16


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
