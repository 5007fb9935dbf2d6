"""Files written whole or not at all, and hashed."""

import hashlib
import os
from pathlib import Path


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


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
