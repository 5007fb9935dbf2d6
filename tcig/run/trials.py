"""One trial: a row under some options, drawn and scored in a run of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tcig.data.imperfect import TRUE, imperfect
from tcig.eval.comparison import paired_test
from tcig.eval.judges import Judge
from tcig.eval.measure import Networks, Photographs, measure_folder
from tcig.eval.pairs import values
from tcig.eval.rows import read_rows
from tcig.eval.score import Sizes, score_images
from tcig.eval.table import measured
from tcig.profiles import Profile
from tcig.run.experiment import Data, generate_row
from tcig.run.spec import Chosen, set_up

METRICS = ("iou_image", "clip_caption", "clip_region", "diversity", "kid", "kid_clip")
"""What a trial may reach, each with its `_std`, `_low` and `_high`."""


class Eyes(NamedTuple):
    """Who looks: judges by their names, and where quality counts too, what measures it."""

    judges: Sequence[tuple[str, Judge]]
    networks: Networks | None = None
    photographs: Photographs | None = None


def measure(
    chosen: Chosen,
    profile: Profile,
    data: Data,
    eyes: Eyes,
    out: Path,
    masks: str = TRUE,
    samples: int = 1,
) -> dict:
    """What a trial reaches; what an earlier call drew and judged is not done again.

    Args:
        chosen: the row with its options.
        profile: as said.
        data: on which.
        eyes: who looks.
        out: where the run's folder is.
        masks: as the method sees them, see `tcig.data.imperfect`.
        samples: of each layout.

    Returns:
        Of `METRICS` those that there are (`iou_image` None where nothing was drawn), by the first
        independent judge; `iou_guide` and `leakage` where a judge guides TCIG; `n`, `failed`,
        `seconds` an image, `run` (its folder's name).
    """
    made = set_up(chosen, profile, data.coco, data.manifest, masks, out)
    seen = data._replace(drawn=imperfect(data.drawn, masks))
    store, failed = generate_row(made, profile, seen, out, samples, len(data.drawn))
    reached = {"iou_image": None, "iou_image_std": None, "n": 0}
    if store.done:
        sizes = Sizes(profile.size, profile.score_size)
        images = store.folder, data.layouts, data.manifest
        for judge in eyes.judges:
            score_images(*images, judge, sizes)
        if eyes.networks:
            measure_folder(*images, eyes.networks, sizes, eyes.photographs)
        frame = measured([store.folder], "none")
        found, guide = frame.iloc[0], frame[frame["leakage"].notna()]
        wanted = [name + end for name in METRICS for end in ("", "_std", "_low", "_high")]
        reached = {key: found[key] for key in (*wanted, "n") if key in found}
        for end in ("", "_low", "_high") if len(guide) else ():
            reached[f"iou_guide{end}"] = guide.iloc[0][f"iou_image{end}"]
            reached[f"leakage{end}"] = guide.iloc[0][f"leakage{end}"]
    return reached | {"failed": failed, "seconds": store.seconds(), "run": store.folder.name}


def compare(
    trials: pd.DataFrame, options: Sequence[str], option: str, value: Any, out: Path
) -> pd.DataFrame:
    """Trials with their gain in `iou_image` over the trial that has the baseline's value.

    Args:
        trials: a record for each, with its `row`, `masks`, options and `run`.
        options: that are varied.
        option: the one that a trial and its baseline differ in.
        value: the baseline's.
        out: where the runs' folders are.

    Returns:
        The trials with `gain`, `gain_low` and `gain_high` (the 95% interval) and `gain_p` (of the
        permutation test), paired by layout; NaN for baselines and where nothing was generated.
    """
    same = ["row", "masks", *(each for each in options if each != option)]
    baselines = trials[trials[option] == value]
    pairs = trials.merge(baselines[[*same, "run", "n"]], "left", same, suffixes=("", "_baseline"))
    gains = []
    for record in pairs.to_dict("records"):
        runs = record["run"], record["run_baseline"]
        if runs[0] == runs[1] or not (record["n"] and record["n_baseline"]):
            gains.append([float("nan")] * 4)
            continue
        row, baseline = (read_rows([out / run], "none")[0] for run in runs)
        gains.append(paired_test(values(row), values(baseline), row.layouts, baseline.layouts)[:4])
    columns = ["gain", "gain_low", "gain_high", "gain_p"]
    return trials.assign(**pd.DataFrame(gains, columns=columns, index=trials.index))
