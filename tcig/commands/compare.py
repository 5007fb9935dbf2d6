"""`tcig compare`: two results lined up row by row, or refused with the reason.

    tcig compare results/mini/result.json runs
    tcig compare theirs.json ours.json --reduction iou_foreground
    tcig compare results/mini/result.json runs --within results/mini/tolerance.csv
    tcig compare one-machine.json another.json --measure results/mini/tolerance.csv

A and B are files of `tcig table --format json`, or folders of scored images. Every row that both
have is compared on the samples of both, their means too: the second minus the first, its 95%
interval, and p of a paired permutation test, adjusted for the number of lines. Results of other
layouts, of a judge of other weights or another size, or with dropped objects treated otherwise are
refused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro
from tabulate import tabulate

from tcig.commands import parse
from tcig.data.files import InputError, write_whole

MARGIN = 0.01
"""IoU by which a tolerance exceeds the farther end of the 95% interval (our choice)."""


@dataclass
class Options:
    """Arguments of `tcig compare`."""

    first: tyro.conf.Positional[Path]
    """A result, or a folder of scored images or of such folders."""
    second: tyro.conf.Positional[Path]
    """The result to compare with the first."""
    reduction: str = "iou_image"
    """Metric to compare: iou_image or iou_foreground."""
    judge: str | None = None
    """Only this judge's rows."""
    ignore: Literal["none", "dropped"] = "none"
    """Pixels of the objects that the filter dropped count as errors, or not at all; of folders."""
    within: Path | None = None
    """CSV of row, tolerance: status 1 where a row's mean moved further, or none is given for it."""
    measure: Path | None = None
    """CSV to write: each row's tolerance from these two, the same run on two machines."""


def main(argv: list[str]) -> int:
    """Runs `tcig compare`; 1 if a row is beyond its tolerance."""
    options = parse(Options, argv, "compare", __doc__)
    from tcig.eval.comparison import alone, compare
    from tcig.eval.results import read_result
    from tcig.eval.rows import result_of

    def result(path: Path):
        if path.is_dir():
            return result_of([path], options.ignore, ["tcig", "compare", *argv])
        return read_result(path)

    tolerances = _tolerances(options.within) if options.within else {}
    first, second = result(options.first), result(options.second)
    lines = compare(first, second, options.reduction)
    lines = [line for line in lines if options.judge in (None, line.judge)]
    if not lines:
        raise InputError(f"no row of both was scored by {options.judge!r}.")
    table, beyond = [], []
    for line in lines:
        name = line.row + (" (dropped objects ignored)" if line.ignore == "dropped" else "")
        paired = line.paired
        cells = {"row": name, "judge": line.judge, "n": paired.n}
        cells |= {"first": line.first, "second": line.second, "difference": paired.difference}
        cells |= {"95% interval": f"{paired.low:+.3f} .. {paired.high:+.3f}", "p": line.p}
        if options.within:
            allowed = tolerances.get(line.row, 0.0)
            kept = abs(paired.difference) <= allowed
            cells |= {"allowed": allowed, "": "" if kept else "BEYOND"}
            beyond += [] if kept else [name]
        table.append(cells)
    formats = ("", "", "", ".3f", ".3f", "+.3f", "", ".2g", ".3f")
    print(f"{options.reduction}: {options.second} against {options.first}, samples of both\n")
    print(tabulate(table, headers="keys", floatfmt=formats))
    if options.measure:
        _measure(options.measure, lines)
    notes = {note: None for line in lines for note in line.notes}
    for path, names in zip((options.first, options.second), alone(first, second), strict=True):
        if names:
            print(f"\nonly in {path}: {', '.join(names)}")
    print("".join(f"\ndiffers: {note}" for note in notes) + ("\n" if notes else ""), end="")
    if beyond:
        print(f"\n{len(beyond)} of {len(lines)} rows are beyond their tolerance.")
    elif options.within:
        print(f"\nAll {len(lines)} rows are within their tolerance.")
    return 1 if beyond else 0


def _measure(path: Path, lines: list) -> None:
    """Stores tolerances: of each row the largest over its lines."""
    found = {}
    for line in lines:
        farthest = max(abs(line.paired.low), abs(line.paired.high))
        found[line.row] = max(found.get(line.row, 0.0), MARGIN + farthest)
    frame = pd.DataFrame({"row": found.keys(), "tolerance": found.values()})
    write_whole(path, frame.round(4).to_csv(index=False))


def _tolerances(path: Path) -> dict[str, float]:
    try:
        frame = pd.read_csv(path)
        return dict(zip(frame["row"], frame["tolerance"].astype(float), strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} holds no tolerances ({error}): give row, tolerance.") from None
