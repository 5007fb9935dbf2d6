"""`tcig plan`: estimates what a run will cost, before it starts.

    tcig plan --profile paper --layouts layouts.jsonl
    tcig plan --profile paper --layouts layouts.jsonl --methods si tcig --samples 4 --limit 100
    tcig plan --profile paper --layouts layouts.jsonl --coco coco --pilot

Counts images, evaluations of the UNet, optimisation steps, downloads and disk. Hours come from
earlier runs in OUT of the same row, options, size, batch, arithmetic and device, on any layouts.
With --pilot a row without any is first generated for two layouts, in OUT/pilot, and the judges are
timed. Two images fill no batch, and a first batch is slow: such hours are rather too many.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from tabulate import tabulate

from tcig.commands import parse
from tcig.data.files import InputError
from tcig.data.records import read_run, run_rows

BYTES_PER_PIXEL = 1.7
"""Bytes of a photograph as PNG (assumed)."""
PILOT_LAYOUTS = 2


@dataclass
class Options:
    """Arguments of `tcig plan`."""

    profile: str = "paper"
    """Size, judges, options."""
    layouts: Path | None = None
    """Manifest, as `tcig layouts` writes it."""
    methods: tuple[str, ...] = ()
    """Rows (default: those of the profile)."""
    set: tuple[str, ...] = ()
    """Options of rows, as ROW.OPTION=VALUE."""
    samples: int = 1
    """Images per layout."""
    limit: int | None = None
    """Number of layouts, the first in the order of a hash of their ids."""
    out: Path = Path("runs")
    """Folder of earlier runs."""
    pilot: bool = False
    """Generate two layouts of each row that has no earlier run; its weights must be there."""
    coco: Path | None = None
    """Folder of the photographs, for the row `real` in a pilot."""


def main(argv: list[str]) -> int:
    """Runs `tcig plan`."""
    options = parse(Options, argv, "plan", __doc__)
    from tcig.models.devices import name_of
    from tcig.models.fetch import present, store
    from tcig.models.sources import entry_of
    from tcig.profiles import load_profile
    from tcig.run.experiment import find_manifest, read_data
    from tcig.run.spec import choose_rows, needs

    profile = load_profile(options.profile)
    profile.compute.check_named()
    with TemporaryDirectory() as folder:
        manifest, _ = find_manifest(profile, options.layouts, None, Path(folder))
        layouts = read_data(manifest, None, options.limit).drawn
    rows = choose_rows(profile, options.methods, options.set)
    judging = _run_pilot(options, profile, rows) if options.pilot else {}
    images = len(layouts) * options.samples
    total = images * len(rows)
    lines, known, unknown = [], sum(judging.values()) * total, []
    for row in rows:
        cost, seconds = row.cost(layouts), _seconds_per_image(row, profile, options.out)
        lines.append(
            {
                "row": row.row,
                "images": images,
                "UNet evaluations": cost.unet * options.samples,
                "steps": cost.iterations * options.samples,
                "hours": None if seconds is None else seconds * images / 3600,
            }
        )
        known += (seconds or 0) * images
        unknown += [row.row] if seconds is None else []
    print(f"{profile.name} on {name_of(profile.compute)}, {profile.compute.arithmetic}")
    print(f"{len(layouts)} layouts, {options.samples} samples each, {total} images\n")
    print(tabulate(lines, headers="keys", floatfmt=".2f", missingval="unknown"))
    if judging:
        print(f"\njudging: {', '.join(f'{j} {_duration(s * total)}' for j, s in judging.items())}")
    names = ", ".join(unknown)
    if len(unknown) < len(rows):
        print(f"\nestimated in all{names and f', without {names}'}: {_duration(known)}")
    if unknown:
        print(f"\nno earlier run in {options.out} of {names}: --pilot generates two layouts")
    lacking = [name for name in needs(profile, rows, quality=False) if not present(name)]
    size = sum(entry_of(name).size or 0 for name in lacking)
    print(f"\ndownloads: {size / 1e9:.1f} GB of weights to {store()} ({len(lacking)} models)")
    disk = total * profile.size**2 * BYTES_PER_PIXEL / 1e9
    print(f"disk: about {disk:.2f} GB of images, beside the weights")
    return 0


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _seconds_per_image(row, profile, out: Path) -> float | None:
    """Returns the mean seconds per image of a row in the runs in `out` and `out/pilot`, if any.

    Only runs count whose images would take as long: of the same row, options, size, batch,
    arithmetic and device, whatever their layouts and weights.
    """
    from tcig.methods.registry import recorded
    from tcig.models.devices import name_of

    wanted = {
        "method": row.row,
        "options": json.loads(json.dumps(recorded(row.options, row.row))),
        "size": profile.size,
        "batch": profile.batch,
        "arithmetic": profile.compute.arithmetic,
    }
    device, seconds = name_of(profile.compute), []
    for path in [*out.glob("*/run.json"), *out.glob("pilot/*/run.json")]:
        spec = read_run(path.parent).spec
        if all(getattr(spec, name) == value for name, value in wanted.items()):
            records = (each for each in run_rows(path.parent) if each.get("device") == device)
            seconds += [each["seconds"] for each in records if each.get("seconds") is not None]
    return mean(seconds) if seconds else None


def _run_pilot(options: Options, profile, rows: Sequence) -> dict[str, float]:
    """Generates two layouts of the rows without an earlier run, and times the judges on them.

    Returns:
        Seconds per image of each judge; none where nothing was generated.
    """
    from tcig.eval.images import open_image
    from tcig.eval.judges import load_judge
    from tcig.models.devices import set_tf32
    from tcig.run.experiment import run_experiment

    out = options.out / "pilot"
    lacking = {
        row.row: name
        for name, row in zip(options.methods or profile.rows, rows, strict=True)
        if _seconds_per_image(row, profile, options.out) is None
    }
    if not lacking:
        return {}
    outcome = run_experiment(
        list(lacking.values()),
        options.profile,
        options.layouts,
        coco=options.coco,
        settings=[each for each in options.set if each.partition(".")[0] in lacking],
        limit=PILOT_LAYOUTS,
        judges=(),
        out=out,
    )
    if outcome.failed:
        raise InputError(f"a sample of the pilot failed: see the rows.jsonl in {out}.")
    images = [open_image(path, profile.size, resize=False) for path in out.glob("*/[!.]*.png")]
    seconds = {}
    set_tf32(False)
    for name in profile.judges:
        _, judge = load_judge(name)
        judge.segment(images[:1])  # the first image takes longer
        started = time.perf_counter()
        for image in images:
            judge.segment([image])
        seconds[name] = (time.perf_counter() - started) / len(images)
    return seconds
