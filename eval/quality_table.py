"""The quality metrics in a table: their definitions, cells, and what is refused."""

from collections.abc import Sequence

from tcig.data.files import InputError
from tcig.eval.results import Result, ResultRow

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
NEEDS = {
    "diversity": "two samples or more of a layout",
    **dict.fromkeys(("recall_iou", "recall_iou_dense"), "a judge that knows instances"),
    **dict.fromkeys(("kid", "fid"), "a profile whose features are Inception's, and photographs"),
    "kid_clip": "a profile whose features are CLIP's, and photographs",
}
"""What some metrics need beside images."""
BY_SCORER = ("clip_caption", "clip_region", "diversity", "kid_clip")
"""Metrics that the scorer's own guidance would flatter."""


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


def quality_cell(row: ResultRow, name: str) -> str:
    """Returns `mean ± std [low, high]` of a metric, a dash where there is none."""
    if not _has(row, name):
        return "-"
    estimate, digits = row.figures[name], DISTANCES.get(name, 3)
    guided = row.scorers and row.scorers.clip_guided and name in BY_SCORER
    parts = estimate.text(digits), estimate.interval_text(digits), "(its guide)" if guided else ""
    return " ".join(filter(None, parts))


def quality_notes(result: Result, names: Sequence[str]) -> list[str]:
    """Returns a sentence for each metric shown."""
    if not names:
        return []
    scorers = [row.scorers for row in result.rows if row.scorers]
    notes = [
        f"{name}: {DEFINITIONS[name]}.".replace("SCORER", scorers[0].scored_by).replace(
            "FEATURES", scorers[0].seen_by
        )
        for name in names
    ]
    if any(each.clip_guided for each in scorers) and set(names) & set(BY_SCORER):
        notes.append("(its guide): by a CLIP that guided or ranked these images themselves.")
    return notes


def _has(row: ResultRow, name: str) -> bool:
    return name in row.figures and row.figures[name].mean is not None
