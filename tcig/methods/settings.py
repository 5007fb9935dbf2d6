"""A method's options from a profile, a row's preset and the command line, typed and checked."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tcig.data.errors import InputError


def build_options(kind: type, name: str, *layers: Mapping[str, Any]) -> Any:
    """The frozen dataclass `kind` from layers of settings, the later ones first in rank.

    Args:
        kind: the options' dataclass; fields may be dataclasses themselves.
        name: of the row, for messages.
        layers: nested mappings, or flat ones with dotted names.

    Raises:
        InputError: an option that does not exist, or a value that it cannot take.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for option, value in _flat(layer):
            _put(merged, kind, option.split("."), value, f"{name}: no option {option!r}")
    try:
        options = TypeAdapter(kind).validate_python(merged)
    except ValidationError as error:
        problem = error.errors()[0]
        option = ".".join(_option(kind, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{name}: {f'{option}: ' if option else ''}{reason}.") from None
    for option, value in _flat(dataclasses.asdict(options)):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name}: {option} must be a finite number, got {value}.")
    return options


def _option(kind: type, place: Sequence) -> Iterable[str]:
    """The names of options at the head of pydantic's place; then come branches of unions."""
    for part in place:
        fields = {field.name: field.type for field in dataclasses.fields(kind)}
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
    fields = {field.name: field for field in dataclasses.fields(kind)}
    first, *rest = path
    nested = first in fields and dataclasses.is_dataclass(fields[first].type)
    if first not in fields or bool(rest) != nested:
        near = difflib.get_close_matches(first, fields, 1)
        hint = f" (did you mean {near[0]}?)" if near and near[0] != first else ""
        there = ", ".join(fields) or (
            "none; a method declares its own in a frozen dataclass, its class attribute Options"
        )
        raise InputError(f"{complaint}{hint}: there are {there}.")
    if rest:
        _put(merged.setdefault(first, {}), fields[first].type, rest, value, complaint)
    else:
        if isinstance(value, str) and typing.get_origin(fields[first].type) is tuple:
            value = [part.strip() for part in value.split(",") if part.strip()]
        merged[first] = value


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
