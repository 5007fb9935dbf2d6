"""A method's options from a profile, a row's preset and the command line, typed and checked."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tcig.data.errors import InputError, shown
from tcig.models.plugins import PluginError


def build_options(kind: type, name: str, *layers: Mapping[str, Any]) -> Any:
    """The frozen dataclass `kind` from layers of settings, the later ones first in rank.

    Args:
        kind: the options' dataclass; fields may be dataclasses themselves.
        name: of the row, for messages.
        layers: nested mappings, or flat ones with dotted names.

    Raises:
        InputError: an option that does not exist, or a value that it cannot take.
    """
    merged = merge_settings(kind, name, *layers)
    try:
        options = TypeAdapter(kind).validate_python(merged)
    except ValidationError as error:
        problem = error.errors()[0]
        option = ".".join(_option(kind, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{name}: {f'{option}: ' if option else ''}{reason}.") from None
    recorded(options, name)
    return options


def merge_settings(kind: type, name: str, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of all layers as one nested dictionary; arguments as in `build_options`.

    Raises:
        InputError: an option that does not exist.
    """
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise InputError(f"{name}: Options is {shown(kind)}; expected a frozen dataclass.")
    merged: dict[str, Any] = {}
    for layer in layers:
        for option, value in _flat(layer):
            _put(merged, kind, option.split("."), value, f"{name}: no option {option!r}")
    return merged


def recorded(options: Any, name: str) -> dict[str, Any]:
    """Options as a run's record has them: plain numbers, texts, lists and dictionaries.

    Args:
        options: a dataclass.
        name: of the row, for messages.

    Raises:
        InputError: a number that is not finite.
        PluginError: a value that JSON cannot hold.
    """

    def plain(value: Any, option: str) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = (field.name for field in dataclasses.fields(value))
            return {f: plain(getattr(value, f), f"{option}.{f}".strip(".")) for f in fields}
        if isinstance(value, Enum):
            return plain(value.value, option)
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, set | frozenset):
            return sorted((plain(each, option) for each in value), key=repr)
        if isinstance(value, list | tuple):
            plains = (plain(each, option) for each in value)
            return list(plains) if isinstance(value, list) else tuple(plains)
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: plain(each, f"{option}.{key}") for key, each in value.items()}
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name}: {option} must be a finite number, got {value}.")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise InputError(f"{name}: {option} must be below 2^63, got {shown(value)}.")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise PluginError(
            f"{name}: {option} cannot be written as JSON, {type(value).__name__}; expected "
            "numbers, texts, paths, enums, or tuples or sets of these."
        )

    return plain(options, "")


def _types(kind: type) -> dict[str, Any]:
    """The type of each field; of postponed annotations what they mean."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _option(kind: type, place: Sequence) -> Iterable[str]:
    """The names of options at the head of pydantic's place; then come branches of unions."""
    for part in place:
        fields = _types(kind)
        if part not in fields:
            return
        yield part
        if not dataclasses.is_dataclass(fields[part]):
            return
        kind = fields[part]


def _flat(layer: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for option, value in layer.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{option}.")
        else:
            yield prefix + option, value


def _put(merged: dict, kind: type, path: Sequence[str], value: Any, complaint: str) -> None:
    fields = _types(kind)
    first, *rest = path
    nested = first in fields and dataclasses.is_dataclass(fields[first])
    if first not in fields or bool(rest) != nested:
        near = difflib.get_close_matches(first, fields, 1)
        hint = f" (did you mean {near[0]}?)" if near and near[0] != first else ""
        there = ", ".join(fields) or (
            "none; a method declares its own in a frozen dataclass, its class attribute Options"
        )
        raise InputError(f"{complaint}{hint}: there are {there}.")
    if rest:
        _put(merged.setdefault(first, {}), fields[first], rest, value, complaint)
    else:
        if isinstance(value, str) and typing.get_origin(fields[first]) in SEVERAL:
            value = [part.strip() for part in value.split(",") if part.strip()]
        merged[first] = value


SEVERAL = (tuple, list, set, frozenset)
"""Types whose values the command line separates by commas."""


def parse_settings(assignments: Sequence[str], rows: Sequence[str]) -> dict[str, dict[str, str]]:
    """`ROW.OPTION=VALUE` from the command line, by row.

    Raises:
        InputError: of another form, or of a row that is not run.
    """
    found: dict[str, dict[str, str]] = {row: {} for row in rows}
    for assignment in assignments:
        target, equals, value = assignment.partition("=")
        row, dot, option = target.partition(".")
        if not (equals and dot and option):
            raise InputError(f"--set {assignment!r}: give ROW.OPTION=VALUE, as in si.guidance=5.")
        if row not in found:
            raise InputError(f"--set {assignment!r}: the rows here are {', '.join(rows)}.")
        found[row][option] = value
    return found
