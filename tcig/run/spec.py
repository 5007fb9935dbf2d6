"""Rows with their options, and the spec of a run: all that its images depend on."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tcig.data.files import InputError, shown
from tcig.data.layout import Layout
from tcig.data.masks import TRUE
from tcig.data.records import RunSpec
from tcig.eval.judges import SOURCES
from tcig.methods.base import Context, Cost, Method
from tcig.methods.registry import ROWS, find_row, installed, load_method
from tcig.methods.settings import build_options, merge_settings, parse_settings, recorded
from tcig.models.devices import set_tf32
from tcig.models.plugins import PluginError, refusing, source_of
from tcig.models.weights import local
from tcig.profiles import SCORER, Profile


class Chosen(NamedTuple):
    """A row with its options, before any weights are loaded."""

    row: str
    kind: type[Method]
    options: Any
    code: str | None
    """See `RunSpec`."""
    sources: tuple[str, ...]
    """The weights that it will load."""

    def cost(self, layouts: Sequence[Layout]) -> Cost:
        """Of one sample of each layout.

        Raises:
            PluginError: a method from outside raises something.
        """
        with refusing(self.row, "cannot tell its cost", source_of(self.kind.generate)):
            return Cost(*self.kind.cost(self.options, layouts))


def choose(
    name: str, profile: Profile, settings: Mapping[str, Any] = MappingProxyType({})
) -> Chosen:
    """The row `name` and its options.

    Options come from the method's defaults, the profile's for the method, the row's preset, the
    profile's for the row, and `settings`, the later ones over the earlier. A row like another one
    has that one's preset, and the profile's for it, before its own.

    Raises:
        InputError: see `find_row`, `load_method` and `build_options`.
        PluginError: a method from outside declares something else than a method does.
    """
    row, entry = find_row(name)
    kind, code = load_method(entry)
    layers = [profile.methods.get(entry.method, {})]
    if entry.like:
        layers += [ROWS[entry.like].preset, profile.methods.get(entry.like, {})]
    layers.append(entry.preset)
    if row != entry.method:
        layers.append(profile.methods.get(row, {}))
    source = source_of(kind.generate)
    if type(kind.version) is not int or not 0 <= kind.version < 2**31:
        raise PluginError(f"{row}: version is {shown(kind.version)}; expected an integer from 0.")
    with refusing(row, "cannot take its options", source):
        options = build_options(kind.Options, row, *layers, settings)
    with refusing(row, "cannot name its sources", source):
        sources = kind.sources(options)
    if not isinstance(sources, tuple | list) or not all(isinstance(s, str) for s in sources):
        raise PluginError(f"{row}: sources() gave {shown(sources)}; expected a tuple of texts.")
    return Chosen(row, kind, options, code, tuple(sources))


def choose_rows(
    profile: Profile,
    names: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> list[Chosen]:
    """Several rows with their options: those named, or all of the profile.

    Args:
        profile: the profile.
        names: rows; none: `profile.rows`.
        settings: of some of the rows, see `parse_settings`.

    Raises:
        InputError: see `choose` and `parse_settings`; none are named and the profile lists none;
            the profile has a table of an unknown row, or an unknown option of any row.
    """
    names = names or profile.rows
    if not names:
        raise InputError(f"profile {profile.name} lists no rows: give --methods.")
    rows = [find_row(name)[0] for name in names]
    _check_tables(profile, rows)
    given = parse_settings(settings, rows)
    return [choose(name, profile, given[row]) for name, row in zip(names, rows, strict=True)]


def _check_tables(profile: Profile, rows: Sequence[str]) -> None:
    """Refuses a profile whose `methods` hold a name that nothing has, even of rows not chosen."""
    own = {row.method: row for row in ROWS.values()} | ROWS
    others = {*installed(), *rows, *(find_row(name)[0] for name in profile.rows)}
    for table, settings in profile.methods.items():
        if table in own:
            kind, _ = load_method(own[table])
            merge_settings(kind.Options, table, settings)
        elif table not in others:
            near = difflib.get_close_matches(table, [*own, *others], 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise InputError(
                f"profile {profile.name}: [methods.{table}] is of no row{hint}; name the class of "
                "a method of your own in rows or --methods."
            )


def needs(
    profile: Profile, chosen: Sequence[Chosen] | None = None, quality: bool = True
) -> list[str]:
    """Returns the weights to fetch for rows and their judges, each once; shipped ones are not.

    Args:
        profile: names the judges, and the networks of `tcig quality`.
        chosen: rows with their options; None: those that the profile lists.
        quality: whether the networks of `tcig quality` are counted.
    """
    chosen = choose_rows(profile) if chosen is None else chosen
    sources = [source for row in chosen for source in row.sources]
    sources += [SOURCES[judge] for judge in profile.judges if judge in SOURCES]
    if quality:
        networks = profile.scorer, profile.features
        sources += [name for name in networks if name not in (None, SCORER)]
    return [source for source in dict.fromkeys(sources) if local(source) is None]


def prepare(
    name: str,
    profile: Profile,
    coco: Path | None,
    manifest: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[RunSpec, Method]:
    """The spec of the row `name` and its method, ready to generate: `choose`, then `set_up`."""
    return set_up(choose(name, profile, settings), profile, coco, manifest)


def set_up(
    chosen: Chosen,
    profile: Profile,
    coco: Path | None,
    manifest: str,
    masks: str = TRUE,
    out: Path | None = None,
) -> tuple[RunSpec, Method]:
    """The spec of a row and its method, ready to generate.

    Args:
        chosen: the row.
        profile: as said.
        coco: folder of the photographs, where there is one.
        manifest: its SHA-256.
        masks: as in `RunSpec`; the layouts that are drawn must be made so.
        out: folder of the runs, where rows share images of stage 1; None: they share none.

    Raises:
        InputError: the method cannot be set up, or the device is not there.
        PluginError: a method from outside raises something, or declares no weights as texts.
    """
    row, kind, options, code, _ = chosen
    profile.compute.check_device()
    set_tf32(profile.compute.tf32)
    stage1 = out and out.absolute() / f"stage1-batch{profile.batch}"
    context = Context(profile.size, coco and coco.absolute(), profile.compute, stage1)
    try:
        inspect.signature(kind).bind(context, options)
    except TypeError:
        raise InputError(f"{row}: its __init__ must take (self, context, options).") from None
    source = source_of(kind.generate)
    with refusing(row, "cannot be set up", source):
        method = kind(context, options)
    if not isinstance(getattr(method, "context", None), Context):
        raise PluginError(f"{row}: its __init__ must call super().__init__(context, options).")
    with refusing(row, "cannot name its weights", source):
        weights = method.weights
    texts = (
        (text for each in weights.items() for text in each) if isinstance(weights, dict) else (0,)
    )
    if not all(isinstance(text, str) for text in texts):
        raise PluginError(
            f"{row}: weights is {shown(weights)}; expected a dictionary from a part's name to its "
            "identity, both texts."
        )
    spec = RunSpec(
        method=row,
        version=kind.version,
        code=code,
        options=recorded(options, row),
        profile=profile.name,
        size=profile.size,
        batch=profile.batch,
        device=profile.compute.device.type,
        arithmetic=profile.compute.arithmetic,
        weights=weights,
        manifest=manifest,
        masks=masks,
    )
    return spec, method
