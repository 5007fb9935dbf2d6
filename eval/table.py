"""The table: a row per method and judge, measured estimates beside the published ones."""

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tcig.eval.estimates import result_of
from tcig.eval.iou import NAMES
from tcig.eval.pairs import ALPHA
from tcig.eval.published import cited
from tcig.eval.quality_table import DEFINITIONS, quality_cell, quality_notes, stale_of
from tcig.eval.results import Result, ResultRow, columns
from tcig.eval.rows import HEADLINE, ORACLES, OWN, Ignore

SHARE, LEAKAGE = "of ceiling", "guide - judge"
INDEPENDENT = "independent"
INDEPENDENCE = {"independent": "yes", "guide": "no", "unknown": "unknown"}
"""`tcig.eval.rows.Independence` -> its word in the table."""
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


def measured(folders: Sequence[Path], ignore: Ignore) -> pd.DataFrame:
    """Returns `to_columns` of scored folders; see `tcig.eval.estimates.result_of`."""
    return to_columns(result_of(folders, ignore))


def to_columns(result: Result) -> pd.DataFrame:
    """Returns all of a result in columns, a record for each row.

    Its conditions; `samples`, a hash of which they are; for every estimate its mean as `NAME`, and
    `NAME_std`, `NAME_n`, `NAME_low`, `NAME_high`; and its comparison with the other rows.
    """
    frame = pd.DataFrame([_record(row, result.manifest) for row in result.rows])
    if any(row.suffix for row in result.rows):
        frame["told"] = [row.suffix for row in result.rows]
    comparisons = [row.comparison for row in result.rows]
    frame["ceiling_share"] = pd.Series([each.ceiling_share for each in comparisons], dtype=float)
    frame["p_best"] = pd.Series([each.p_best for each in comparisons], dtype=float)
    nothing = (None, None, None)
    leakages = [each.leakage or nothing for each in comparisons]
    names = ["leakage", "leakage_low", "leakage_high"]
    return frame.join(pd.DataFrame(leakages, columns=names, dtype=float))


def _record(row: ResultRow, manifest: str) -> dict:
    judged = row.judged
    record = {"row": row.row, "judge": judged.judge, "identity": judged.identity}
    record |= {"manifest": manifest, "image_size": judged.image_size}
    record |= {"score_size": judged.score_size, "resized": judged.resized}
    record |= {"samples": _samples_hash(row), "ignore": judged.ignore, "n": len(row.samples)}
    record |= {"failed": row.failed, "guided": judged.guided, "independence": judged.independence}
    for name in NAMES:
        record |= columns(name, row.figures[name])
    record |= {"stale": row.stale} if row.stale else {}
    if row.scorers:
        record |= row.scorers.model_dump()
    for name, estimate in row.figures.items():
        if name not in NAMES:
            found = columns(name, estimate)
            record |= {name: found.pop(name), f"{name}_n": found.pop(f"{name}_n")} | found
    return record


def _samples_hash(row: ResultRow) -> str:
    return hashlib.sha256(repr(sorted(row.samples)).encode()).hexdigest()[:8]


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
    frame = to_columns(result)
    printed = pd.DataFrame([each._asdict() for each in cited()])
    printed["judge"] = "cited: " + printed["paper"] + " " + printed["table"]
    printed = printed.rename(columns={"mean": "published", "std": "published_std"})
    wanted = ["row", "judge", "published", "published_std"]
    counts = [name for name in frame if name in ("n", "failed") or name.endswith("_n")]
    table = pd.concat([frame.astype(dict.fromkeys(counts, "Int64")), printed[wanted]])
    buffer = io.StringIO()
    table.to_csv(buffer, index=False)
    return buffer.getvalue()


def cells(result: Result, names: Sequence[str]) -> list[dict[str, str]]:
    """Returns the lines of the table that people read: text by column, published numbers beside.

    Published rows that nothing was measured for follow with empty cells, once.
    """
    published = {}
    for each in cited():
        column = f"{each.paper} {each.table} (cited)"
        published.setdefault(column, {})[each.row] = f"{each.mean} ± {each.std}"
    lines = []
    for row in result.rows:
        line = {"row": _label(row), "judge": row.judge}
        line[INDEPENDENT] = INDEPENDENCE[row.judged.independence]
        failed = f" ({row.failed} failed)" if row.failed else ""
        line["n"] = f"{len(row.samples)}{failed}"
        for name in names:
            line[name] = (quality_cell if name in DEFINITIONS else _cell)(row, name)
        line |= {SHARE: share(row), LEAKAGE: leakage(row)}
        lines.append(line | {column: rows.get(row.row, "") for column, rows in published.items()})
    measured_rows = {row.row for row in result.rows}
    for name in dict.fromkeys(each.row for each in cited()):
        if name not in measured_rows:
            line = {"row": name} | dict.fromkeys(list(lines[0])[1:], "")
            lines.append(line | {column: rows.get(name, "") for column, rows in published.items()})
    return lines


def _notes(result: Result, names: Sequence[str]) -> list[str]:
    ious = [name for name in names if name in NAMES]
    over = "; ".join(f"{n}: {VALUES[n.removesuffix('_with_background')]}" for n in ious)
    notes = [
        *([f"{STD}{over}."] if ious else []),
        *quality_notes(result, [name for name in names if name in DEFINITIONS]),
        NOTES,
        "Columns marked (cited) are the papers' own figures, on COCO, by their judge and formula.",
    ]
    if len({_samples_hash(row) for row in result.rows}) > 1:
        notes.append("The rows are not all of the same samples: compare those of the same n alone.")
    return notes + [f"{text[0].upper()}{text[1:]}" for text in stale_of(result)]


def remarks(row: ResultRow) -> list[str]:
    """Returns what is to be known of a row, shown beside its name."""
    notes = [row.suffix] if row.suffix else []
    notes += ["oracle"] if row.row in ORACLES else []
    notes += ["this project's own"] if row.row in OWN else []
    notes += ["judged by its guide"] if row.judged.guided else []
    notes += ["dropped objects ignored"] if row.judged.ignore == "dropped" else []
    return notes + (["resized"] if row.judged.resized else [])


def written(row: ResultRow, name: str) -> tuple[str, str]:
    """Returns the mean and deviation of an estimate, and its interval, as text."""
    return row.figures[name].text(), row.figures[name].interval_text()


def is_best(row: ResultRow) -> bool:
    """Returns whether a row is the best method under its judge, or not told from it."""
    p = row.comparison.p_best
    return p is not None and p >= ALPHA


def share(row: ResultRow) -> str:
    """Returns the share of the ceiling as text."""
    value = row.comparison.ceiling_share
    return "" if value is None else f"{value:.2f}"


def leakage(row: ResultRow) -> str:
    """Returns the leakage with its interval as text."""
    if row.comparison.leakage is None:
        return ""
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*row.comparison.leakage)


def _label(row: ResultRow) -> str:
    notes = remarks(row)
    return f"{row.row} ({', '.join(notes)})" if notes else row.row


def _cell(row: ResultRow, name: str) -> str:
    text, ends = written(row, name)
    bold = "**" if name == HEADLINE and is_best(row) and text != "-" else ""
    return f"{bold}{text}{bold} {ends}".rstrip()
