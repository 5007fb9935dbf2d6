"""`tcig rehearse`: a profile's whole path on this machine, with random weights and few steps.

    tcig rehearse --profile paper --out rehearsal
    tcig rehearse --profile paper-small --methods tcig --out rehearsal

Makes the real architectures with random weights, in the layout of the real files, puts them where
fetched ones are kept (in OUT, not in TCIG_WEIGHTS), draws two embedded layouts with two steps,
scores them and prints seconds, memory and the table. It shows that everything fits and runs; its
IoU means nothing. Nothing is fetched. What was finished is not done again.
"""

import math
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tcig.commands.parsing import parse
from tcig.data.errors import InputError

LAYOUTS = 2
STEPS = 2
ROWS = ("real", "text-only", "si", "bld", "multidiffusion", "tcig")
"""The systems, floor and ceiling; the ablations run the same networks."""
MARKER = ".tcig-rehearsal"
"""File by which a folder of random weights is known, and may be removed."""
SPARE = 1_000_000_000
"""Bytes of disk beyond the weights; ours."""


@dataclass
class Options:
    """Arguments of `tcig rehearse`."""

    profile: str = "paper"
    """What to rehearse."""
    out: Path = Path("rehearsal")
    """Folder for the random weights, the runs and the table."""
    methods: tuple[str, ...] = ROWS
    """Rows."""
    keep: bool = False
    """Keep the random weights (many GB) for another rehearsal."""


def main(argv: list[str]) -> int:
    """Runs `tcig rehearse`; 1 if a sample failed."""
    options = parse(Options, argv, "rehearse", __doc__)
    from tcig.models.devices import DEVICE
    from tcig.models.store import VARIABLE
    from tcig.profiles import load_profile

    profile = load_profile(options.profile)
    weights = (options.out / "weights").resolve()
    changes = {VARIABLE: str(weights)}
    if profile.compute.device.type == "cpu":
        changes[DEVICE] = "cpu"  # a rehearsal may run where the profile itself would not
    marker = weights / MARKER
    if weights.exists() and any(weights.iterdir()) and not marker.exists():
        raise InputError(f"{weights} was not made by a rehearsal; choose another --out.")
    weights.mkdir(parents=True, exist_ok=True)
    marker.touch()
    try:
        with mock.patch.dict(os.environ, changes):
            return _rehearse(options, profile, weights)
    finally:
        if not options.keep:
            shutil.rmtree(weights)


def _rehearse(options: Options, profile, weights: Path) -> int:
    """Makes the weights, runs and scores the rows, and prints the table."""
    from tcig.data.emoji import FOLDER
    from tcig.run.experiment import run_experiment

    started = time.perf_counter()
    _make(profile, options.methods, weights)
    made = time.perf_counter()
    runs = options.out / "runs"
    manifest = _manifest(options.out)
    outcome = run_experiment(
        options.methods,
        options.profile,
        manifest,
        coco=FOLDER,
        settings=[change for row in options.methods for change in _few(row, profile)],
        limit=LAYOUTS,
        out=runs,
    )
    finished = time.perf_counter()
    _report(runs, manifest, options, [made - started, finished - made])
    return 1 if outcome.failed else 0


def _make(profile, rows: tuple[str, ...], weights: Path) -> None:
    """Random weights of all that the rows and judges need, where fetched ones would be."""
    from tcig.models.catalogue import entry_of
    from tcig.models.fetch import adopt
    from tcig.models.random_weights import same_architecture, write_random_weights
    from tcig.models.store import place_of, present
    from tcig.run.needs import needs
    from tcig.run.spec import choose_rows

    names = [
        name
        for name in needs(profile, choose_rows(profile, rows), quality=False)
        if not present(name)
    ]
    need = sum(entry_of(name).size or 0 for name in names) + SPARE
    free = shutil.disk_usage(weights).free
    print(
        f"{len(names)} models of random weights, {need / 1e9:.1f} GB, in {weights} "
        f"({free / 1e9:.0f} GB free)",
        file=sys.stderr,
    )
    if need > free:
        raise InputError(f"{weights} has {free / 1e9:.1f} GB free, {need / 1e9:.1f} are needed.")
    for name in names:
        folder = place_of(name)
        shutil.rmtree(folder, ignore_errors=True)
        twin = next((other for other in same_architecture(name) if present(other)), None)
        print(f"{name}{f' as {twin}' if twin else ''}", file=sys.stderr)
        if twin:
            shutil.copytree(place_of(twin), folder, copy_function=os.link)
        else:
            write_random_weights(name, folder)
        adopt(name, "random")


def _manifest(out: Path) -> Path:
    from tcig.data.build import build_layouts
    from tcig.data.emoji import FOLDER
    from tcig.data.filters import Filter
    from tcig.data.layout import write_manifest

    path = out / "layouts.jsonl"
    write_manifest(path, *build_layouts(FOLDER, Filter()))
    return path


def _few(row: str, profile) -> list[str]:
    """Settings by which a row takes few steps, of those options that it has."""
    from tcig.run.spec import choose

    options = choose(row, profile).options
    settings = {"steps": STEPS} if hasattr(options, "steps") else {}
    if hasattr(options, "first"):
        steps = math.ceil(STEPS / options.second.strength)
        settings = {"first.iterations": STEPS, "second.steps": steps}
    return [f"{row}.{option}={value}" for option, value in settings.items()]


def _report(runs: Path, manifest: Path, options: Options, seconds: list[float]) -> None:
    from tabulate import tabulate

    from tcig.data.files import write_whole
    from tcig.eval.images import read_run, run_rows
    from tcig.eval.table import measured
    from tcig.run.folders import find_runs

    found = find_runs(runs, manifest)
    lines = []
    for row in options.methods:
        spec = read_run(found[row]).spec
        for record in run_rows(found[row]):
            peak = record["peak_device_mib"]
            lines.append(
                {
                    "row": row,
                    "layout": record["layout"],
                    "pixels": spec.size,
                    "arithmetic": spec.arithmetic,
                    "seconds": record["seconds"],
                    "memory, GiB": round(record["peak_mib"] / 1024, 1),
                    "GPU, GiB": "" if peak is None else round(peak / 1024, 1),
                    "error": record["error"] or "",
                }
            )
    frame = measured([found[row] for row in options.methods], "none")
    scored = frame[frame["ignore"] == "none"][["row", "judge", "n", "iou_image"]]
    table = "\n".join(
        [
            f"# Rehearsal of {options.profile}: random weights, {STEPS} steps",
            "",
            tabulate(lines, headers="keys", tablefmt="github"),
            "",
            tabulate(scored, headers="keys", tablefmt="github", showindex=False, floatfmt=".3f"),
            "",
            "The networks are random, so these IoUs mean nothing. They show that scoring runs.",
            f"The weights took {seconds[0]:.0f} s, the runs and scores {seconds[1]:.0f} s.",
            "",
        ]
    )
    write_whole(options.out / "rehearsal.md", table)
    print(table, end="")
