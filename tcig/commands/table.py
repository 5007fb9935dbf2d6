"""`tcig table`: mean ± std IoU of scored folders, beside the published figures.

    tcig table runs
    tcig table runs/real-1a2b3c4d my-images --format latex
    tcig table runs --quality
    tcig table runs --reductions iou_image boundary_iou clip_caption
    tcig table runs --format csv --ignore dropped > table.csv
    tcig table runs --format json > result.json
    tcig table runs --out tables

FOLDER holds scored images, or folders of them. The published figures are cited, on COCO, and
stand in columns of their own. What `tcig quality` measured is a column by its name: clip_caption,
clip_region, diversity, boundary_iou, recall_iou, recall_iou_dense, kid, kid_clip, fid.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import tyro

from tcig.commands import parse
from tcig.data.files import InputError, write_whole


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
    """Only this judge's rows: its name in the table, or path/to/file.py:Class."""
    ignore: Literal["none", "dropped"] = "none"
    """Pixels of the objects that the filter dropped count as errors, or not at all."""
    quality: bool = False
    """The columns: iou_image, and all that `tcig quality` measured."""
    pairs: bool = False
    """Below, every two methods: difference, p, effect, layouts needed; and where ± comes from."""
    out: Path | None = None
    """A folder for all of it: table.md, table.csv, table.tex, quality.md (where quality was
    measured), pairs.md, result.json; takes --ignore alone."""


def main(argv: list[str]) -> int:
    """Runs `tcig table`."""
    options = parse(Options, argv, "table", __doc__)
    from tcig.eval.comparison import render_pairs
    from tcig.eval.iou import NAMES
    from tcig.eval.results import dump
    from tcig.eval.rows import judged_by, result_of
    from tcig.eval.table import DEFINITIONS, check_quality, metrics_of, render, stale_of

    known = (*NAMES, *DEFINITIONS)
    unknown = [name for name in options.reductions if name not in known]
    if unknown:
        raise InputError(f"no reduction {unknown[0]!r}: there are {', '.join(known)}.")
    if not options.folders:
        raise InputError("give a folder of scored images.")
    _check_combination(options)
    result = result_of(options.folders, options.ignore, ["tcig", "table", *argv])
    if options.format == "json":
        print(dump(result), end="")
        return 0
    if options.judge:
        rows = judged_by(result.rows, options.judge)
        result = result.model_copy(update={"rows": rows})
    quality = ()
    if options.quality or options.out:
        check_quality(result, DEFINITIONS if stale_of(result) else metrics_of(result))
        quality = metrics_of(result) and ("iou_image", *metrics_of(result))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        forms = {"md": "md", "csv": "csv", "tex": "latex"}
        files = {f"table.{x}": render(result, options.reductions, forms[x]) for x in forms}
        if quality:
            files["quality.md"] = render(result, quality, "md")
        files["pairs.md"] = f"{render(result, ('iou_image',), 'md')}\n{render_pairs(result.rows)}"
        files["result.json"] = dump(result)
        for name, text in files.items():
            write_whole(options.out / name, text)
            print(options.out / name)
        return 0
    names = quality if options.quality else options.reductions
    if not names:
        raise InputError("no row's quality was measured: run `tcig quality` first.")
    check_quality(result, [name for name in names if name in DEFINITIONS])
    print(render(result, names, options.format), end="")
    if options.pairs:
        print("\n" + render_pairs(result.rows), end="")
    return 0


def _check_combination(options: Options) -> None:
    """Refuses options that exclude each other."""
    if options.pairs and options.format != "md":
        raise InputError("--pairs goes with --format md.")
    if options.format == "json" and options.judge:
        raise InputError("a result has all judges' rows: leave out --judge.")
    if options.out:
        for field in fields(Options):
            changed = getattr(options, field.name) != field.default
            if changed and field.name not in ("folders", "ignore", "out"):
                raise InputError(f"--out writes every form of the table: leave out --{field.name}.")
