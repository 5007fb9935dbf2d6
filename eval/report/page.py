"""The report: tables by Jinja, plots by matplotlib and pictures in one HTML file."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tcig.data.files import write_whole
from tcig.data.layout import Layout
from tcig.data.manifest import Header
from tcig.data.voc import COLOURS, LABELS
from tcig.eval.estimates import build_result
from tcig.eval.pairs import ALPHA
from tcig.eval.published import Published, published
from tcig.eval.quality_table import metrics_of, quality_notes, stale_of
from tcig.eval.report.gallery import make_gallery
from tcig.eval.report.plots import breakdown_plot, interval_plot
from tcig.eval.report.tables import (
    SIZE_NAMES,
    cut_intervals,
    describe,
    make_judges,
    other_headlines,
)
from tcig.eval.rows import Ignore, Row


def write_report(
    path: Path,
    rows: Sequence[Row],
    manifest: tuple[Header, Sequence[Layout]],
    ignore: Ignore,
    command: Sequence[str],
    side: int,
) -> int:
    """Writes the page, whole or not at all.

    Jinja escapes all text from outside. The page's own policy forbids it to load anything and to
    run any script or style but its own.

    Args:
        path: the HTML file.
        rows: rows of `tcig.eval.rows.read_rows` under the same `ignore`.
        manifest: the rows' manifest.
        ignore: treatment of dropped objects in all rows except one of the ceiling's two.
        command: the command that makes the report.
        side: side of the pictures in pixels.

    Returns:
        The number of samples on the page.

    Raises:
        InputError: an image or a label map that was scored is missing or changed.
    """
    header, layouts = manifest
    columns: dict[Path, list[Row]] = {}
    for row in rows:
        if row.ignore == ignore:
            columns.setdefault(row.folder, []).append(row)
    result = cut_intervals(build_result(rows, command))
    judges = make_judges(rows, result, layouts, ignore)
    entries, pictures = make_gallery(list(columns.values()), layouts, side)
    context = {
        "judges": judges,
        "columns": [of_folder[0] for of_folder in columns.values()],
        "colours": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in COLOURS],
        "side": min(side, max(row.score.image_size for row in rows)),
        "made": result.made,
        "manifest": result.manifest,
        "header": header.model_dump(mode="json"),
        "ignore": ignore,
        "alpha": ALPHA,
        "drawn": {row.folder: own.drawn for row, own in zip(rows, result.rows, strict=True)},
        "labels": LABELS,
        "sizes": SIZE_NAMES,
        "numbers": sorted({len(layout.regions) for layout in layouts}),
        "notes": quality_notes(result, metrics_of(result)),
        "stale": stale_of(result),
        "same_samples": len({tuple(sorted(row.samples)) for row in result.rows}) == 1,
        "published": _published(),
        "entries": entries,
        "pictures": Markup(pictures),
        "interval_plot": interval_plot,
        "breakdown_plot": breakdown_plot,
        "other_headlines": other_headlines,
        "zip": zip,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _render(context))
    return len(entries)


def _published() -> dict[tuple[str, ...], list[Published]]:
    """Published numbers by what the numbers of one table or page share."""
    shared = attrgetter("group", "paper", "table", "protocol", "judge", "source")
    groups: dict[tuple[str, ...], list[Published]] = {}
    for number in published():
        groups.setdefault(shared(number), []).append(number)
    return groups


def _render(context: dict[str, Any]) -> str:
    """The page; its policy names style and script by their hashes."""
    loader = PackageLoader("tcig.eval.report", ".")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["class_name"] = LABELS.__getitem__
    environment.filters["describe"] = describe
    environment.filters["pretty"] = partial(json.dumps, indent=1, ensure_ascii=False)
    for name in ("page.css", "page.js"):
        text = environment.get_template(name).render(context)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
        kind = name.partition(".")[2]
        context |= {kind: Markup(text), f"{kind}_hash": f"sha256-{digest}"}
    return environment.get_template("page.html").render(context)
