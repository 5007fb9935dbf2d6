"""`tcig plan`: what a run will cost, before it starts.

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
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from tcig.commands.parsing import check_counts, parse
from tcig.data.errors import InputError

PNG = 1.7
"""Bytes a pixel of a photograph as PNG; assumed."""
PILOT = 2
"""Layouts of a pilot."""


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
    """The first N layouts in the order of a hash of their ids."""
    out: Path = Path("runs")
    """Where earlier runs are."""
    pilot: bool = False
    """Generate two layouts of each row that has no earlier run; its weights must be there."""
    coco: Path | None = None
    """Folder of the photographs, for the row `real` in a pilot."""


def main(argv: list[str]) -> int:
    """Runs `tcig plan`."""
    options = parse(Options, argv, "plan", __doc__)
    check_counts(samples=options.samples, limit=options.limit)
    from tempfile import TemporaryDirectory

    from tcig.methods.base import Cost
    from tcig.models.devices import name_of
    from tcig.profiles import load_profile
    from tcig.run.experiment import manifest_of, read_data
    from tcig.run.spec import choose_rows

    profile = load_profile(options.profile)
    profile.compute.check_named()
    with TemporaryDirectory() as folder:
        manifest, _ = manifest_of(profile, options.layouts, None, Path(folder))
        layouts = read_data(manifest, None, options.limit).drawn
    chosen = choose_rows(profile, options.methods, options.set)
    judging = _pilot(options, profile, chosen) if options.pilot else {}
    images = len(layouts) * options.samples
    lines = []
    for each in chosen:
        cost = Cost(*(count * options.samples for count in each.cost(layouts)))
        counts = {"UNet evaluations": cost.unet, "steps": cost.iterations}
        seconds = seconds_of(each, profile, options.out)
        hours = None if seconds is None else seconds * images / 3600
        lines.append({"row": each.row, "images": images, **counts, "hours": hours})
    total = images * len(chosen)
    print(f"{profile.name} on {name_of(profile.compute)}, {profile.compute.arithmetic}")
    print(f"{len(layouts)} layouts, {options.samples} samples each, {total} images\n")
    print(tabulate(lines, headers="keys", floatfmt=".2f", missingval="unknown"))
    if judging:
        each = ", ".join(f"{judge} {_duration(s * total)}" for judge, s in judging.items())
        print(f"\njudging: {each}")
    known = [line["hours"] for line in lines if line["hours"] is not None]
    unknown = ", ".join(line["row"] for line in lines if line["hours"] is None)
    if known:
        seconds = 3600 * sum(known) + sum(judging.values()) * total
        print(f"\nestimated in all{unknown and f', without {unknown}'}: {_duration(seconds)}")
    if unknown:
        print(f"\nno earlier run in {options.out} of {unknown}: --pilot generates two layouts")
    _space(chosen, profile, total)
    return 0


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def seconds_of(chosen, profile, out: Path) -> float | None:
    """Mean seconds an image of a row in the runs in `out` and in `out/pilot`; None without any.

    Runs count whose images would take as long: of the same row, options, size, batch, arithmetic
    and device, whatever their layouts and weights.
    """
    from tcig.eval.images import read_run, run_rows
    from tcig.methods.settings import recorded
    from tcig.models.devices import name_of

    compute = profile.compute
    wanted = {
        "method": chosen.row,
        "options": json.loads(json.dumps(recorded(chosen.options, chosen.row))),
        "size": profile.size,
        "batch": profile.batch,
        "arithmetic": compute.arithmetic,
    }
    seconds = []
    for record in [*out.glob("*/run.json"), *out.glob("pilot/*/run.json")]:
        spec = read_run(record.parent).spec
        if all(getattr(spec, name) == value for name, value in wanted.items()):
            seconds += [
                row["seconds"]
                for row in run_rows(record.parent)
                if row.get("seconds") is not None and row.get("device") == name_of(compute)
            ]
    return sum(seconds) / len(seconds) if seconds else None


def _pilot(options: Options, profile, chosen: list) -> dict[str, float]:
    """Generates the layouts of a pilot with the rows that have no earlier run.

    Returns:
        The seconds that each judge takes for one of its images; none where nothing was generated.
    """
    from tcig.run.experiment import run_experiment

    out = options.out / "pilot"
    rows = {
        each.row: name
        for name, each in zip(options.methods or profile.rows, chosen, strict=True)
        if seconds_of(each, profile, options.out) is None
    }
    if not rows:
        return {}
    outcome = run_experiment(
        list(rows.values()),
        options.profile,
        options.layouts,
        coco=options.coco,
        settings=[each for each in options.set if each.partition(".")[0] in rows],
        limit=PILOT,
        judges=(),
        out=out,
    )
    if outcome.failed:
        raise InputError(f"a sample of the pilot failed: see the rows.jsonl in {out}.")
    return {judge: _judging(judge, profile.size, out) for judge in profile.judges}


def _judging(name: str, size: int, out: Path) -> float:
    """Seconds an image of a judge, which has seen one before."""
    from tcig.eval.images import open_image
    from tcig.eval.judges import load_judge
    from tcig.models.devices import set_tf32

    set_tf32(False)
    _, judge = load_judge(name)
    images = [open_image(path, size, resize=False) for path in out.glob("*/[!.]*.png")]
    judge.segment(images[:1])
    started = time.perf_counter()
    for image in images:
        judge.segment([image])
    return (time.perf_counter() - started) / len(images)


def _space(chosen: list, profile, total: int) -> None:
    """Downloads and disk."""
    from tcig.models.catalogue import entry_of
    from tcig.models.fetch import present, store
    from tcig.run.needs import needs

    names = needs(profile, chosen, quality=False)
    lacking = [name for name in names if not present(name)]
    size = sum(entry_of(name).size or 0 for name in lacking)
    print(f"\ndownloads: {size / 1e9:.1f} GB of weights to {store()} ({len(lacking)} models)")
    disk = total * profile.size**2 * PNG / 1e9
    print(f"disk: about {disk:.2f} GB of images, beside the weights")
