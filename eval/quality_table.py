"""Quality's columns of the table, and a sentence below it for each."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tcig.data.errors import InputError
from tcig.eval.measured import Measured, read_quality
from tcig.eval.rows import Row
from tcig.eval.statistics import Interval, by_layout, interval, mean_of

SETS = {"kid": 4, "kid_clip": 4, "fid": 1}
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
NEEDS = {
    "diversity": "two samples or more of a layout",
    **dict.fromkeys(("recall_iou", "recall_iou_dense"), "a judge that knows instances"),
    **dict.fromkeys(("kid", "fid"), "a profile whose features are Inception's, and photographs"),
    "kid_clip": "a profile whose features are CLIP's, and photographs",
}
"""What some metrics need beside images."""
BY_SCORER = ("clip_caption", "clip_region", "diversity", "kid_clip")
"""Metrics that the scorer's own guidance would flatter."""


def quality_columns(row: Row) -> dict:
    """What `tcig quality` measured of a row's folder, nothing if it was not run.

    Returns:
        For every name of `DEFINITIONS` that there is its mean, `{name}_std`, `{name}_n` and the
        ends `{name}_low` and `{name}_high` of the mean's 95% interval (NaN of the
        distances between sets); `scorer` and `features`, the identities of the networks, and
        `scored_by` and `seen_by`, their names; `clip_guided`, whether the scorer's own CLIP was
        among the run's networks. A row that ignores dropped objects has none of a judge's metrics.
        `stale` alone, a sentence, where it is unfinished, or was measured on other images or by
        another scoring than the row's.
    """
    try:
        found = read_quality(row.folder)
    except InputError as error:
        return {"stale": str(error)}
    if found is None:
        return {}
    if not _current(row, found):
        return {
            "stale": f"quality of {row.folder} is not of the images and scores that are there now: "
            f"run `tcig quality {row.folder} --layouts MANIFEST` again."
        }
    quality, values = found.quality, dict(found.own)
    if row.ignore == "none":
        values |= found.judged[row.score.judge]
    weights = row.run.spec.weights.values() if row.run else ()
    columns = {
        "scorer": quality.scorer_identity,
        "features": quality.features_identity,
        "scored_by": quality.scorer,
        "seen_by": quality.features,
        "clip_guided": quality.scorer_identity in weights,
    }
    for name, (layouts, each) in values.items():
        kept = each[~np.isnan(each)]
        mean, std = (kept.mean(), kept.std()) if len(kept) else (math.nan, math.nan)
        ends = interval(by_layout(mean_of(each), layouts))
        columns |= _column(name, float(mean), float(std), len(kept), ends)
    for name, figure in quality.figures.items():
        std = math.nan if figure.std is None else figure.std
        columns |= _column(name, figure.value, std, figure.n, Interval(math.nan, math.nan))
    return columns


def _column(name: str, mean: float, std: float, n: int, ends: Interval) -> dict:
    figures = {f"{name}_std": std, f"{name}_low": ends.low, f"{name}_high": ends.high}
    return {name: mean, f"{name}_n": n} | figures


def _current(row: Row, found: Measured) -> bool:
    """Whether it was measured on the row's images and scores."""
    judge = found.quality.judges.get(row.score.judge)
    scoring, manifest = (row.score.identity, row.score.score_size), row.score.manifest
    same = judge and (judge.identity, judge.score_size) == scoring
    return bool(same and found.images == row.images and found.quality.manifest == manifest)


def stale_of(frame: pd.DataFrame) -> list[str]:
    """What `quality_columns` says of rows that were measured before they changed."""
    return frame["stale"].dropna().unique().tolist() if "stale" in frame else []


def check_quality(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Whether a table can show these metrics of `DEFINITIONS`.

    Raises:
        InputError: no row has one, the rows were measured by different networks, or one was
            measured before its images or scores changed.
    """
    if names and (stale := stale_of(frame)):
        raise InputError(stale[0])
    for name in names:
        if name not in frame or frame[name].isna().all():
            there = [
                other for other in DEFINITIONS if other in frame and frame[other].notna().any()
            ]
            hint = f"there are {', '.join(there)}" if there else "run `tcig quality` first"
            needs = f" (it needs {NEEDS[name]})" if name in NEEDS else ""
            raise InputError(f"no row has {name}{needs}: {hint}.")
        column = "scorer" if name in BY_SCORER else "features" if name in SETS else None
        if column and frame[column].nunique() > 1:
            shown = " and ".join(str(each)[:40] for each in frame[column].dropna().unique())
            raise InputError(
                f"the rows' {name} is by different networks ({shown}): run `tcig quality` on them "
                "alike."
            )


def quality_cell(record: dict, name: str) -> str:
    """`mean ± std [low, high]` of a metric as people read it, a dash where there is none."""
    mean, std, low, high = (record[name + end] for end in ("", "_std", "_low", "_high"))
    if math.isnan(mean):
        return "-"
    digits = SETS.get(name, 3)
    spread = "" if math.isnan(std) else f" ± {std:.{digits}f}"
    ends = "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    guided = record["clip_guided"] is True and name in BY_SCORER
    return f"{mean:.{digits}f}{spread}{ends}{' (its guide)' if guided else ''}"


def quality_notes(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """A sentence for each metric shown."""
    if not names:
        return []
    scorer, features = (frame[each].dropna().iloc[0] for each in ("scored_by", "seen_by"))
    notes = [
        f"{name}: {DEFINITIONS[name]}.".replace("SCORER", scorer).replace("FEATURES", features)
        for name in names
    ]
    shown = [name for name in names if name in BY_SCORER]
    if shown and (frame["clip_guided"] == True).any():  # noqa: E712
        notes.append("(its guide): by a CLIP that guided or ranked these images themselves.")
    return notes
