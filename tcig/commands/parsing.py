"""Arguments of a subcommand from a dataclass, by tyro."""

from typing import TypeVar

import tyro

from tcig.data.errors import InputError

T = TypeVar("T")


def parse(options: type[T], argv: list[str], command: str, doc: str) -> T:
    """Parses `argv` into `options`; the command's module text is its help, examples included."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    return tyro.cli(options, args=argv, prog=f"tcig {command}", description=doc, config=config)


def assignment(text: str) -> tuple[str, str]:
    """`OPTION=VALUE` as a pair."""
    option, equals, value = text.partition("=")
    if not (option and equals):
        raise InputError(f"{text!r}: give OPTION=VALUE, as in guidance=5.")
    return option, value
