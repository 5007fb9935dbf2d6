"""Rows by name, methods of installed packages and by file, loaded when asked for."""

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.methods.base import Method

GROUP = "tcig.methods"
"""Entry points by which an installed package adds methods, as `name = "module:Class"`."""


class Row(NamedTuple):
    """A row of the table: a method, and what sets it apart from the method's own settings."""

    method: str
    """Under which a profile has its options."""
    target: str
    """`module:Class`."""
    preset: Mapping[str, Any] = MappingProxyType({})
    """Options that make the row what it is, dotted where they are nested."""


_REFERENCES, _TCIG = "tcig.methods.references", "tcig.methods.two_stage.method:TwoStage"
ROWS = {
    "real": Row("real", f"{_REFERENCES}:Real"),
    "paste": Row("paste", f"{_REFERENCES}:Paste"),
    "empty": Row("empty", f"{_REFERENCES}:Empty"),
    "text-only": Row("text-only", "tcig.methods.text_only:TextOnly"),
    "si": Row("si", "tcig.methods.inpainting:Inpainting"),
    "bld": Row("bld", "tcig.methods.blended:Blended"),
    "multidiffusion": Row("multidiffusion", "tcig.methods.multidiffusion:MultiDiffusion"),
    "multidiffusion-no-bootstrap": Row(
        "multidiffusion",
        "tcig.methods.multidiffusion:MultiDiffusion",
        {"bootstrapping": "off"},
    ),
    "controlnet": Row("controlnet", "tcig.methods.controlnet:ControlNet"),
    "t2i-adapter": Row("t2i-adapter", "tcig.methods.t2i_adapter:T2IAdapter"),
    "gligen": Row("gligen", "tcig.methods.gligen:Gligen"),
    "tcig": Row("tcig", _TCIG),
    "tcig-stage1": Row("tcig", _TCIG, {"stages": "first"}),
    "tcig-two-guides": Row("tcig", _TCIG, {"first.guides": ()}),
    "tcig-no-clip": Row("tcig", _TCIG, {"first.clip_weight": 0.0}),
    "tcig-no-guidance": Row("tcig", _TCIG, {"first.guide_weight": 0.0}),
    "tcig-no-stage1": Row("tcig", _TCIG, {"stages": "second"}),
    "direct-guidance": Row("direct-guidance", "tcig.methods.direct:DirectGuidance"),
}
"""What the table has, by name: the references, the baselines, TCIG and its ablations.

Of `controlnet` and `gligen` no miniature is trained: their rows are open in `mini` and `smoke`, and
tests run them on random weights.
"""


def installed() -> dict[str, Row]:
    """Rows of installed packages; a name of `ROWS` stays tcig's own."""
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {each.name: Row(each.name, each.value) for each in found if each.name not in ROWS}


def find_row(name: str) -> tuple[str, Row]:
    """The row's name and the row: of `ROWS`, of an installed package, or `path/to/file.py:Class`.

    Raises:
        InputError: no such row.
    """
    if name in ROWS:
        return name, ROWS[name]
    file, _, attribute = name.rpartition(":")
    if file.endswith(".py") and attribute in ROWS:
        raise InputError(f"{name}: tcig has a row {attribute} of its own, rename the class.")
    if file.endswith(".py") and attribute:
        return attribute, Row(attribute, name)
    others = installed()
    if name in others:
        return name, others[name]
    near = difflib.get_close_matches(name, [*ROWS, *others], 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    known = ", ".join([*ROWS, *others])
    raise InputError(f"no method {name!r}{hint}: there are {known}, or path/to/file.py:Class.")


def load_method(row: Row) -> tuple[type[Method], str | None]:
    """The row's class, and the SHA-256 of its file where it is none of tcig's own.

    Raises:
        InputError: a missing file or class, or a class that is no `Method`.
    """
    place, _, attribute = row.target.rpartition(":")
    if row in ROWS.values():
        return getattr(importlib.import_module(place), attribute), None
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise InputError(f"no file {path} to take the method {attribute} from.")
        return _loaded(lambda: _execute(path), place, attribute), sha256(path)
    kind = _loaded(lambda: importlib.import_module(place), place, attribute)
    return kind, sha256(Path(inspect.getsourcefile(kind)))


def _execute(path: Path):
    spec = importlib.util.spec_from_file_location(f"tcig_method_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _loaded(load: Callable, place: str, attribute: str) -> type[Method]:
    try:
        module = load()
    except (Exception, SystemExit) as error:
        raise InputError(f"{place} cannot be loaded ({type(error).__name__}: {error}).") from error
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InputError(f"{place} has no class {attribute} that is a tcig.methods.base.Method.")
    if found.__abstractmethods__:
        raise InputError(
            f"{place}: {attribute} lacks {', '.join(sorted(found.__abstractmethods__))}."
        )
    return found
