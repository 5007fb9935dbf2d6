"""`tcig sweep`: measures a row under combinations of its options, on layouts kept for tuning.

    tcig sweep --row tcig-stage1 --vary "first.rate=0.05 0.1 0.2" "first.guide_weight=10 50"
    tcig sweep --row multidiffusion --vary "guidance=2 5 9" --limit 48 --table guidance.csv
    tcig sweep --row si --profile paper --layouts val2014.jsonl --exclude val2017.jsonl \\
        --vary "guidance=5 7.5 10"
    tcig sweep --row tcig --vary "first.size,first.iterations=64,200 96,90"    # together

Every combination of the values is a run in OUT, scored by the profile's first judge; the table is
sorted by iou_image and written after each. A stopped sweep goes on where it was. Without --layouts
the embedded tuning split is drawn, which shares no scene with the one that is reported.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

from tcig.commands.parsing import assignment, check_counts, parse
from tcig.data.errors import InputError

TUNING = 64
"""Scenes of the embedded tuning split, before the filter."""


@dataclass
class Options:
    """Arguments of `tcig sweep`."""

    row: str
    """The row, as in `tcig run --methods`."""
    vary: tuple[str, ...]
    """Options with their values, as "OPTION=VALUE VALUE ...", each in quotes. Options that change
    together are joined by commas, and so are their values."""
    set: tuple[str, ...] = ()
    """Options that all trials share, as OPTION=VALUE."""
    profile: str = "mini"
    """Size, judges and batch: mini, paper, or a TOML file."""
    layouts: Path | None = None
    """Manifest of layouts for tuning."""
    exclude: Path | None = None
    """Manifest of the layouts to be reported: none of these is used."""
    limit: int | None = 24
    """The first N layouts in the order of a hash of their ids."""
    out: Path = Path("runs/sweep")
    """Where the runs' folders are."""
    table: Path | None = None
    """CSV to write (default: OUT/ROW.csv)."""


def main(argv: list[str]) -> int:
    """Runs `tcig sweep`; 1 if a sample failed."""
    options = parse(Options, argv, "sweep", __doc__)
    check_counts(limit=options.limit)
    axes = [_axis(text) for text in options.vary]
    shared = dict(assignment(text) for text in options.set)
    from tcig.data.layout import read_manifest
    from tcig.eval.judges import load_judge
    from tcig.methods.registry import find_row
    from tcig.profiles import load_profile
    from tcig.run.experiment import check_rows, read_data
    from tcig.run.spec import choose
    from tcig.run.trials import Eyes, measure

    profile = load_profile(options.profile)
    profile.compute.check_named()
    row, _ = find_row(options.row)
    options.out.mkdir(parents=True, exist_ok=True)
    coco, manifest = _tuning(profile, options)
    reported = read_manifest(options.exclude)[1] if options.exclude else []
    data = read_data(manifest, coco, options.limit, {layout.id for layout in reported})
    if not data.drawn:
        raise InputError("no layouts are left to tune on.")
    judge = load_judge(profile.judges[0])
    table = options.table or options.out / f"{row}.csv"
    trials = [dict(itertools.chain(*settings)) for settings in itertools.product(*axes)]
    picked = [choose(options.row, profile, shared | trial) for trial in trials]
    check_rows(picked, data)
    records, failed = [], 0
    for trial, each in zip(trials, picked, strict=True):
        found = measure(each, profile, data, Eyes([judge]), options.out)
        failed += found["failed"]
        records.append(trial | found)
        _write(table, records)
    print(table)
    return 1 if failed else 0


def _axis(text: str) -> list[list[tuple[str, str]]]:
    """The settings of one `--vary`: for each of its values, options and what they are set to."""
    left, right = assignment(text)
    options, values = left.split(","), right.split()
    if not values:
        raise InputError(f'{text!r}: give "OPTION=VALUE VALUE ...", as in "guidance=5 7.5".')
    if len(options) == 1:
        return [[(left, value)] for value in values]
    settings = [list(zip(options, value.split(","), strict=False)) for value in values]
    for value in values:
        if value.count(",") + 1 != len(options):
            raise InputError(f"{text!r}: {value} is not {len(options)} values, one an option.")
    return settings


def _tuning(profile, options: Options) -> tuple[Path | None, Path]:
    """The COCO folder and the manifest to tune on."""
    from tcig.data.build import build_layouts
    from tcig.data.emoji.make import make_split
    from tcig.data.filters import Filter
    from tcig.data.layout import write_manifest

    if options.layouts:
        return None, options.layouts
    if not profile.embedded:
        raise InputError(
            f"the profile {profile.name} embeds no data: give --layouts FILE, and what it must not "
            "share as --exclude FILE."
        )
    folder = options.out / "tuning"
    make_split("tuning", TUNING, folder)
    manifest = options.out / "tuning.jsonl"
    write_manifest(manifest, *build_layouts(folder, Filter()))
    return folder, manifest


def _write(table: Path, records: list[dict]) -> None:
    import pandas as pd

    from tcig.data.files import write_whole

    frame = pd.DataFrame(records).sort_values("iou_image", ascending=False, kind="stable")
    table.parent.mkdir(parents=True, exist_ok=True)
    write_whole(table, frame.round(4).to_csv(index=False))
