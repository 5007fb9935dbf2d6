"""`tcig check`: whether a method or a judge keeps what the benchmark builds on, in plain words.

    tcig check path/to/file.py:MyMethod
    tcig check si --profile mini --set guidance=5
    tcig check path/to/file.py:MyMethod --profile paper --layouts layouts.jsonl --coco coco
    tcig check path/to/file.py:MyJudge

Calls it again and again on a few layouts or images: twice alike, in another order, each alone; a
method also under other seeds, a judge also with other sizes and an empty image. A judge sees
photographs, where there are some, and class maps in VOC's colours. Prints a line for each property
with what was seen and how to mend it.
"""

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import tyro

from tcig.commands.parsing import assignment, check_counts, parse
from tcig.data.errors import InputError

if TYPE_CHECKING:
    from tcig.run.conformance import Finding


@dataclass
class Options:
    """Arguments of `tcig check`."""

    target: tyro.conf.Positional[str]
    """A method or a judge by name, or path/to/file.py:Class."""
    profile: str = "mini"
    """Size and options."""
    layouts: Path | None = None
    """Manifest (default: the embedded data)."""
    coco: Path | None = None
    """Folder of the photographs, where the method reads them."""
    count: int = 3
    """Layouts to draw or photographs to segment, 2 or more."""
    set: tuple[str, ...] = ()
    """Options of the method, as OPTION=VALUE."""


def main(argv: list[str]) -> int:
    """Runs `tcig check`; 1 if a check failed."""
    options = parse(Options, argv, "check", __doc__)
    check_counts(count=options.count)
    if options.count < 2:
        raise InputError("--count counts from 2: one layout has no order.")
    from tcig.models.plugins import StateWarning

    failed = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StateWarning)
        for finding in _findings(options, caught):
            failed += finding.verdict == "FAIL"
            print(f"{finding.verdict:<4} {finding.what:<13} {finding.said}", flush=True)
    for each in caught:
        if not issubclass(each.category, StateWarning):
            text = warnings.formatwarning(each.message, each.category, "", 0)
            print(text, file=sys.stderr, end="")
    verdict = f"{failed} of the checks failed" if failed else "conforms"
    print(f"\n{options.target.rpartition(':')[2]}: {verdict}")
    return 1 if failed else 0


def _findings(options: Options, caught: list) -> "Iterator[Finding]":
    """The findings about a method or a judge, one after another."""
    from tcig.data.files import sha256
    from tcig.data.layout import hash_order, read_manifest
    from tcig.data.photographs import open_photograph
    from tcig.eval.judges import load_judge
    from tcig.methods.base import Context, NoOptions
    from tcig.methods.references import Paste
    from tcig.models.plugins import PluginError
    from tcig.profiles import load_profile
    from tcig.run.conformance import Finding, check_judge, check_method
    from tcig.run.experiment import find_manifest
    from tcig.run.spec import prepare

    profile = load_profile(options.profile)
    profile.compute.check_named()
    given = dict(assignment(text) for text in options.set)
    is_judge = _is_judge(options.target)
    with TemporaryDirectory() as folder:
        manifest, coco = find_manifest(profile, options.layouts, options.coco, Path(folder))
        layouts = hash_order(read_manifest(manifest)[1])[: options.count]
        if len(layouts) < 2:
            raise InputError(f"{manifest} holds one layout: two or more are needed.")
        try:
            if is_judge:
                judge = load_judge(options.target)[1]
            else:
                spec, method = prepare(options.target, profile, coco, sha256(manifest), given)
        except PluginError as error:
            yield Finding("FAIL", "set-up", str(error).removesuffix("."))
            return
    if not is_judge:
        yield from check_method(method, spec, layouts, caught)
        return
    if given:
        raise InputError(f"{options.target} is a judge: --set is of methods.")
    images = [open_photograph(layout, coco, profile.size) for layout in layouts] if coco else []
    images += Paste(Context(profile.size), NoOptions()).generate(layouts, [])
    yield from check_judge(judge, images, caught)


def _is_judge(target: str) -> bool:
    """Whether a name or a class from a file is a judge; what is neither counts as a method."""
    from importlib.metadata import entry_points

    from tcig.eval.judges import GROUP, JUDGES, Judge
    from tcig.methods.base import Method
    from tcig.models.plugins import class_in_file, load_class

    if class_in_file(target):
        kind, _ = load_class(target, Method, Judge)
        return issubclass(kind, Judge)
    name = target.partition("=")[0]
    return name in JUDGES or name in entry_points(group=GROUP).names
