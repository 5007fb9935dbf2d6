"""Rows by name (tcig's own, of installed packages, classes in files), and their options.

Options come from a profile, a row's preset and the command line. They are typed and checked.
"""

import dataclasses
import difflib
import importlib
import math
import typing
import warnings
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from tcig.data.files import InputError, shown
from tcig.methods.base import Method
from tcig.models.plugins import PluginError, class_in_file, load_class

GROUP = "tcig.methods"
"""Entry points by which an installed package adds methods, as `name = "module:Class"`."""
SEVERAL = (tuple, list, set, frozenset)
"""Types whose values the command line separates by commas."""


class Row(NamedTuple):
    """A row of the table: a method with fixed options."""

    method: str
    """Name under which a profile has the method's options."""
    target: str
    """`module:Class`."""
    preset: Mapping[str, Any] = MappingProxyType({})
    """Options that distinguish the row, dotted where they are nested."""
    like: str = ""
    """The row whose other options it shares; empty: the method's own row."""


_MULTIDIFFUSION = "tcig.methods.multidiffusion:MultiDiffusion"
_TCIG = "tcig.methods.two_stage.method:TwoStage"
_DIRECT = "tcig.methods.direct:DirectGuidance"
ROWS = {
    "real": Row("real", "tcig.methods.base:Real"),
    "paste": Row("paste", "tcig.methods.base:Paste"),
    "empty": Row("empty", "tcig.methods.base:Empty"),
    "text-only": Row("text-only", "tcig.methods.sampling:TextOnly"),
    "si": Row("si", "tcig.methods.inpainting:Inpainting"),
    "bld": Row("bld", "tcig.methods.inpainting:Blended"),
    "multidiffusion": Row("multidiffusion", _MULTIDIFFUSION),
    "multidiffusion-no-bootstrap": Row("multidiffusion", _MULTIDIFFUSION, {"bootstrapping": "off"}),
    "controlnet": Row("controlnet", "tcig.methods.control:ControlNet"),
    "t2i-adapter": Row("t2i-adapter", "tcig.methods.control:T2IAdapter"),
    "gligen": Row("gligen", "tcig.methods.control:Gligen"),
    "tcig": Row("tcig", _TCIG),
    "tcig-stage1": Row("tcig", _TCIG, {"stages": "first"}),
    "tcig-two-guides": Row("tcig", _TCIG, {"first.guides": ()}),
    "tcig-no-clip": Row("tcig", _TCIG, {"first.clip_weight": 0.0}),
    "tcig-no-guidance": Row("tcig", _TCIG, {"first.guide_weight": 0.0}),
    "tcig-no-stage1": Row("tcig", _TCIG, {"stages": "second"}),
    "tcig-robust": Row("tcig", _TCIG, {"first.views.count": 2}),
    "tcig-robust-stage1": Row("tcig", _TCIG, {"stages": "first"}, like="tcig-robust"),
    "direct-guidance": Row("direct-guidance", _DIRECT),
    "direct-guidance-robust": Row("direct-guidance", _DIRECT, {"views.count": 2}),
}
"""Rows of the table by name: the references, the baselines, TCIG and its ablations.

The rows `*-robust*` are this project's own: their guides see random views of the image.
`controlnet` and `gligen` have no miniature, so `mini` and `smoke` leave them out; tests run them
on random weights.
"""


def installed() -> dict[str, Row]:
    """Rows of installed packages; a name of `ROWS` stays tcig's own."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {p.name: Row(p.name, p.value) for p in points if p.name not in ROWS}


def find_row(name: str) -> tuple[str, Row]:
    """Finds a row of `ROWS`, of an installed package, or `path/to/file.py:Class`.

    Returns:
        The row's name, and the row.

    Raises:
        InputError: the name is unknown.
    """
    if name in ROWS:
        for hidden in entry_points(group=GROUP, name=name):
            text = f"{name} is tcig's own row, not the installed {hidden.value}: rename its entry."
            warnings.warn(text, stacklevel=2)
        return name, ROWS[name]
    if attribute := class_in_file(name):
        if attribute in ROWS:
            raise InputError(f"{name}: tcig has a row {attribute} of its own, rename the class.")
        return attribute, Row(attribute, name)
    rows = ROWS | installed()
    if name in rows:
        return name, rows[name]
    cutoff = 0.5 if len(name) < 4 else 0.6  # difflib's default, but `sl` and `si` are 0.5 alike
    near = difflib.get_close_matches(name, rows, 1, cutoff)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(
        f"unknown method {name!r}{hint}; available: {', '.join(rows)}, or path/to/file.py:Class."
    )


def load_method(row: Row) -> tuple[type[Method], str | None]:
    """Loads the row's class, and the SHA-256 of its code if it is from outside tcig.

    Raises:
        InputError: see `tcig.models.plugins.load_class`.
    """
    if row not in ROWS.values():
        return load_class(row.target, Method)
    module, _, attribute = row.target.rpartition(":")
    return getattr(importlib.import_module(module), attribute), None


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
        option = ".".join(map(str, problem["loc"]))
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
        _merge(merged, kind, layer, f"{name}: no option ")
    return merged


def _merge(
    merged: dict, kind: type, layer: Mapping[str, Any], complaint: str, prefix: str = ""
) -> None:
    """Merges a layer into nested dictionaries; a dotted name is one of a nested mapping."""
    types = _field_types(kind)
    for option, value in layer.items():
        first, dot, rest = option.partition(".")
        value = {rest: value} if dot else value
        nested = dataclasses.is_dataclass(types.get(first))
        if first not in types or nested != isinstance(value, Mapping):
            near = difflib.get_close_matches(first, types, 1)
            hint = f" (did you mean {near[0]}?)" if near and near[0] != first else ""
            known = ", ".join(types) or (
                "none; a method declares its own in a frozen dataclass, its class attribute Options"
            )
            raise InputError(f"{complaint}{prefix + option!r}{hint}; available: {known}.")
        if nested:
            inner = f"{prefix}{first}."
            _merge(merged.setdefault(first, {}), types[first], value, complaint, inner)
        elif isinstance(value, str) and typing.get_origin(types[first]) in SEVERAL:
            merged[first] = [part.strip() for part in value.split(",") if part.strip()]
        else:
            merged[first] = value


def _field_types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def recorded(options: Any, name: str) -> dict[str, Any]:
    """Options of the row `name` as a run's record has them: numbers, texts, lists, dictionaries.

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
            return [plain(each, option) for each in value]
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
            "numbers, texts, paths, enums, or tuples, sets or dictionaries of these."
        )

    return plain(options, "")


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
