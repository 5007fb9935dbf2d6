"""The table: a row per method and judge, measured figures beside the published ones."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from tcig.data.errors import InputError
from tcig.eval.images import read_run
from tcig.eval.iou import NAMES, Reduction, Samples, reduce
from tcig.eval.published import published
from tcig.eval.stored import Score, dense, read_scores

ORACLES = {"paste": "oracle"}
"""Rows that read the truth: they check the plumbing and are no method."""
GUIDES = ("guide", "deeplabv3_resnet101")
"""Judges that guide TCIG: their rows stand below those of the independent ones."""
GUIDE = "guide "
"""Begins the names of a run's weights that are guides."""
CONDITIONS = ("row", "judge", "identity", "manifest", "image_size", "score_size", "resized")
"""What of a score goes into a record as it is."""
CEILING = "real"
"""The photographs' row, shown with the dropped objects counted and ignored: how far the judge can
agree with the truth."""
STD = "± is the standard deviation (divided by n) over the values that the mean is of: "
VALUES = {
    "iou_image": "images",
    "iou_region": "(image, class) pairs",
    "iou_dataset": "classes, counts pooled over images",
    "iou_foreground": "images, all the layout's classes as one",
}


def measured(folders: Sequence[Path], ignore: Literal["none", "dropped"]) -> pd.DataFrame:
    """One record per folder and judge: independent judges first, folders in their order.

    Args:
        folders: folders of scored images, or of such folders.
        ignore: whether pixels of the objects that the filter dropped count, or not at all; the
            row `real` is given both ways.

    Returns:
        Columns `CONDITIONS`, `samples` (a hash of which they are), `ignore`, `guided` (whether the
        judge's own network guided the images), `n`, `failed`, and
        for every name of `tcig.eval.iou.NAMES` its mean, `{name}_std` and `{name}_n`.

    Raises:
        InputError: a folder without scores, rows of different manifests, or rows of one judge
            under different weights or score sizes.
    """
    records = []
    scored = {}  # by their resolved paths: a folder named twice is one row
    for folder in folders:
        places = [folder, *sorted(folder.glob("*"))]
        found = {path.resolve(): None for path in places if any(path.glob("scores/*/score.json"))}
        if not found:
            raise InputError(f"{folder} holds no scores: run `tcig score` on it first.")
        scored |= found
    for place in scored:
        guides = _guides(place)
        for score, rows in read_scores(place):
            both = ("none", "dropped") if score.row == CEILING else (ignore,)
            guided = score.identity in guides
            records += [_record(score, rows, each) | {"guided": guided} for each in both]
    frame = pd.DataFrame(records)
    for judge, rows in frame.groupby("judge"):
        for column in ("identity", "score_size"):
            if rows[column].nunique() > 1:
                values = " and ".join(str(value)[:12] for value in rows[column].unique())
                raise InputError(
                    f"the rows of the judge {judge} differ in {column} ({values}): score them "
                    "again alike."
                )
    if frame["manifest"].nunique() > 1:
        raise InputError(
            "the rows are of different layouts (manifests "
            f"{', '.join(sorted(m[:8] for m in frame['manifest'].unique()))}): a table compares "
            "methods on the same ones."
        )
    order = {judge: (judge in GUIDES, place) for place, judge in enumerate(frame["judge"].unique())}
    by_judge = sorted(frame.index, key=lambda row: order[frame["judge"][row]])
    return frame.loc[by_judge].reset_index(drop=True)


def _guides(folder: Path) -> set[str]:
    """Identities of the networks that guided a run's images."""
    run = read_run(folder)
    weights = run.spec.weights if run else {}
    return {identity for part, identity in weights.items() if part.startswith(GUIDE)}


def _record(score: Score, rows: list[dict], ignore: Literal["none", "dropped"]) -> dict:
    field = "confusion" if ignore == "none" else "confusion_ignoring_dropped"
    samples = Samples.of([dense(row[field]) for row in rows], [row["classes"] for row in rows])
    record = {name: getattr(score, name) for name in CONDITIONS}
    pairs = repr(sorted(score.samples)).encode()
    record |= {"samples": hashlib.sha256(pairs).hexdigest()[:8], "ignore": ignore}
    record |= {"n": len(rows), "failed": score.failed}
    for name in NAMES:
        mean, std, n = reduce(samples, name)
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
    notes = [ORACLES[record["row"]]] if record["row"] in ORACLES else []
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
