"""Files written whole or not at all, folders written by one process at a time, hashes."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tcig.data.errors import InputError


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes to a temporary neighbour, flushes it to disk, then renames it into place."""
    if isinstance(content, str):
        content = content.encode()
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Holds a folder against other processes; the system lets go of it when this one dies.

    Raises:
        InputError: another process holds it.
    """
    with (folder / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being written by another process.") from None
        yield


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
