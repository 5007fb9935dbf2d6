"""The subcommands of `tcig`, one a file; their arguments come from a dataclass, by tyro."""

from typing import TypeVar

import tyro

from tcig.data.files import InputError

T = TypeVar("T")
COUNTS = ("count", "limit", "outputs", "samples", "threads", "workers")
"""Options of all commands that are numbers of things."""


def parse(options: type[T], argv: list[str], command: str, doc: str) -> T:
    """Parses `argv` into `options`; the command's module text is its help, examples included.

    Raises:
        InputError: an option of `COUNTS` is below 1.
    """
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    parsed = tyro.cli(options, args=argv, prog=f"tcig {command}", description=doc, config=config)
    for name in COUNTS:
        count = getattr(parsed, name, None)
        if type(count) is int and count < 1:
            raise InputError(f"--{name} must be at least 1, got {count}.")
    return parsed


def assignment(text: str) -> tuple[str, str]:
    """`OPTION=VALUE` as a pair."""
    option, equals, value = text.partition("=")
    if not (option and equals):
        raise InputError(f"{text!r}: give OPTION=VALUE, as in guidance=5.")
    return option, value
