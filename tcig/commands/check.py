"""`tcig check`: checks that a method or a judge keeps what the benchmark builds on.

    tcig check path/to/file.py:MyMethod
    tcig check si --profile mini --set guidance=5
    tcig check path/to/file.py:MyMethod --profile paper --layouts layouts.jsonl --coco coco
    tcig check path/to/file.py:MyJudge

Calls it several times on a few layouts or images: twice alike, in another order, each alone; a
method also under other seeds, a judge also with other sizes and an empty image. A judge sees
photographs, where there are some, and class maps in VOC's colours. Prints a line for each property
with what was observed and how to fix it.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory

import tyro

from tcig.commands import assignment, parse
from tcig.data.files import InputError


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
    """Number of layouts or photographs, 2 or more."""
    set: tuple[str, ...] = ()
    """Options of the method, as OPTION=VALUE."""


def main(argv: list[str]) -> int:
    """Runs `tcig check`; 1 if a check failed."""
    options = parse(Options, argv, "check", __doc__)
    if options.count < 2:
        raise InputError("--count must be at least 2, got 1: one layout has no order.")
    from tcig.models.plugins import StateWarning

    failed = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StateWarning)
        for name, verdict, message in _check(options, caught):
            failed += verdict == "FAIL"
            print(f"{verdict:<4} {name:<13} {message}", flush=True)
    for each in caught:
        if not issubclass(each.category, StateWarning):
            text = warnings.formatwarning(each.message, each.category, "", 0)
            print(text, file=sys.stderr, end="")
    verdict = f"{failed} of the checks failed" if failed else "conforms"
    print(f"\n{options.target.rpartition(':')[2]}: {verdict}")
    return 1 if failed else 0


def _check(
    options: Options, caught: Sequence[warnings.WarningMessage]
) -> Iterator[tuple[str, str, str]]:
    """Yields the results about a method or a judge: name, verdict and message."""
    from tcig.data.layout import open_photograph
    from tcig.eval.judges import GROUP, JUDGES, Judge, load_judge
    from tcig.methods.base import Context, Method, NoOptions, Paste
    from tcig.models.plugins import PluginError, class_in_file, load_class
    from tcig.profiles import load_profile
    from tcig.run.check import check_judge, check_method
    from tcig.run.experiment import find_manifest, read_data
    from tcig.run.spec import prepare

    target, profile = options.target, load_profile(options.profile)
    profile.compute.check_named()
    settings = dict(assignment(text) for text in options.set)
    with TemporaryDirectory() as folder:
        manifest, coco = find_manifest(profile, options.layouts, options.coco, Path(folder))
        data = read_data(manifest, coco, options.count)
    if len(data.drawn) < 2:
        raise InputError(f"{manifest} holds one layout: two or more are needed.")
    if class_in_file(target):
        is_judge = issubclass(load_class(target, Method, Judge)[0], Judge)
    else:
        is_judge = target.partition("=")[0] in {*JUDGES, *entry_points(group=GROUP).names}
    if is_judge and settings:
        raise InputError(f"{target} is a judge: --set is of methods.")
    try:
        if is_judge:
            judge = load_judge(target)[1]
        else:
            spec, method = prepare(target, profile, coco, data.manifest, settings)
    except PluginError as error:
        yield "set-up", "FAIL", str(error)
        return
    if is_judge:
        images = [open_photograph(x, coco, profile.size) for x in data.drawn] if coco else []
        images += Paste(Context(profile.size), NoOptions()).generate(data.drawn, [])
        yield from check_judge(judge, images, caught)
    else:
        yield from check_method(method, spec, data.drawn, caught)
