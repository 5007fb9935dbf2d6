"""`tcig table`: mean ± std IoU of scored folders, beside the published figures.

    tcig table runs
    tcig table runs/real-1a2b3c4d my-images --format latex
    tcig table runs --format csv --ignore dropped > table.csv

FOLDER holds scored images, or folders of them. The published figures are cited, on COCO, and
stand in columns of their own.
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
    format: Literal["md", "csv", "latex"] = "md"
    """Markdown, CSV (every reduction, unrounded) or LaTeX."""
    reductions: tuple[str, ...] = ("iou_image", "iou_region", "iou_dataset", "iou_foreground")
    """Columns; each name also as NAME_with_background."""
    judge: str | None = None
    """Only this judge's rows."""
    ignore: Literal["none", "dropped"] = "none"
    """Pixels of the objects that the filter dropped count as errors, or not at all."""


def main(argv: list[str]) -> int:
    """Runs `tcig table`."""
    options = parse(Options, argv, "table", __doc__)
    from tcig.eval.iou import NAMES
    from tcig.eval.table import measured, render

    unknown = [name for name in options.reductions if name not in NAMES]
    if unknown:
        raise InputError(f"no reduction {unknown[0]!r}: there are {', '.join(NAMES)}.")
    if not options.folders:
        raise InputError("give a folder of scored images.")
    frame = measured(options.folders, options.ignore)
    if options.judge:
        frame = frame[frame["judge"] == options.judge]
        if frame.empty:
            raise InputError(f"no row was scored by {options.judge!r}.")
    print(render(frame, options.reductions, options.format), end="")
    return 0
