"""Parses every JSON and TOML that comes from outside."""

import json
import tomllib
from pathlib import Path
from typing import Any

from tcig.data.errors import InputError
from tcig.data.files import read_file


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
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
