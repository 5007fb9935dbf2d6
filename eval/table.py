"""The table: a row per method and judge, measured estimates beside the published ones.

The published figures are cited and never computed here. `results/published.csv` has them:
MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113, Table 2 (judge Mask2Former); TCIG, arXiv
2403.01212, Table 1: neither gives its IoU's formula nor what its ± runs over. Beside them, figures
of other protocols, with which no row measured here is comparable.
"""

import csv
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from tcig.data.files import InputError
from tcig.eval.comparison import ALPHA
from tcig.eval.iou import NAMES
from tcig.eval.results import HEADLINE, ORACLES, Ignore, Result, ResultRow
from tcig.eval.rows import result_of

OWN = ("tcig-robust", "tcig-robust-stage1", "direct-guidance-robust")
"""Rows that no paper has: this project's own, marked in the table."""
SHARE, LEAKAGE = "of ceiling", "guide - judge"
INDEPENDENT = "independent"
INDEPENDENCE = {"independent": "yes", "guide": "no", "unknown": "unknown"}
"""`tcig.eval.results.Independence` -> its word in the table."""
STD = "± is the standard deviation (divided by n) over the values that the mean is of: "
NOTES = (
    f"{INDEPENDENT}: whether the judge is none of the guides that the run records; unknown without "
    "such a record, and of a judge from outside where there are guides. "
    "[low, high] is the 95% interval of the mean, by layout. "
    f"{SHARE}: {HEADLINE} as a share of the photographs' under the same judge. "
    f"{LEAKAGE}: {HEADLINE} under this judge, which guides TCIG, minus that of the same images "
    "under the independent one. Bold: the best method under a judge, and those that a paired "
    f"permutation test does not tell from it at {ALPHA:.0%} (Holm)."
)
VALUES = {
    "iou_image": "images",
    "iou_region": "(image, class) pairs",
    "iou_dataset": "classes, counts pooled over images",
    "iou_foreground": "images, all the layout's classes as one",
}
DISTANCES = {"kid": 4, "kid_clip": 4, "fid": 1}
"""Distances between sets -> decimals shown."""
DEFINITIONS = {
    "clip_caption": "CLIPScore (Hessel et al. 2021) of image and caption, 2.5 max(cos, 0), by "
    "SCORER; ± over images",
    "clip_region": 'the same of the square about each region and "a {label}", mean over a '
    "layout's regions, by SCORER; ± over images",
    "diversity": "1 - cos between the samples of a layout, mean over pairs, by SCORER; ± over "
    "layouts",
    "boundary_iou": "Boundary IoU (Cheng et al. 2021) within 2% of the diagonal, mean over a "
    "layout's classes, dropped objects not ignored; ± over images",
    "recall_iou": "DenseDiffusion's IoU at 64 px, each object against its class's first unused "
    "detection, extra detections free, masks thresholded when resized; ± over images",
    "recall_iou_dense": "the same with masks as its notebook resizes them, not thresholded",
    "kid": "KID (Binkowski et al. 2018) of images to other layouts' photographs, on FEATURES; ± "
    "over subsets",
    "kid_clip": "KID's estimator under (cos + 1)^3 of images to other layouts' photographs, on "
    "SCORER, not the published KID; ± over subsets",
    "fid": "FID (Heusel et al. 2017) to the layouts' photographs, on FEATURES",
}
"""The quality metrics."""
NEEDS = {
    "diversity": "two samples or more of a layout",
    **dict.fromkeys(("recall_iou", "recall_iou_dense"), "a judge that knows instances"),
    **dict.fromkeys(("kid", "fid"), "a profile whose features are Inception's, and photographs"),
    "kid_clip": "a profile whose features are CLIP's, and photographs",
}
"""What some metrics need beside images."""
BY_SCORER = ("clip_caption", "clip_region", "diversity", "kid_clip")
"""Metrics that the scorer's own guidance would flatter."""


class Published(NamedTuple):
    """One cited figure, its numbers as printed."""

    group: Literal["table", "near"]
    """Of the two tables that are reproduced, or of another protocol."""
    row: str
    """In `table`, as rows are called here."""
    metric: str
    mean: str
    std: str
    paper: str
    table: str
    protocol: str
    judge: str
    source: str
    status: Literal["verified", "secondary", "derived"]
    """Read in the primary source; only in another; or computed from what that prints."""
    note: str


def published() -> list[Published]:
    """Returns all figures, in the file's order."""
    with (files("tcig.results") / "published.csv").open(encoding="utf-8") as file:
        return [Published(**record) for record in csv.DictReader(file)]


def cited() -> list[Published]:
    """Returns the figures of the two tables that are reproduced."""
    return [figure for figure in published() if figure.group == "table"]


def measured(folders: Sequence[Path], ignore: Ignore) -> pd.DataFrame:
    """Returns the columns of scored folders, see `result_of` and `Result.to_frame`."""
    return result_of(folders, ignore).to_frame()


def render(result: Result, names: Sequence[str], form: str) -> str:
    """Returns the table as `md`, `csv` (all numbers, unrounded) or `latex` (booktabs)."""
    if form == "csv":
        return _csv(result)
    table = pd.DataFrame(cells(result, names))
    notes = _notes(result, names)
    if form == "md":
        table["row"] = table["row"].str.replace("|", "\\|")
        below = "".join(f"{note}  \n" for note in notes)
        texts = [table.columns.get_loc(name) for name in (SHARE, LEAKAGE)]
        return f"{table.to_markdown(index=False, disable_numparse=texts)}\n\n{below}"
    text = table.to_latex(
        index=False, escape=True, column_format="lll" + "r" * (table.shape[1] - 3)
    )
    text = re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text)
    return text.replace("±", r"$\pm$") + "".join(f"% {note}\n" for note in notes)


def _csv(result: Result) -> str:
    frame = result.to_frame()
    printed = pd.DataFrame([each._asdict() for each in cited()])
    printed["judge"] = "cited: " + printed["paper"] + " " + printed["table"]
    printed = printed.rename(columns={"mean": "published", "std": "published_std"})
    wanted = ["row", "judge", "published", "published_std"]
    counts = [name for name in frame if name in ("n", "failed") or name.endswith("_n")]
    table = pd.concat([frame.astype(dict.fromkeys(counts, "Int64")), printed[wanted]])
    return table.to_csv(index=False)


def cells(result: Result, names: Sequence[str]) -> list[dict[str, str]]:
    """Returns the lines of the table that people read: text by column, published numbers beside.

    Published rows that nothing was measured for follow with empty cells, once.
    """
    papers = {}
    for each in cited():
        column = f"{each.paper} {each.table} (cited)"
        papers.setdefault(column, {})[each.row] = f"{each.mean} ± {each.std}"
    lines = []
    for row in result.rows:
        notes = ", ".join(remarks(row))
        line = {"row": f"{row.row} ({notes})" if notes else row.row, "judge": row.judge}
        line[INDEPENDENT] = INDEPENDENCE[row.judged.independence]
        line["n"] = f"{len(row.samples)}" + (f" ({row.failed} failed)" if row.failed else "")
        line |= {name: _cell(row, name) for name in names}
        share, leakage = row.comparison.ceiling_share, row.comparison.leakage
        line[SHARE] = "" if share is None else f"{share:.2f}"
        line[LEAKAGE] = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*leakage) if leakage else ""
        lines.append(line | {column: rows.get(row.row, "") for column, rows in papers.items()})
    measured_rows = {row.row for row in result.rows}
    for name in dict.fromkeys(each.row for each in cited()):
        if name not in measured_rows:
            line = {"row": name} | dict.fromkeys(list(lines[0])[1:], "")
            lines.append(line | {column: rows.get(name, "") for column, rows in papers.items()})
    return lines


def _cell(row: ResultRow, name: str) -> str:
    """Returns `mean ± std [low, high]` of an estimate, a dash where there is none."""
    if not _has(row, name):
        return "-"
    estimate, digits = row.figures[name], DISTANCES.get(name, 3)
    p = row.comparison.p_best
    bold = "**" if name == HEADLINE and p is not None and p >= ALPHA else ""
    guided = row.scorers and row.scorers.clip_guided and name in BY_SCORER
    parts = f"{bold}{estimate.text(digits)}{bold}", estimate.interval_text(digits)
    return " ".join(filter(None, (*parts, "(its guide)" if guided else "")))


def _has(row: ResultRow, name: str) -> bool:
    return name in row.figures and row.figures[name].mean is not None


def remarks(row: ResultRow) -> list[str]:
    """Returns what is to be known of a row, shown beside its name."""
    notes = [row.suffix] if row.suffix else []
    notes += ["oracle"] if row.row in ORACLES else []
    notes += ["this project's own"] if row.row in OWN else []
    notes += ["judged by its guide"] if row.judged.guided else []
    notes += ["dropped objects ignored"] if row.judged.ignore == "dropped" else []
    return notes + (["resized"] if row.judged.resized else [])


def _notes(result: Result, names: Sequence[str]) -> list[str]:
    ious = [name for name in names if name in NAMES]
    over = "; ".join(f"{n}: {VALUES[n.removesuffix('_with_background')]}" for n in ious)
    notes = [
        *([f"{STD}{over}."] if ious else []),
        *quality_notes(result, [name for name in names if name in DEFINITIONS]),
        NOTES,
        "Columns marked (cited) are the papers' own figures, on COCO, by their judge and formula.",
    ]
    if len({row.samples_hash for row in result.rows}) > 1:
        notes.append("The rows are not all of the same samples: compare those of the same n alone.")
    return notes + [f"{text[0].upper()}{text[1:]}" for text in stale_of(result)]


def quality_notes(result: Result, names: Sequence[str]) -> list[str]:
    """Returns a sentence for each quality metric shown."""
    scorers = [row.scorers for row in result.rows if row.scorers]
    notes = []
    for name in names:
        text = f"{name}: {DEFINITIONS[name]}.".replace("SCORER", scorers[0].scored_by)
        notes.append(text.replace("FEATURES", scorers[0].seen_by))
    if any(each.clip_guided for each in scorers) and set(names) & set(BY_SCORER):
        notes.append("(its guide): by a CLIP that guided or ranked these images themselves.")
    return notes


def metrics_of(result: Result) -> list[str]:
    """Returns the names of `DEFINITIONS` that any row has a value of."""
    return [name for name in DEFINITIONS if any(_has(row, name) for row in result.rows)]


def stale_of(result: Result) -> list[str]:
    """Returns a sentence for each folder whose quality was measured before it changed."""
    return list(dict.fromkeys(row.stale for row in result.rows if row.stale))


def check_quality(result: Result, names: Sequence[str]) -> None:
    """Checks that a table can show these metrics of `DEFINITIONS`.

    Raises:
        InputError: no row has one, the rows were measured by different networks, or one was
            measured before its images or scores changed.
    """
    if names and (stale := stale_of(result)):
        raise InputError(stale[0])
    available = metrics_of(result)
    scorers = [row.scorers for row in result.rows if row.scorers]
    for name in names:
        if name not in available:
            hint = f"there are {', '.join(available)}" if available else "run `tcig quality` first"
            needs = f" (it needs {NEEDS[name]})" if name in NEEDS else ""
            raise InputError(f"no row has {name}{needs}: {hint}.")
        field = "scorer" if name in BY_SCORER else "features" if name in DISTANCES else None
        identities = list(dict.fromkeys(getattr(each, field) for each in scorers if field))
        if len(identities) > 1:
            shown = " and ".join(identity[:40] for identity in identities)
            raise InputError(
                f"the rows' {name} is by different networks ({shown}): run `tcig quality` on them "
                "alike."
            )
