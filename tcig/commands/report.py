"""`tcig report`: a comparison as one HTML file, to be read in a browser.

    tcig report runs
    tcig report runs my-images --layouts layouts.jsonl --out report.html
    tcig report runs --ignore dropped --thumbnail 256

FOLDER holds scored images, or folders of them. The file needs no server and no network: the table,
the intervals, IoU by class, size and number of objects, the published figures apart, and every
image beside its mask with what each judge saw of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tcig.commands import parse
from tcig.data.files import InputError, sha256
from tcig.data.manifest import read_manifest

SIDES = (16, 1024)
"""Smallest and largest side of the pictures, in pixels."""


@dataclass
class Options:
    """Arguments of `tcig report`."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of scored images, or of such folders."""
    layouts: Path | None = None
    """Manifest of the images, if it is neither in the folders nor beside them."""
    out: Path = Path("report.html")
    """File to write."""
    judge: str | None = None
    """Only this judge's rows: its name in the table, or path/to/file.py:Class (default: all)."""
    ignore: Literal["none", "dropped"] = "none"
    """Pixels of the objects that the filter dropped count as errors, or not at all."""
    thumbnail: int = 128
    """Side of the pictures in pixels; smaller images keep their size. Large pictures are sharper
    when they are enlarged, and make a larger file."""


def main(argv: list[str]) -> int:
    """Runs `tcig report`."""
    options = parse(Options, argv, "report", __doc__)
    from tcig.eval.report.page import write_report
    from tcig.eval.rows import judged_by, read_rows

    if not options.folders:
        raise InputError("give a folder of scored images.")
    if not SIDES[0] <= options.thumbnail <= SIDES[1]:
        raise InputError(f"--thumbnail {options.thumbnail}: give {SIDES[0]} to {SIDES[1]} pixels.")
    rows = read_rows(options.folders, options.ignore)
    rows = judged_by(rows, options.judge) if options.judge else rows
    folders = [*(row.folder for row in rows), *options.folders]
    path = _find_manifest(options.layouts, folders, rows[0].score.manifest)
    manifest = read_manifest(path)
    command = ["tcig", "report", *argv]
    settings = options.ignore, command, options.thumbnail
    samples = write_report(options.out, rows, manifest, *settings)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {samples} samples, {size:.1f} MB")
    return 0


def _find_manifest(given: Path | None, folders: Sequence[Path], wanted: str) -> Path:
    """Returns the manifest with this hash: the one given, or one in a folder or beside it."""
    places = dict.fromkeys(place for path in folders for place in (path, path.resolve().parent))
    paths = [given] if given else [path for place in places for path in place.glob("*.jsonl")]
    for path in paths:
        if path.is_file() and sha256(path) == wanted:
            return path
    if given:
        raise InputError(f"--layouts {given} is not the manifest of these scores ({wanted[:8]}).")
    raise InputError(
        f"the manifest of these scores ({wanted[:8]}) is neither in the folders nor beside them: "
        "give it as --layouts FILE."
    )
