"""The one exception for a user's mistake, and others in a phrase."""

import traceback
from pathlib import Path


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
