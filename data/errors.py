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


def describe(error: BaseException, source: str | Path) -> str:
    """An exception in one line, with that of the file `source` which it came through last."""
    if isinstance(error, InputError):
        return str(error)
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    file = Path(source).resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file]
    return f"{text} (line {lines[-1]} of {file.name})" if lines else text
