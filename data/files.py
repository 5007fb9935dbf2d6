"""Files written whole or not at all, folders written by one process at a time, hashes."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tcig.data.errors import InputError
from tcig.data.shards import Shard


def write_whole(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Writes to a temporary neighbour, flushes it to disk, then renames it into place.

    Args:
        path: the file.
        content: text as UTF-8.
        durable: whether it must outlast a crash of the machine, which may leave it empty else.
    """
    if isinstance(content, str):
        content = content.encode()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def sole_writer(folder: Path, shard: Shard | None = None) -> Iterator[None]:
    """Holds a folder against other processes; the system lets go of it when this one dies.

    Shards of one whole hold it together, each of them once.

    Raises:
        InputError: another process holds it, or a shard of another whole.
    """
    with ExitStack() as held:
        if shard is None:
            _hold(held, folder / ".lock", fcntl.LOCK_EX, f"{folder} is")
        else:
            _hold(held, folder / ".lock", fcntl.LOCK_SH, f"{folder} is")
            own = folder / f".lock{shard.suffix}"
            _hold(held, own, fcntl.LOCK_EX, f"{folder}, part {shard.number}/{shard.count}, is")
            for other in folder.glob(".lock.*-of-*"):
                if not other.name.endswith(f"-of-{shard.count}"):
                    said = f"{folder} as {other.name.removeprefix('.lock.')} is"
                    with ExitStack() as tried:
                        _hold(tried, other, fcntl.LOCK_SH, said)
        yield


def _hold(held: ExitStack, path: Path, how: int, said: str) -> None:
    lock = held.enter_context(path.open("wb"))
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{said} being written by another process.") from None


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
