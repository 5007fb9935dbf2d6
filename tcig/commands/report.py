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

from tcig.commands.parsing import parse
from tcig.data.errors import InputError

SIDES = (16, 1024)
"""Between which a thumbnail's side may be."""


@dataclass
class Options:
    """Arguments of `tcig report`."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of scored images, or of such folders."""
    layouts: Path | None = None
    """Manifest of the images, where it does not lie in the folders or beside them."""
    out: Path = Path("report.html")
    """File to write."""
    judge: str | None = None
    """Only this judge's rows: its name in the table, or path/to/file.py:Class (default: all)."""
    ignore: Literal["none", "dropped"] = "none"
    """Pixels of the objects that the filter dropped count as errors, or not at all."""
    thumbnail: int = 128
    """Side of the pictures, in pixels; smaller images stay as they are."""


def main(argv: list[str]) -> int:
    """Runs `tcig report`."""
    options = parse(Options, argv, "report", __doc__)
    from tcig.data.layout import read_manifest
    from tcig.eval.report.data import report_data
    from tcig.eval.report.page import write_page
    from tcig.eval.report.pictures import draw_pictures
    from tcig.eval.rows import judged_by, read_rows

    if not options.folders:
        raise InputError("give a folder of scored images.")
    if not SIDES[0] <= options.thumbnail <= SIDES[1]:
        raise InputError(f"--thumbnail {options.thumbnail}: give {SIDES[0]} to {SIDES[1]} pixels.")
    rows = read_rows(options.folders, options.ignore)
    rows = judged_by(rows, options.judge) if options.judge else rows
    path = _manifest(options.layouts, options.folders, rows[0].score.manifest)
    manifest = read_manifest(path)
    command = ["tcig", "report", *argv]
    data, columns, samples = report_data(rows, manifest, options.ignore, command)
    pictures, places = draw_pictures(columns, samples, options.thumbnail)
    write_page(options.out, data, places, pictures)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(samples)} samples, {size:.1f} MB")
    return 0


def _manifest(given: Path | None, folders: Sequence[Path], wanted: str) -> Path:
    """The manifest with the hash that the scores were made with."""
    from tcig.data.files import sha256

    if given:
        if not given.is_file():
            raise InputError(f"--layouts {given} is no file.")
        if sha256(given) != wanted:
            raise InputError(
                f"{given} is not the manifest of these scores ({wanted[:8]}): give their own."
            )
        return given
    places = dict.fromkeys(
        place for folder in folders for place in (folder.resolve(), folder.resolve().parent)
    )
    for place in places:
        for path in sorted(place.glob("*.jsonl")):
            if sha256(path) == wanted:
                return path
    raise InputError(
        f"the manifest of these scores ({wanted[:8]}) lies neither in the folders nor beside them: "
        "give it as --layouts FILE."
    )
