"""The page: template, style, script, data and pictures in one HTML file."""

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from tcig.data.files import write_whole

SCRIPTS = ("page.js", "table.js", "plots.js", "gallery.js")
"""One script in this order."""


def write_page(path: Path, data: dict[str, Any], places: dict[str, Any], pictures: str) -> None:
    """Writes the page, whole or not at all.

    Nothing from outside is markup: it stands in JSON without a `<`, from which the script makes
    text nodes. The page's own policy lets it load nothing, and run no script but its own.

    Args:
        path: the HTML file.
        data: of `tcig.eval.report.data.report_data`.
        places: of the pictures, by `tcig.eval.report.pictures.draw_pictures`.
        pictures: their base64.
    """
    script = "\n".join(_own(name) for name in SCRIPTS)
    style = _own("page.css")
    template = Template(_own("page.html"), autoescape=True)
    page = template.render(
        title=f"tcig report: {len(data['columns'])} rows, {len(data['samples'])} samples",
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        data=Markup(in_script(data | {"places": places})),
        pictures=Markup(pictures),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)


def in_script(value: Any) -> str:
    """JSON that no HTML parser leaves a script element at, nor reads a comment in.

    Raises:
        ValueError: it holds a NaN.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _own(name: str) -> str:
    return files("tcig.eval.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an element's text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
