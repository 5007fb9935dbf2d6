"""The table: a row per method and judge, measured figures beside the published ones."""

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tcig.eval.iou import NAMES, reduce
from tcig.eval.pairs import ALPHA, HEADLINE, against_best, ceiling_shares, leakages
from tcig.eval.published import cited
from tcig.eval.quality_table import (
    DEFINITIONS,
    quality_cell,
    quality_columns,
    quality_notes,
    stale_of,
)
from tcig.eval.rows import ORACLES, OWN, Ignore, Row, read_rows
from tcig.eval.statistics import by_layout, interval, parts

CONDITIONS = ("row", "judge", "identity", "manifest", "image_size", "score_size", "resized")
"""What of a score goes into a record as it is."""
SHARE, LEAKAGE = "of ceiling", "guide - judge"
INDEPENDENT = "independent"
INDEPENDENCE = {"independent": "yes", "guide": "no", "unknown": "unknown"}
"""`tcig.eval.rows.Independence` -> as people read it."""
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
    """`tabulated` of scored folders; `tcig.eval.rows.read_rows` says what is refused."""
    return tabulated(read_rows(folders, ignore))


def tabulated(rows: Sequence[Row]) -> pd.DataFrame:
    """A record for each row, in their order.

    Returns:
        Columns `CONDITIONS`, `samples` (a hash of which they are), `ignore`, `n`, `failed`;
        `guided`, `independence` and, if a row has one, `told`, of `tcig.eval.rows.Row`; for every
        name of `tcig.eval.iou.NAMES` its mean, `{name}_std`, `{name}_n`, and the ends `{name}_low`
        and `{name}_high` of the 95% interval; `ceiling_share`, `p_best` and the columns of
        `leakages` (all of `tcig.eval.pairs`); those of
        `tcig.eval.quality_table.quality_columns` where there are some.
    """
    frame = pd.DataFrame([_record(row) for row in rows])
    if any(row.told for row in rows):
        frame["told"] = [row.told for row in rows]
    frame = frame.assign(ceiling_share=ceiling_shares(rows), p_best=against_best(rows))
    return frame.join(leakages(rows))


def _record(row: Row) -> dict:
    record = {name: getattr(row.score, name) for name in CONDITIONS}
    pairs = repr(sorted(row.score.samples)).encode()
    record |= {"samples": hashlib.sha256(pairs).hexdigest()[:8], "ignore": row.ignore}
    record |= {"n": len(row.layouts), "failed": row.score.failed, "guided": row.guided}
    record |= {"independence": row.independence}
    for name in NAMES:
        mean, std, n = reduce(row.samples, name)
        low, high = interval(by_layout(parts(row.samples, name), row.layouts))
        record |= {name: mean, f"{name}_std": std, f"{name}_n": n}
        record |= {f"{name}_low": low, f"{name}_high": high}
    return record | quality_columns(row)


def figures(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The table that people read: `mean ± std` per reduction, published figures beside.

    Published rows that nothing was measured for follow with empty cells, once.
    """
    columns = {}
    for figure in cited():
        column = f"{figure.paper} {figure.table} (cited)"
        columns.setdefault(column, {})[figure.row] = f"{figure.mean} ± {figure.std}"
    named = dict.fromkeys(figure.row for figure in cited())
    unmeasured = [row for row in named if row not in set(frame["row"])]
    lines = []
    for record in frame.to_dict("records"):
        line = {"row": _label(record), "judge": record["judge"]}
        line |= {INDEPENDENT: INDEPENDENCE[record["independence"]], "n": _n(record)}
        for name in names:
            cell = quality_cell if name in DEFINITIONS else _cell
            line[name] = cell(record, name)
        line |= {SHARE: share(record), LEAKAGE: leakage(record)}
        lines.append(
            line | {column: rows.get(record["row"], "") for column, rows in columns.items()}
        )
    for row in unmeasured:
        left = ("judge", INDEPENDENT, "n", *names, SHARE, LEAKAGE)
        blank = {"row": row} | dict.fromkeys(left, "")
        lines.append(blank | {column: rows.get(row, "") for column, rows in columns.items()})
    return pd.DataFrame(lines)


def remarks(record: dict) -> list[str]:
    """What is to be known of a row, shown beside its name."""
    notes = [record["told"]] if record.get("told") else []
    notes += ["oracle"] if record["row"] in ORACLES else []
    notes += ["this project's own"] if record["row"] in OWN else []
    notes += ["judged by its guide"] if record["guided"] else []
    notes += ["dropped objects ignored"] if record["ignore"] == "dropped" else []
    return notes + (["resized"] if record["resized"] else [])


def written(record: dict, name: str) -> tuple[str, str]:
    """A figure as people read it: `mean ± std` (`-` where there is none), and its interval."""
    mean, low, high = (record[name + end] for end in ("", "_low", "_high"))
    if np.isnan(mean):
        return "-", ""
    ends = "" if np.isnan(low) else f"[{low:.3f}, {high:.3f}]"
    return f"{mean:.3f} ± {record[f'{name}_std']:.3f}", ends


def is_best(record: dict) -> bool:
    """Whether it is the best method under its judge, or not told from it."""
    return record["p_best"] >= ALPHA


def share(record: dict) -> str:
    """Of the ceiling, as people read it."""
    return _number(record["ceiling_share"], ".2f")


def leakage(record: dict) -> str:
    """As people read it, with its interval."""
    if np.isnan(record["leakage"]):
        return ""
    return "{leakage:+.3f} [{leakage_low:+.3f}, {leakage_high:+.3f}]".format_map(record)


def _label(record: dict) -> str:
    notes = remarks(record)
    return f"{record['row']} ({', '.join(notes)})" if notes else record["row"]


def _n(record: dict) -> str:
    return f"{record['n']} ({record['failed']} failed)" if record["failed"] else str(record["n"])


def _cell(record: dict, name: str) -> str:
    figure, ends = written(record, name)
    bold = "**" if name == HEADLINE and is_best(record) and figure != "-" else ""
    return f"{bold}{figure}{bold} {ends}".rstrip()


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def render(frame: pd.DataFrame, names: Sequence[str], form: str) -> str:
    """The table as `md`, `csv` (all numbers, unrounded) or `latex` (booktabs)."""
    if form == "csv":
        buffer = io.StringIO()
        printed = pd.DataFrame([figure._asdict() for figure in cited()])
        printed["judge"] = "cited: " + printed["paper"] + " " + printed["table"]
        printed = printed.rename(columns={"mean": "published", "std": "published_std"})
        wanted = ["row", "judge", "published", "published_std"]
        counts = [c for c in frame if c in ("n", "failed") or c.endswith("_n")]
        table = pd.concat([frame.astype(dict.fromkeys(counts, "Int64")), printed[wanted]])
        table.to_csv(buffer, index=False)
        return buffer.getvalue()
    table = figures(frame, names)
    ious = [name for name in names if name in NAMES]
    over = "; ".join(f"{n}: {VALUES[n.removesuffix('_with_background')]}" for n in ious)
    notes = [
        *([f"{STD}{over}."] if ious else []),
        *quality_notes(frame, [name for name in names if name in DEFINITIONS]),
        NOTES,
        "Columns marked (cited) are the papers' own figures, on COCO, by their judge and formula.",
    ]
    if frame["samples"].nunique() > 1:
        notes.append("The rows are not all of the same samples: compare those of the same n alone.")
    notes += [f"{text[0].upper()}{text[1:]}" for text in stale_of(frame)]
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
