"""Files over HTTP, resumed after a break.

A file under way is `<name>.part`, with the server's ETag in `<name>.etag`, so that only an
unchanged file is resumed; whoever asked for it checks the content and gives it its name.
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
TIMEOUT = 60  # seconds to connect, and without receiving a byte
CHUNK = 1 << 16


class RefusedError(InputError):
    """A server answers, but not with the file; `status` is HTTP's."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


def open_session(token: str | None = None) -> requests.Session:
    """A session that retries what is worth it; a token goes to the first host alone."""
    session = requests.Session()
    session.headers["User-Agent"] = f"tcig/{version('tcig')}"
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    # A Range counts encoded bytes, a .part holds decoded ones: they must be the same.
    session.headers["Accept-Encoding"] = "identity"
    busy = {429, *range(500, 600)}
    retry = Retry(RETRIES, backoff_factor=BACKOFF, status_forcelist=busy, retry_after_max=300)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


@contextmanager
def writing(folder: Path, mirror: str) -> Iterator[None]:
    """Create `folder`, where one run at a time may write, as two would share a .part.

    Raises InputError if it cannot be written or a server in it gives no answer.

    Args:
        folder: as said.
        mirror: environment variable by which another server is chosen, for the messages.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            yield
    except requests.RequestException as error:
        said = f"{error.request.url} gives no answer" if error.request else str(error)
        raise InputError(
            f"{said}: check the network and {mirror}, then run the same command again to resume."
        ) from error
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error}.") from error


def download(
    session: requests.Session, url: str, part: Path, mirror: str, show: bool = False
) -> None:
    """Complete `part` with the content of `url`, with a progress bar of bytes if `show`.

    Raises RefusedError if the server refuses, requests.RequestException if it cannot be reached.
    """
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
                discard(part)
                continue
            if status not in (200, 206):
                answer = f"{url} answers {status} {response.reason}"
                text = f"{answer}: check this address, and {mirror} if it is set."
                raise RefusedError(text, status)
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
    """Remove what an interrupted download left."""
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)
