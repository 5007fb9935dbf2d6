"""Which readings and reductions give real photographs the published 0.43 ± 0.09.

MultiDiffusion (arXiv 2302.08113, Table 2) re-segmented real COCO images and prints that "upper
bound" without its formula, its judge's checkpoint, or what the ± runs over.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tcig.eval.iou import NAMES, reduce
from tcig.eval.published import cited
from tcig.eval.stored import COUNTS, read_scores, samples_of

NEAREST = 1000
"""Layouts: MultiDiffusion's "1K diverse samples"."""


def ceiling() -> tuple[float, float]:
    """Mean and ± of the published row `real`."""
    (row,) = (figure for figure in cited() if figure.row == "real")
    return float(row.mean), float(row.std)


def calibration(folder: Path, readings: Mapping[str, set[str]]) -> pd.DataFrame:
    """Every reading, judge, treatment of dropped objects and reduction of scored photographs.

    Args:
        folder: the scored row `real` of a manifest that has the layouts of all readings.
        readings: name -> ids of its layouts.

    Returns:
        `reading`, `judge`, `ignore`, `reduction`, `n` (of values that the mean is of), `mean`,
        `std`, `distance` (the larger of both differences from the published figures) and
        `lands` (both are equal to them when rounded as they are), the nearest first.
    """
    mean, std = ceiling()
    records = []
    for score, rows in read_scores(folder):
        for reading, ids in readings.items():
            chosen = [row for row in rows if row["layout"] in ids]
            if not chosen:
                continue
            for ignore in COUNTS:
                samples = samples_of(chosen, ignore)
                for name in NAMES:
                    found = reduce(samples, name)
                    records.append(
                        {
                            "reading": reading,
                            "judge": score.judge,
                            "ignore": ignore,
                            "reduction": name,
                            "n": found.n,
                            "mean": found.mean,
                            "std": found.std,
                            "distance": max(abs(found.mean - mean), abs(found.std - std)),
                            "lands": (round(found.mean, 2), round(found.std, 2)) == (mean, std),
                        }
                    )
    frame = pd.DataFrame(records)
    return frame.sort_values("distance", kind="stable").reset_index(drop=True)


def nearest_subsets(counts: list[dict], number: int = 3) -> list[dict]:
    """The rows of `tcig.data.filters.count_table` nearest to `NEAREST` images."""
    return sorted(counts, key=lambda row: abs(row["images"] - NEAREST))[:number]
