"""Arguments of a subcommand from a dataclass, by tyro."""

from typing import TypeVar

import tyro

from tcig.data.errors import InputError

T = TypeVar("T")


def parse(options: type[T], argv: list[str], command: str, doc: str) -> T:
    """Parses `argv` into `options`; the command's module text is its help, examples included."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    return tyro.cli(options, args=argv, prog=f"tcig {command}", description=doc, config=config)


def check_counts(**counts: int | None) -> None:
    """Checks numbers of things.

    Raises:
        InputError: one is below 1; None stands for no bound.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"--{name} must be at least 1, got {count}.")


def assignment(text: str) -> tuple[str, str]:
    """`OPTION=VALUE` as a pair."""
    option, equals, value = text.partition("=")
    if not (option and equals):
        raise InputError(f"{text!r}: give OPTION=VALUE, as in guidance=5.")
    return option, value
