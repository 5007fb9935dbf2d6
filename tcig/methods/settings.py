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

from tcig.data.files import InputError, shown
from tcig.models.plugins import PluginError

SEVERAL = (tuple, list, set, frozenset)
"""Types whose values the command line separates by commas."""


def build_options(kind: type, name: str, *layers: Mapping[str, Any]) -> Any:
    """Builds the frozen dataclass `kind` from layers of settings; later layers take precedence.

    Args:
        kind: the options' dataclass; fields may be dataclasses themselves.
        name: name of the row, for messages.
        layers: nested mappings, or flat ones with dotted names.

    Raises:
        InputError: an option is unknown, or a value does not fit it.
    """
    merged = merge_settings(kind, name, *layers)
    try:
        options = TypeAdapter(kind).validate_python(merged)
    except ValidationError as error:
        problem = error.errors()[0]
        option = ".".join(_option_path(kind, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{name}: {f'{option}: ' if option else ''}{reason}.") from None
    recorded(options, name)
    return options


def merge_settings(kind: type, name: str, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merges layers into one nested dictionary; arguments as in `build_options`.

    Raises:
        InputError: an option is unknown.
    """
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise InputError(f"{name}: Options is {shown(kind)}; expected a frozen dataclass.")
    merged: dict[str, Any] = {}
    for layer in layers:
        for option, value in _flatten(layer):
            _set(merged, kind, option.split("."), value, f"{name}: no option {option!r}")
    return merged


def recorded(options: Any, name: str) -> dict[str, Any]:
    """Options as a run's record has them: plain numbers, texts, lists and dictionaries.

    Args:
        options: a dataclass.
        name: name of the row, for messages.

    Raises:
        InputError: a number is not finite, or too large.
        PluginError: JSON cannot hold a value.
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


def _field_types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _option_path(kind: type, location: Sequence) -> Iterable[str]:
    """The names of options at the head of pydantic's location; branches of unions follow them."""
    for part in location:
        types = _field_types(kind)
        if part not in types:
            return
        yield part
        if not dataclasses.is_dataclass(types[part]):
            return
        kind = types[part]


def _flatten(layer: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for option, value in layer.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{option}.")
        else:
            yield prefix + option, value


def _set(merged: dict, kind: type, path: Sequence[str], value: Any, complaint: str) -> None:
    """Sets the option at a path of names in nested dictionaries."""
    types = _field_types(kind)
    first, *rest = path
    nested = first in types and dataclasses.is_dataclass(types[first])
    if first not in types or bool(rest) != nested:
        near = difflib.get_close_matches(first, types, 1)
        hint = f" (did you mean {near[0]}?)" if near and near[0] != first else ""
        known = ", ".join(types) or (
            "none; a method declares its own in a frozen dataclass, its class attribute Options"
        )
        raise InputError(f"{complaint}{hint}: there are {known}.")
    if rest:
        _set(merged.setdefault(first, {}), types[first], rest, value, complaint)
    elif isinstance(value, str) and typing.get_origin(types[first]) in SEVERAL:
        merged[first] = [part.strip() for part in value.split(",") if part.strip()]
    else:
        merged[first] = value


def parse_settings(assignments: Sequence[str], rows: Sequence[str]) -> dict[str, dict[str, str]]:
    """Sorts `ROW.OPTION=VALUE` from the command line by row.

    Raises:
        InputError: an assignment has another form, or its row is not run.
    """
    settings: dict[str, dict[str, str]] = {row: {} for row in rows}
    for assignment in assignments:
        target, equals, value = assignment.partition("=")
        row, dot, option = target.partition(".")
        if not (equals and dot and option):
            raise InputError(f"--set {assignment!r}: give ROW.OPTION=VALUE, as in si.guidance=5.")
        if row not in settings:
            raise InputError(f"--set {assignment!r}: the rows here are {', '.join(rows)}.")
        settings[row][option] = value
    return settings
