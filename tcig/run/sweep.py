"""Runs a sweep: rows under combinations of their options, each combination in a run of its own."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tcig.data.masks import TRUE
from tcig.data.records import run_rows
from tcig.eval.images import Sizes
from tcig.eval.measure import Networks, Photographs, measure_folder
from tcig.eval.rows import read_rows
from tcig.eval.statistics import paired_test
from tcig.eval.table import measured
from tcig.methods.registry import find_row
from tcig.profiles import load_profile
from tcig.run.experiment import check_methods, check_rows, read_data, run_experiment

METRICS = ("iou_image", "clip_caption", "clip_region", "diversity", "kid", "kid_clip")
"""Metrics of a trial, each with its `_std`, `_low` and `_high`."""


class Trial(NamedTuple):
    """A row under one combination of options."""

    method: str
    """The row by name, or path/to/file.py:Class."""
    options: dict[str, Any]
    """What is varied, as columns of the table."""
    settings: dict[str, Any]
    """All options that are set."""
    masks: str = TRUE
    """Masks as the method sees them, see `tcig.data.perturb`."""

    @property
    def assignments(self) -> list[str]:
        """The settings as ROW.OPTION=VALUE."""
        row, _ = find_row(self.method)
        return [f"{row}.{option}={value}" for option, value in self.settings.items()]


class Quality(NamedTuple):
    """Networks for the quality metrics of trials."""

    networks: Networks
    photographs: Photographs | None


def run_trials(
    trials: Sequence[Trial],
    profile: str,
    manifest: Path,
    *,
    coco: Path | None,
    samples: int,
    limit: int | None,
    exclude: Collection[str] = (),
    judges: Sequence[str],
    out: Path,
    quality: Quality | None = None,
) -> Iterator[dict[str, Any]]:
    """Generates and scores trials one after another; what is finished is kept.

    All trials are checked before the first one is generated. Arguments are those of
    `run_experiment`; `quality` adds its metrics.

    Yields:
        A record of each trial: `row`, `masks` and its varied options; `evaluations` of the UNet per
        image; of `METRICS` those that exist, by the first independent judge; `iou_guide` and
        `leakage` where a judge guides TCIG; `n`, `failed`, `seconds` per image, `run` (its folder).

    Raises:
        InputError: see `run_experiment`.
    """
    loaded = load_profile(profile)
    loaded.compute.check_named()
    settings = [trial.assignments for trial in trials]
    rows = [
        check_methods([trial.method], loaded, given)[0]
        for trial, given in zip(trials, settings, strict=True)
    ]
    data = read_data(manifest, coco, limit, exclude)
    check_rows(rows, data)
    shared = {"coco": coco, "samples": samples, "limit": limit, "exclude": exclude}
    for trial, row, given in zip(trials, rows, settings, strict=True):
        options = {"settings": given, "masks": trial.masks, "judges": judges, "out": out}
        outcome = run_experiment([trial.method], profile, manifest, **shared, **options)
        record = {"row": row.row, "masks": trial.masks} | trial.options
        record["evaluations"] = row.cost(data.drawn).unet / len(data.drawn)
        metrics = {"iou_image": None, "iou_image_std": None, "n": 0}
        end = {"failed": outcome.failed}
        for folder in outcome.folders:
            if quality:
                images = folder, data.layouts, data.manifest
                sizes = Sizes(loaded.size, loaded.score_size)
                measure_folder(*images, quality.networks, sizes, quality.photographs)
            metrics = _metrics(folder)
            end |= {"seconds": seconds_per_image(folder), "run": folder.name}
        yield record | metrics | end


def _metrics(folder: Path) -> dict[str, Any]:
    """Returns the metrics of a scored run."""
    frame = measured([folder], "none")
    first, guides = frame.iloc[0], frame[frame["leakage"].notna()]
    names = [name + end for name in METRICS for end in ("", "_std", "_low", "_high")]
    metrics = {name: first[name] for name in (*names, "n") if name in first}
    for end in ("", "_low", "_high") if len(guides) else ():
        metrics[f"iou_guide{end}"] = guides.iloc[0][f"iou_image{end}"]
        metrics[f"leakage{end}"] = guides.iloc[0][f"leakage{end}"]
    return metrics


def seconds_per_image(folder: Path) -> float:
    """Returns the mean seconds per image of a run."""
    rows = [row for row in run_rows(folder) if row["error"] is None]
    seconds = [row["seconds"] for row in rows if row.get("seconds") is not None]
    return sum(seconds) / max(len(seconds), 1)


def add_gains(
    trials: pd.DataFrame, options: Sequence[str], option: str, value: Any, out: Path
) -> pd.DataFrame:
    """Compares each trial with the one that differs from it only in having a baseline's value.

    Args:
        trials: a record per trial, see `run_trials`.
        options: all options that are varied.
        option: the option of the baseline.
        value: the baseline's value.
        out: folder of the runs.

    Returns:
        The trials with `gain` in `iou_image`, `gain_low` and `gain_high` (its 95% interval) and
        `gain_p` (of the permutation test), paired by layout; NaN for baselines and where nothing
        was generated.
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
        a, b = (read_rows([out / run], "none")[0] for run in runs)
        gains.append(paired_test(a.value_of(), b.value_of(), a.layouts, b.layouts)[:4])
    columns = ["gain", "gain_low", "gain_high", "gain_p"]
    return trials.assign(**pd.DataFrame(gains, columns=columns, index=trials.index))
