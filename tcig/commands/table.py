"""`tcig table`: mean ± std IoU of scored folders, beside the published figures.

    tcig table runs
    tcig table runs/real-1a2b3c4d my-images --format latex
    tcig table runs --quality
    tcig table runs --reductions iou_image boundary_iou clip_caption
    tcig table runs --format csv --ignore dropped > table.csv
    tcig table runs --format json > result.json

FOLDER holds scored images, or folders of them. The published figures are cited, on COCO, and
stand in columns of their own. What `tcig quality` measured is a column by its name: clip_caption,
clip_region, diversity, boundary_iou, recall_iou, recall_iou_dense, kid, kid_clip, fid.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tcig.commands.parsing import parse
from tcig.data.errors import InputError


@dataclass
class Options:
    """Arguments of `tcig table`."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of scored images, or of such folders."""
    format: Literal["md", "csv", "latex", "json"] = "md"
    """Markdown, CSV (every reduction, unrounded), LaTeX, or a result for `tcig compare`: JSON with
    every figure, its interval, the samples' values and where it all comes from."""
    reductions: tuple[str, ...] = ("iou_image", "iou_region", "iou_dataset", "iou_foreground")
    """Columns; each of IoU also as NAME_with_background, and those of `tcig quality`."""
    judge: str | None = None
    """Only this judge's rows."""
    ignore: Literal["none", "dropped"] = "none"
    """Pixels of the objects that the filter dropped count as errors, or not at all."""
    quality: bool = False
    """The columns: iou_image, and all that `tcig quality` measured."""
    interval: Literal["t", "percentile", "bca"] = "t"
    """Of the means, by layout: Student's t on the jackknife's error, which covers best here
    (results/coverage.md), or the bootstrap's percentiles, plain or BCa."""
    pairs: bool = False
    """Below, every two methods: difference, p, effect, layouts needed; and where ± comes from."""


def main(argv: list[str]) -> int:
    """Runs `tcig table`."""
    options = parse(Options, argv, "table", __doc__)
    from tcig.eval import pairs
    from tcig.eval.iou import NAMES
    from tcig.eval.quality_table import DEFINITIONS, check_quality
    from tcig.eval.rows import read_rows
    from tcig.eval.table import render, tabulated

    known = (*NAMES, *DEFINITIONS)
    unknown = [name for name in options.reductions if name not in known]
    if unknown:
        raise InputError(f"no reduction {unknown[0]!r}: there are {', '.join(known)}.")
    if not options.folders:
        raise InputError("give a folder of scored images.")
    if options.pairs and options.format != "md":
        raise InputError("--pairs goes with --format md.")
    if options.format == "json":
        if options.judge:
            raise InputError("a result has all judges' rows: leave out --judge.")
        from tcig.eval.results import dump, result_of

        print(dump(result_of(options.folders, options.ignore, ["tcig", "table", *argv])), end="")
        return 0
    rows = read_rows(options.folders, options.ignore)
    frame = tabulated(rows, options.interval)
    if options.judge:
        frame = frame[frame["judge"] == options.judge]
        rows = [row for row in rows if row.score.judge == options.judge]
        if not rows:
            raise InputError(f"no row was scored by {options.judge!r}.")
    names = options.reductions
    if options.quality:
        there = [name for name in DEFINITIONS if name in frame and frame[name].notna().any()]
        if not there:
            raise InputError("no row's quality was measured: run `tcig quality` first.")
        names = ("iou_image", *there)
    check_quality(frame, [name for name in names if name in DEFINITIONS])
    print(render(frame, names, options.format), end="")
    if options.pairs:
        print("\n" + pairs.render(rows), end="")
    return 0
