"""`tcig sweep`: measures rows under combinations of their options.

    tcig sweep --row tcig-stage1 --vary "first.rate=0.05 0.1 0.2" "first.guide_weight=10 50"
    tcig sweep --row multidiffusion --vary "guidance=2 5 9" --limit 48 --table guidance.csv
    tcig sweep --row si --profile paper --layouts val2014.jsonl --exclude val2017.jsonl \\
        --vary "guidance=5 7.5 10"
    tcig sweep --row tcig --vary "first.size,first.iterations=64,200 96,90"    # together
    tcig sweep --preset masks          # does stage 2 forgive imperfect masks, at which strength?
    tcig sweep --preset steps          # does stage 1 save diffusion steps?
    tcig sweep --preset loss-weights   # what do the weights of Equation 2 do?
    tcig sweep --preset init           # does a random start give diverse images?
    tcig sweep --preset leakage        # how much of TCIG's IoU does its guide alone see?

Every combination is a run in OUT, scored against the true masks by the profile's first judge. The
table is written after each run, and a stopped sweep resumes. With --row, the layouts are the
embedded tuning split, which shares no scene with the reported layouts, and the table is sorted by
iou_image. A preset tests a claim of the paper: it uses the reported layouts, adds quality metrics
where the profile names a scorer, and draws OUT/PRESET.png. `leakage` uses all judges of the
profile: an independent one and a guide of TCIG.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tcig.commands import assignment, parse
from tcig.data.files import InputError


@dataclass
class Options:
    """Arguments of `tcig sweep`."""

    row: str | None = None
    """The row, as in `tcig run --methods`."""
    vary: tuple[str, ...] = ()
    """Options with their values, as "OPTION=VALUE VALUE ...", each in quotes. Options that change
    together are joined by commas, and so are their values."""
    preset: Literal["masks", "steps", "loss-weights", "init", "leakage"] | None = None
    """A preset, in place of --row and --vary."""
    set: tuple[str, ...] = ()
    """Options that all runs share, as OPTION=VALUE; with --preset, ROW.OPTION=VALUE."""
    profile: str = "mini"
    """Size, judges and batch: mini, paper, or a TOML file."""
    layouts: Path | None = None
    """Manifest of layouts (default: embedded data)."""
    exclude: Path | None = None
    """Manifest whose layouts are not used, such as the reported ones."""
    limit: int | None = 24
    """Number of layouts, the first in the order of a hash of their ids."""
    out: Path | None = None
    """Folder of the runs (default: runs/sweep; runs/claims with --preset)."""
    table: Path | None = None
    """CSV to write (default: OUT/ROW.csv or OUT/PRESET.csv)."""

    def __post_init__(self):
        if (self.row is None) == (self.preset is None):
            raise InputError("give either --row with --vary, or --preset.")
        if self.preset and self.vary:
            raise InputError("--vary belongs to --row; a preset varies options of its own.")


def main(argv: list[str]) -> int:
    """Runs `tcig sweep`; 1 if a sample failed."""
    options = parse(Options, argv, "sweep", __doc__)
    from tcig.methods.registry import find_row
    from tcig.run.presets import sweep_preset
    from tcig.run.sweep import Sweep, sweep_row

    out = options.out or Path("runs/claims" if options.preset else "runs/sweep")
    runs = out / "runs" if options.preset else out
    table = options.table or out / f"{options.preset or find_row(options.row)[0]}.csv"
    data = options.profile, options.layouts, options.exclude, options.limit
    sweep = Sweep(*data, out=runs, table=table)
    if options.preset:
        figure = out / f"{options.preset}.png"
        frame = sweep_preset(sweep, options.preset, options.set, figure)
        print(f"{table}\n{figure}")
    else:
        shared = dict(assignment(text) for text in options.set)
        combinations = itertools.product(*(_axis(text) for text in options.vary))
        varied = [dict(itertools.chain(*combination)) for combination in combinations]
        frame = sweep_row(sweep, options.row, varied, shared)
        print(table)
    return 1 if frame["failed"].sum() else 0


def _axis(text: str) -> list[list[tuple[str, str]]]:
    """Returns the settings of one `--vary`: for each value, pairs of an option and its value."""
    left, right = assignment(text)
    options, values = left.split(","), right.split()
    if not values:
        raise InputError(f'{text!r}: give "OPTION=VALUE VALUE ...", as in "guidance=5 7.5".')
    if len(options) == 1:
        return [[(left, value)] for value in values]
    for value in values:
        if value.count(",") + 1 != len(options):
            raise InputError(f"{text!r}: {value} is not {len(options)} values, one an option.")
    return [list(zip(options, value.split(","), strict=True)) for value in values]
