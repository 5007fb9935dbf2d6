"""Rows by name: tcig's own, those of installed packages, and classes in files."""

import difflib
import importlib
import warnings
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, NamedTuple

from tcig.data.files import InputError
from tcig.methods.base import Method
from tcig.models.plugins import class_in_file, load_class

GROUP = "tcig.methods"
"""Entry points by which an installed package adds methods, as `name = "module:Class"`."""


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


_REFERENCES, _TCIG = "tcig.methods.references", "tcig.methods.two_stage.method:TwoStage"
_DIRECT = "tcig.methods.direct:DirectGuidance"
ROWS = {
    "real": Row("real", f"{_REFERENCES}:Real"),
    "paste": Row("paste", f"{_REFERENCES}:Paste"),
    "empty": Row("empty", f"{_REFERENCES}:Empty"),
    "text-only": Row("text-only", "tcig.methods.sampling:TextOnly"),
    "si": Row("si", "tcig.methods.inpainting:Inpainting"),
    "bld": Row("bld", "tcig.methods.blended:Blended"),
    "multidiffusion": Row("multidiffusion", "tcig.methods.multidiffusion:MultiDiffusion"),
    "multidiffusion-no-bootstrap": Row(
        "multidiffusion",
        "tcig.methods.multidiffusion:MultiDiffusion",
        {"bootstrapping": "off"},
    ),
    "controlnet": Row("controlnet", "tcig.methods.control:ControlNet"),
    "t2i-adapter": Row("t2i-adapter", "tcig.methods.control:T2IAdapter"),
    "gligen": Row("gligen", "tcig.methods.gligen:Gligen"),
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
