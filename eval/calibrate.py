"""Which readings and reductions give real photographs the published 0.43 ± 0.09.

MultiDiffusion (arXiv 2302.08113, Table 2) re-segmented real COCO images and prints that "upper
bound" without its formula, its judge's checkpoint, or what the ± runs over.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest
from tcig.eval.iou import NAMES, reduce
from tcig.eval.records import COUNTS, read_scores, samples_of
from tcig.eval.table import cited

NEAREST = 1000
"""Layouts: MultiDiffusion's "1K diverse samples"."""


def ceiling() -> tuple[float, float]:
    """Returns mean and ± of the published row `real`."""
    (row,) = (figure for figure in cited() if figure.row == "real")
    return float(row.mean), float(row.std)


def visible_shares(layout: Layout, size: int) -> dict[int, float]:
    """Returns, by class of a layout, the share of its pixels that no smaller object covers.

    Args:
        layout: with its regions.
        size: side at which the class map is compared, pixels.
    """
    labels, shares = layout.class_map(size), {}
    for index in layout.classes:
        own = np.zeros((size, size), bool)
        for region in layout.regions:
            if region.index == index:
                own |= resize_nearest(region.pixels, size)
        shares[index] = float((labels[own] == index).mean()) if own.any() else 0.0
    return shares


def calibration(
    folder: Path,
    readings: Mapping[str, set[str]],
    layouts: Sequence[Layout] = (),
    sliver: float = 0.0,
) -> pd.DataFrame:
    """Returns every reading, judge, treatment of dropped objects and reduction of photographs.

    Args:
        folder: the scored row `real` of a manifest that has the layouts of all readings.
        readings: name -> ids of its layouts.
        layouts: of the manifest; needed for slivers.
        sliver: a class of which less than this share is visible under smaller objects is left out.

    Returns:
        `reading`, `judge`, `ignore`, `reduction`, `n` (of values that the mean is of), `slivers`
        (classes of layouts that were left out), `mean`, `std`, `mean_distance` and `std_distance`
        (from the published figures), `distance` (the larger of both) and `lands` (both are equal to
        them when rounded as they are), the nearest first.
    """
    records = []
    for score, rows in read_scores(folder):
        hidden = {
            (layout.id, index)
            for layout in (layouts if sliver else ())
            for index, share in visible_shares(layout, score.score_size).items()
            if share < sliver
        }
        for reading, ids in readings.items():
            chosen, slivers = [], 0
            for row in rows:
                kept = [index for index in row["classes"] if (row["layout"], index) not in hidden]
                if row["layout"] in ids:
                    slivers += len(row["classes"]) - len(kept)
                    chosen += [row | {"classes": kept}] if kept else []
            for ignore in COUNTS if chosen else ():
                samples = samples_of(chosen, ignore)
                conditions = {"reading": reading, "judge": score.judge, "ignore": ignore}
                for name in NAMES:
                    mean, std, n = reduce(samples, name)
                    counts = {"reduction": name, "n": n, "slivers": slivers}
                    records.append(conditions | counts | {"mean": mean, "std": std})
    frame, (mean, std) = pd.DataFrame(records), ceiling()
    frame["mean_distance"] = (frame["mean"] - mean).abs()
    frame["std_distance"] = (frame["std"] - std).abs()
    frame["distance"] = frame[["mean_distance", "std_distance"]].max(axis=1)
    printed = frame[["mean", "std"]].map(lambda value: round(value, 2))
    frame["lands"] = (printed == [mean, std]).all(axis=1)
    return frame.sort_values("distance", kind="stable").reset_index(drop=True)


def nearest_subsets(counts: list[dict], number: int = 3) -> list[dict]:
    """Returns the rows of `tcig.data.filters.count_table` nearest to `NEAREST` images."""
    return sorted(counts, key=lambda row: abs(row["images"] - NEAREST))[:number]
