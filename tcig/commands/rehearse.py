"""`tcig rehearse`: runs a profile on this machine with random weights and few steps.

    tcig rehearse --profile paper --out rehearsal
    tcig rehearse --profile paper-small --methods tcig --out rehearsal

Makes the real architectures with random weights, in the files of the real ones, and puts them where
fetched ones are kept (in OUT, not in TCIG_WEIGHTS). Generates two embedded layouts with two steps,
scores them and prints seconds, memory and the table. It shows that everything fits and runs; its
IoU means nothing. Nothing is fetched. A stopped rehearsal resumes.
"""

import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from tcig.commands import parse
from tcig.data.emoji import FOLDER
from tcig.data.files import InputError, write_whole
from tcig.data.records import run_rows

LAYOUTS = 2
STEPS = 2
COLUMNS = ("layout", "seconds", "peak_mib", "peak_device_mib", "error")
ROWS = ("real", "text-only", "si", "bld", "multidiffusion", "tcig")
"""The four systems, the floor and the ceiling; the ablations run the same networks."""
MARKER = ".tcig-rehearsal"
"""File that marks a folder of random weights, which may be removed."""
SPARE = 1_000_000_000
"""Bytes of disk that must be free beside the weights (our choice)."""


@dataclass
class Options:
    """Arguments of `tcig rehearse`."""

    profile: str = "paper"
    """Profile to rehearse."""
    out: Path = Path("rehearsal")
    """Folder for the random weights, the runs and the table."""
    methods: tuple[str, ...] = ROWS
    """Rows to rehearse."""
    keep: bool = False
    """Keep the random weights (many GB) for another rehearsal."""


def main(argv: list[str]) -> int:
    """Runs `tcig rehearse`; 1 if a sample failed."""
    options = parse(Options, argv, "rehearse", __doc__)
    from tcig.eval.table import measured
    from tcig.profiles import load_profile
    from tcig.run.experiment import find_manifest, run_experiment
    from tcig.run.spec import choose_rows

    profile = load_profile(options.profile)
    with _random_weights_folder(profile, options) as weights:
        rows = choose_rows(profile, options.methods)
        started = time.perf_counter()
        _write_weights(profile, rows, weights)
        written = time.perf_counter()
        manifest, _ = find_manifest(load_profile("mini"), None, None, options.out)
        outcome = run_experiment(
            options.methods,
            options.profile,
            manifest,
            coco=FOLDER,
            settings=[setting for row in rows for setting in _few_steps(row)],
            limit=LAYOUTS,
            out=options.out / "runs",
        )
        finished = time.perf_counter()
    if not outcome.folders:
        raise InputError(f"no image could be generated; see the rows.jsonl in {options.out}/runs.")
    samples = [
        {"run": run.name} | {name: record[name] for name in COLUMNS}
        for run in outcome.folders
        for record in run_rows(run)
    ]
    frame = measured(outcome.folders, "none")
    scores = frame[frame["ignore"] == "none"][["row", "judge", "n", "iou_image"]]
    style = {"headers": "keys", "tablefmt": "github", "floatfmt": ".3f"}
    report = f"""# Rehearsal of {options.profile}: random weights, {STEPS} steps

{profile.size} pixels, {profile.compute.arithmetic}; memory is the peak in MiB.

{tabulate(samples, **style)}

{tabulate(scores, **style, showindex=False)}

The networks are random, so these IoUs mean nothing. They show that scoring runs.
The weights took {written - started:.0f} s, the runs and scores {finished - written:.0f} s.
"""
    write_whole(options.out / "rehearsal.md", report)
    print(report, end="")
    return 1 if outcome.failed else 0


@contextmanager
def _random_weights_folder(profile, options: Options) -> Iterator[Path]:
    """Makes a folder take the place of TCIG_WEIGHTS, and removes it at the end.

    Raises:
        InputError: the folder has files that no rehearsal made.
    """
    from tcig.models.devices import DEVICE
    from tcig.models.fetch import VARIABLE

    folder = (options.out / "weights").resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise InputError(f"{folder} was not made by a rehearsal; choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    before = dict(os.environ)
    os.environ[VARIABLE] = str(folder)
    if profile.compute.device.type == "cpu":
        os.environ[DEVICE] = "cpu"  # a rehearsal may run where the profile itself would not
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
        if not options.keep:
            shutil.rmtree(folder)


def _write_weights(profile, rows: Sequence, folder: Path) -> None:
    """Writes random weights of all networks of the rows and judges, unless they are there."""
    from tcig.models.fetch import adopt, place_of, present
    from tcig.models.random_weights import same_architecture, write_random_weights
    from tcig.models.sources import entry_of
    from tcig.run.spec import needs

    names = [name for name in needs(profile, rows, quality=False) if not present(name)]
    size = sum(entry_of(name).size or 0 for name in names) + SPARE
    free = shutil.disk_usage(folder).free
    print(
        f"{len(names)} models of random weights, {size / 1e9:.1f} GB, in {folder} "
        f"({free / 1e9:.0f} GB free)",
        file=sys.stderr,
    )
    if size > free:
        raise InputError(f"{folder} has {free / 1e9:.1f} GB free, {size / 1e9:.1f} are needed.")
    for name in names:
        target = place_of(name)
        shutil.rmtree(target, ignore_errors=True)
        same = next((other for other in same_architecture(name) if present(other)), None)
        print(f"{name}{f' as {same}' if same else ''}", file=sys.stderr)
        if same:
            shutil.copytree(place_of(same), target, copy_function=os.link)
        else:
            write_random_weights(name, target)
        adopt(name, "random")


def _few_steps(row) -> list[str]:
    """Returns settings by which a row takes few steps, as ROW.OPTION=VALUE."""
    settings = {}
    if hasattr(row.options, "first"):
        steps = math.ceil(STEPS / row.options.second.strength)
        settings = {"first.iterations": STEPS, "second.steps": steps}
    elif hasattr(row.options, "steps"):
        settings = {"steps": STEPS}
    return [f"{row.row}.{option}={value}" for option, value in settings.items()]
