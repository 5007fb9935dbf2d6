"""Runs a sweep: rows under combinations of their options, each combination in a run of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tcig.data.emoji.make import make_split
from tcig.data.files import InputError, write_whole
from tcig.data.filters import Filter
from tcig.data.manifest import build_layouts, read_manifest, write_manifest
from tcig.data.masks import TRUE
from tcig.data.records import run_rows
from tcig.eval.images import Sizes
from tcig.eval.measure import Networks, Photographs, measure_folder
from tcig.eval.table import measured
from tcig.methods.registry import find_row
from tcig.profiles import Profile, load_profile
from tcig.run.experiment import check_rows, read_data, run_experiment
from tcig.run.spec import choose_rows

METRICS = ("iou_image", "clip_caption", "clip_region", "diversity", "kid", "kid_clip")
"""Metrics of a trial, each with its `_std`, `_low` and `_high`."""
TUNING_SCENES = 64
"""Scenes of the embedded tuning split, before the filter."""


class Trial(NamedTuple):
    """A row under one combination of options."""

    method: str
    """The row by name, or path/to/file.py:Class."""
    options: Mapping[str, Any]
    """The varied options, as columns of the table."""
    settings: Mapping[str, Any]
    """All options that are set."""
    masks: str = TRUE
    """Masks as the method sees them, see `tcig.data.masks`."""


class Sweep(NamedTuple):
    """The data of a sweep, and the files that it writes."""

    profile: str
    """The name of a profile, or a TOML file."""
    layouts: Path | None
    """The manifest; None: embedded data."""
    exclude: Path | None
    """A manifest whose layouts are left out."""
    limit: int | None
    """Number of layouts, the first in the order of a hash of their ids; None: all."""
    out: Path
    """Folder of the runs."""
    table: Path
    """CSV that is written after each trial."""


def sweep_row(
    sweep: Sweep, row: str, varied: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]
) -> pd.DataFrame:
    """Measures one row on layouts for tuning, by the profile's first judge; the best stands first.

    Args:
        sweep: without layouts, the embedded tuning split is used.
        row: the row by name, or path/to/file.py:Class.
        varied: the options of each trial.
        shared: options of all trials.

    Raises:
        InputError: see `run_trials`; no manifest is given and the profile embeds no data.
    """
    profile = load_profile(sweep.profile)
    return run_trials(
        sweep,
        [Trial(row, options, {**shared, **options}) for options in varied],
        *((sweep.layouts, None) if sweep.layouts else _make_tuning_layouts(profile, sweep.out)),
        samples=1,
        judges=profile.judges[:1],
        sort={"by": "iou_image", "ascending": False},
        drop=["row", "masks", "evaluations"],
    )


def _make_tuning_layouts(profile: Profile, out: Path) -> tuple[Path, Path]:
    """Makes the embedded tuning split: its manifest and COCO folder."""
    if not profile.embedded:
        raise InputError(
            f"the profile {profile.name} embeds no data: give --layouts FILE, and what it must not "
            "share as --exclude FILE."
        )
    out.mkdir(parents=True, exist_ok=True)
    folder, manifest = out / "tuning", out / "tuning.jsonl"
    make_split("tuning", TUNING_SCENES, folder)
    write_manifest(manifest, *build_layouts(folder, Filter()))
    return manifest, folder


def run_trials(
    sweep: Sweep,
    trials: Sequence[Trial],
    manifest: Path,
    coco: Path | None,
    *,
    samples: int,
    judges: Sequence[str],
    sort: Mapping[str, Any],
    drop: Sequence[str] = (),
    quality: tuple[Networks, Photographs | None] | None = None,
) -> pd.DataFrame:
    """Generates and scores trials one after another; what is finished is kept.

    All trials are checked before the first one is generated.

    Args:
        sweep: see `Sweep`.
        trials: the trials, in this order.
        manifest: the layouts.
        coco: folder of the photographs.
        samples: images per layout.
        judges: as in `run_experiment`.
        sort: arguments of `DataFrame.sort_values`.
        drop: columns to leave out.
        quality: networks and photographs for the quality metrics.

    Returns:
        A record of each trial: `row`, `masks` and its varied options; `evaluations` of the UNet per
        image; of `METRICS` those that exist, by the first independent judge; `iou_guide` and
        `leakage` where a judge guides TCIG; `n`, `failed`, `seconds` per image, `run` (its folder).

    Raises:
        InputError: see `run_experiment`.
    """
    profile = load_profile(sweep.profile)
    profile.compute.check_named()
    rows, settings = [], []
    for trial in trials:
        name, _ = find_row(trial.method)
        settings.append([f"{name}.{option}={value}" for option, value in trial.settings.items()])
        rows += choose_rows(profile, [trial.method], settings[-1])
    excluded = {each.id for each in read_manifest(sweep.exclude)[1]} if sweep.exclude else set()
    data = read_data(manifest, coco, sweep.limit, excluded)
    check_rows(rows, data)
    sweep.table.parent.mkdir(parents=True, exist_ok=True)
    shared = {"coco": coco, "samples": samples, "limit": sweep.limit, "exclude": excluded}
    records = []
    for trial, row, given in zip(trials, rows, settings, strict=True):
        own = {"settings": given, "masks": trial.masks, "judges": judges, "out": sweep.out}
        outcome = run_experiment([trial.method], sweep.profile, manifest, **shared, **own)
        record = {"row": row.row, "masks": trial.masks, **trial.options}
        record["evaluations"] = row.cost(data.drawn).unet / len(data.drawn)
        metrics = {"iou_image": None, "iou_image_std": None, "n": 0}
        end = {"failed": outcome.failed}
        for folder in outcome.folders:
            if quality:
                networks, photographs = quality
                sizes = Sizes(profile.size, profile.score_size)
                measure_folder(folder, data.layouts, data.manifest, networks, sizes, photographs)
            metrics = _metrics(folder)
            end |= {"seconds": _seconds_per_image(folder), "run": folder.name}
        records.append(record | metrics | end)
        frame = pd.DataFrame(records).drop(columns=list(drop)).sort_values(**sort, kind="stable")
        write_whole(sweep.table, frame.round(4).to_csv(index=False))
    return frame


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


def _seconds_per_image(folder: Path) -> float:
    """Returns the mean seconds per image of a run."""
    seconds = [record["seconds"] for record in run_rows(folder) if record["error"] is None]
    return sum(seconds) / max(len(seconds), 1)
