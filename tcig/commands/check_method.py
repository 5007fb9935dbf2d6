"""`tcig check-method`: whether a method keeps what the benchmark builds on, in plain words.

    tcig check-method path/to/file.py:MyMethod
    tcig check-method si --profile mini --set guidance=5
    tcig check-method path/to/file.py:MyMethod --profile paper --layouts layouts.jsonl --coco coco

Draws a few layouts again and again: twice alike, in another order, each alone, under other seeds.
Prints a line for each property with what was seen and how to mend it.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import tyro

from tcig.commands.parsing import assignment, parse
from tcig.data.errors import InputError


@dataclass
class Options:
    """Arguments of `tcig check-method`."""

    method: tyro.conf.Positional[str]
    """By name, or path/to/file.py:Class."""
    profile: str = "mini"
    """Size and options."""
    layouts: Path | None = None
    """Manifest (default: the embedded data)."""
    coco: Path | None = None
    """Folder of the photographs, where the method reads them."""
    count: int = 3
    """Layouts to draw, 2 or more."""
    set: tuple[str, ...] = ()
    """Options of the method, as OPTION=VALUE."""


def main(argv: list[str]) -> int:
    """Runs `tcig check-method`; 1 if a check failed."""
    options = parse(Options, argv, "check-method", __doc__)
    if options.count < 2:
        raise InputError("--count counts from 2: one layout has no order.")
    from tcig.commands.inputs import manifest_of
    from tcig.data.files import sha256
    from tcig.data.layout import hash_order, read_manifest
    from tcig.profiles import load_profile
    from tcig.run.conformance import check
    from tcig.run.spec import prepare

    profile = load_profile(options.profile)
    given = dict(assignment(text) for text in options.set)
    with TemporaryDirectory() as folder:
        manifest, coco = manifest_of(profile, options.layouts, options.coco, Path(folder))
        layouts = hash_order(read_manifest(manifest)[1])[: options.count]
        if len(layouts) < 2:
            raise InputError(f"{manifest} holds one layout: two or more are needed.")
        spec, method = prepare(options.method, profile, coco, sha256(manifest), given)
    failed = 0
    for finding in check(method, spec, layouts):
        failed += finding.verdict == "FAIL"
        print(f"{finding.verdict:<4} {finding.what:<13} {finding.said}", flush=True)
    print(f"\n{spec.method}: {f'{failed} of the checks failed' if failed else 'conforms'}")
    return 1 if failed else 0
