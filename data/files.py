"""Reading, parsing, hashing, locking and writing of files, and the errors of a user's input."""

import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

LARGEST = 2**31
"""Bytes of a file that is read as a whole (our choice; COCO's largest annotations have 0.5 GB)."""


class InputError(Exception):
    """Unusable input: its text is one sentence naming what is wrong, where, and how to mend it.

    The command line prints it without a traceback and exits with status 2.
    """


class DeviceLostError(Exception):
    """A CUDA error after which a process cannot use its GPU any more; what it has done is kept.

    The command line prints the text and exits with status 1.
    """


def shown(value: object) -> str:
    """Any value in a message: at most 60 characters of it, whatever its own code does."""
    try:
        text = repr(value)
    except Exception:  # also: an integer of too many digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."


def describe(error: BaseException, source: str | Path) -> str:
    """An exception in one line, with that of the file `source` which it came through last."""
    if isinstance(error, InputError):
        return str(error)
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    file = Path(source).resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file]
    return f"{text} (line {lines[-1]} of {file.name})" if lines else text


def check_regular(path: Path, fix: str = "") -> int:
    """Checks that a path is a regular file: a pipe would be waited for, a device read for ever.

    Returns:
        Its size in bytes.

    Raises:
        InputError: it is missing or something else.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, fix) from None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InputError(f"{path} cannot be read ({what}){f'; {fix}' if fix else ''}.")
    return status.st_size


def read_file(path: Path, fix: str = "") -> bytes:
    """Reads a regular file of at most `LARGEST` bytes.

    Args:
        path: the file.
        fix: what the user can do, for the message.

    Raises:
        InputError: it is missing, not a regular file, too large, or cannot be read.
    """
    size = check_regular(path, fix)
    if size > LARGEST:
        raise InputError(f"{path} has {size:,} bytes; at most {LARGEST:,} are read.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, fix) from None


def _unreadable(path: Path, error: Exception, fix: str) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"{path} cannot be read ({reason}){f'; {fix}' if fix else ''}.")


def parse_json(content: bytes, source: object, fix: str = "") -> Any:
    """Parses JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        content: the bytes.
        source: names them in the message.
        fix: what the user can do, for the message.

    Raises:
        InputError: it is not JSON, is nested too deep, or has a number of thousands of digits.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not JSON ({error}){f'; {fix}' if fix else ''}.") from None


def read_json(path: Path, fix: str = "") -> Any:
    """Parses the JSON of a file, see `read_file` and `parse_json`."""
    return parse_json(read_file(path, fix), path, fix)


def read_toml(path: Path, fix: str = "") -> dict[str, Any]:
    """Parses the TOML of a file; the encodings are those of `parse_json`.

    Raises:
        InputError: it cannot be read, is not TOML, is nested too deep, or has a number of
            thousands of digits.
    """
    content = read_file(path, fix)
    try:
        return tomllib.loads(content.decode(json.detect_encoding(content)))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML ({error}){f'; {fix}' if fix else ''}.") from None


def encodable(text: str) -> bool:
    """Checks that a text can be written: JSON can hold half of a surrogate pair, no file can."""
    return text == text.encode(errors="ignore").decode()


def write_whole(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Writes to a temporary neighbour, flushes it to disk, then renames it into place.

    Args:
        path: the file.
        content: text as UTF-8.
        durable: flush before renaming; without this the file may be empty after a system crash.

    Raises:
        InputError: the path is a folder.
        OSError: it cannot be written; the error names the file.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
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
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):  # of a full disk it has no name
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a regular file.

    Raises:
        InputError: it is missing or something else.
    """
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Shard(NamedTuple):
    """Part `number` of `count`, counted from 1: for batch arrays, whose jobs know only a number."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard of a text such as `2/8`.

        Raises:
            InputError: the text has another form.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(*map(int, match.groups())) if match else None
        if shard is None or not 1 <= shard.number <= shard.count:
            raise InputError(
                f"--shard {text!r} is no part of a whole: give I/N, as 2/8, counted from 1."
            )
        return shard

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Every `count`-th item, from the `number`-th on."""
        return items[self.number - 1 :: self.count]

    @property
    def suffix(self) -> str:
        """Part of the name of each file that this shard writes alone."""
        return f".{self.number}-of-{self.count}"


@contextmanager
def sole_writer(folder: Path, shard: Shard | None = None) -> Iterator[None]:
    """Locks a folder against other processes; the system unlocks it when this one dies.

    Shards of one whole lock it together, each of them once.

    Raises:
        InputError: another process has locked it, or a shard of another whole.
    """
    with ExitStack() as held:
        how = fcntl.LOCK_SH if shard else fcntl.LOCK_EX
        held.enter_context(_lock(folder / ".lock", how, f"{folder}"))
        if shard:
            part = f"{folder}, part {shard.number}/{shard.count},"
            held.enter_context(_lock(folder / f".lock{shard.suffix}", fcntl.LOCK_EX, part))
            for other in folder.glob(".lock.*-of-*"):
                if not other.name.endswith(f"-of-{shard.count}"):
                    with _lock(other, how, f"{folder} as {other.name.removeprefix('.lock.')}"):
                        pass  # no process holds it
        yield


@contextmanager
def _lock(path: Path, how: int, name: str) -> Iterator[None]:
    with path.open("wb") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{name} is being written by another process.") from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be locked ({error.strerror}), as on some network disks; write to "
                "another disk."
            ) from None
        yield
