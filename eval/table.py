"""The table: a row per method and judge, measured figures beside the published ones."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tcig.eval.iou import NAMES, Reduction, reduce
from tcig.eval.published import published
from tcig.eval.rows import ORACLES, Ignore, Row, read_rows

CONDITIONS = ("row", "judge", "identity", "manifest", "image_size", "score_size", "resized")
"""What of a score goes into a record as it is."""
STD = "± is the standard deviation (divided by n) over the values that the mean is of: "
VALUES = {
    "iou_image": "images",
    "iou_region": "(image, class) pairs",
    "iou_dataset": "classes, counts pooled over images",
    "iou_foreground": "images, all the layout's classes as one",
}


def measured(folders: Sequence[Path], ignore: Ignore) -> pd.DataFrame:
    """One record per folder and judge, in the order of `tcig.eval.rows.read_rows`, which says what
    is refused.

    Returns:
        Columns `CONDITIONS`, `samples` (a hash of which they are), `ignore`, `guided` (whether the
        judge's own network guided the images), `n`, `failed`, and
        for every name of `tcig.eval.iou.NAMES` its mean, `{name}_std` and `{name}_n`.
    """
    return pd.DataFrame([_record(row) for row in read_rows(folders, ignore)])


def _record(row: Row) -> dict:
    record = {name: getattr(row.score, name) for name in CONDITIONS}
    pairs = repr(sorted(row.score.samples)).encode()
    record |= {"samples": hashlib.sha256(pairs).hexdigest()[:8], "ignore": row.ignore}
    record |= {"n": len(row.layouts), "failed": row.score.failed, "guided": row.guided}
    for name in NAMES:
        mean, std, n = reduce(row.samples, name)
        record |= {name: mean, f"{name}_std": std, f"{name}_n": n}
    return record


def figures(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The table that people read: `mean ± std` per reduction, published figures beside.

    Published rows that nothing was measured for follow with empty cells, once.
    """
    cited = {}
    for figure in published():
        column = f"{figure.paper} {figure.table} (cited)"
        cited.setdefault(column, {})[figure.row] = f"{figure.mean} ± {figure.std}"
    unmeasured = [
        row for row in dict.fromkeys(f.row for f in published()) if row not in set(frame["row"])
    ]
    lines = []
    for record in frame.to_dict("records"):
        line = {"row": _label(record), "judge": record["judge"], "n": _n(record)}
        for name in names:
            line[name] = _cell(Reduction(*(record[name + s] for s in ("", "_std", "_n"))))
        lines.append(line | {column: rows.get(record["row"], "") for column, rows in cited.items()})
    for row in unmeasured:
        blank = {"row": row, "judge": "", "n": ""} | dict.fromkeys(names, "")
        lines.append(blank | {column: rows.get(row, "") for column, rows in cited.items()})
    return pd.DataFrame(lines)


def _label(record: dict) -> str:
    notes = ["oracle"] if record["row"] in ORACLES else []
    notes += ["judged by its guide"] if record["guided"] else []
    notes += ["dropped objects ignored"] if record["ignore"] == "dropped" else []
    notes += ["resized"] if record["resized"] else []
    return f"{record['row']} ({', '.join(notes)})" if notes else record["row"]


def _n(record: dict) -> str:
    return f"{record['n']} ({record['failed']} failed)" if record["failed"] else str(record["n"])


def _cell(value: Reduction) -> str:
    return "-" if np.isnan(value.mean) else f"{value.mean:.3f} ± {value.std:.3f}"


def render(frame: pd.DataFrame, names: Sequence[str], form: str) -> str:
    """The table as `md`, `csv` (all numbers, unrounded) or `latex` (booktabs)."""
    if form == "csv":
        buffer = io.StringIO()
        cited = pd.DataFrame([f._asdict() for f in published()])
        cited["judge"] = "cited: " + cited["paper"] + " " + cited["table"]
        cited = cited.rename(columns={"mean": "published", "std": "published_std"})
        wanted = ["row", "judge", "published", "published_std"]
        counts = [c for c in frame if c in ("n", "failed") or c.endswith("_n")]
        table = pd.concat([frame.astype(dict.fromkeys(counts, "Int64")), cited[wanted]])
        table.to_csv(buffer, index=False)
        return buffer.getvalue()
    table = figures(frame, names)
    notes = [
        STD + "; ".join(f"{n}: {VALUES[n.removesuffix('_with_background')]}" for n in names) + ".",
        "Columns marked (cited) are the papers' own figures, on COCO, by their judge and formula.",
    ]
    if frame["samples"].nunique() > 1:
        notes.append("The rows are not all of the same samples: compare those of the same n alone.")
    if form == "md":
        table["row"] = table["row"].str.replace("|", "\\|")
        below = "".join(f"{note}  \n" for note in notes)
        return f"{table.to_markdown(index=False)}\n\n{below}"
    text = table.to_latex(index=False, escape=True, column_format="ll" + "r" * (table.shape[1] - 2))
    return text.replace("±", r"$\pm$") + "".join(f"% {note}\n" for note in notes)
