"""Presets of `tcig sweep`: the paper's claims, each tested by trials of its own."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tcig.data.files import InputError, write_whole
from tcig.data.masks import IMPERFECTIONS, TRUE
from tcig.eval.comparison import GUIDES
from tcig.eval.features import ClipEncoder, load_features, photograph_features
from tcig.eval.measure import Networks, Photographs
from tcig.eval.pictures import curves_figure
from tcig.eval.rows import read_rows
from tcig.eval.statistics import paired_test
from tcig.methods.registry import parse_settings
from tcig.profiles import Profile, load_profile
from tcig.run.experiment import find_manifest
from tcig.run.spec import choose
from tcig.run.sweep import METRICS, Sweep, Trial, run_trials


class Preset(NamedTuple):
    """Trials that test a claim, and the figure of their results."""

    title: str
    """The claim of the paper, or the question of its reviewers."""
    rows: tuple[str, ...]
    options: dict[str, tuple]
    """Option -> its values; every combination is a trial."""
    x: str
    """Column across the figure: an option, or `evaluations`."""
    multiples: tuple[str, ...] = ()
    """Options whose values are multiples of the profile's values for `tcig`."""
    masks: tuple[str, ...] = (TRUE,)
    samples: int = 2
    """Samples per layout (our choice)."""
    lines: tuple[str, ...] = ("row",)
    """Columns that distinguish the figure's lines."""
    panels: str | None = None
    """Column that distinguishes the figure's rows of panels."""
    metrics: tuple[str, ...] = ()
    """Metrics in the figure (default: all that were measured)."""
    baseline: tuple[str, Any] | None = None
    """Option and value; every other trial is compared with the trial that has this value."""


PRESETS = {
    "masks": Preset(
        'stage 2 is loosened "to address imperfect masks"',
        ("tcig",),
        {"second.strength": (0.05, 0.2, 0.4, 0.6, 0.8)},
        x="second.strength",
        masks=(TRUE, *IMPERFECTIONS),
        lines=("masks",),
    ),
    "steps": Preset(
        '"fewer diffusion steps" than from pure noise',
        ("tcig", "tcig-no-stage1", "text-only"),
        {"steps": (5, 10, 20, 30, 50)},
        x="evaluations",
    ),
    "loss-weights": Preset(
        "how a_c and a_s of Eq. 2 are to be chosen (asked by a reviewer)",
        ("tcig-stage1", "tcig"),
        {"first.guide_weight": (1, 3, 10, 30, 100)},
        x="first.guide_weight",
    ),
    "init": Preset(
        '"a random start vector gives diverse stage-1 images"',
        ("tcig-stage1", "tcig"),
        {"first.start": ("codes", "grey", "pixels")},
        x="first.start",
        samples=4,
    ),
    "leakage": Preset(
        "IoU that only the guide sees (the paper does not name its judge)",
        ("tcig-stage1", "tcig"),
        {"first.views.count": (0, 2), "first.size": (1, 2), "first.iterations": (0.25, 0.5, 1, 2)},
        x="first.iterations",
        multiples=("first.size", "first.iterations"),
        lines=("first.size", "first.views.count"),
        panels="row",
        metrics=("iou_image", "iou_guide", "leakage"),
        baseline=("first.views.count", 0),
    ),
}


def sweep_preset(sweep: Sweep, name: str, settings: Sequence[str], figure: Path) -> pd.DataFrame:
    """Tests a claim of the paper on the reported layouts, and draws its figure.

    Args:
        sweep: without layouts, the profile's embedded data is used.
        name: a name of `PRESETS`.
        settings: options that all trials of a row share, as ROW.OPTION=VALUE.
        figure: PNG to write.

    Raises:
        InputError: see `run_trials`; the profile's judges do not suit the preset.
    """
    preset, profile = PRESETS[name], load_profile(sweep.profile)
    trials = _list_trials(preset, profile, parse_settings(settings, preset.rows))
    judges = profile.judges if "leakage" in preset.metrics else profile.judges[:1]
    guides = set(judges) & set(GUIDES)
    if "leakage" in preset.metrics and not 0 < len(guides) < len(judges):
        raise InputError(
            f"profile {profile.name}: the judges are {', '.join(judges)}; leakage needs an "
            f"independent judge and one of TCIG's guides ({', '.join(GUIDES)})."
        )
    sweep.out.mkdir(parents=True, exist_ok=True)
    manifest, coco = find_manifest(profile, sweep.layouts, None, sweep.out)
    frame = run_trials(
        sweep,
        trials,
        manifest,
        coco,
        samples=preset.samples,
        judges=judges,
        sort={"by": "row", "key": lambda rows: rows.map(preset.rows.index), "ignore_index": True},
        quality=_load_quality(profile, coco),
    )
    if preset.baseline:
        frame = add_gains(frame, list(preset.options), *preset.baseline, sweep.out)
        write_whole(sweep.table, frame.round(4).to_csv(index=False))
    layouts = (frame["n"] + frame["failed"]).max() // preset.samples
    title = f"{preset.title} ({profile.name}, {layouts} layouts)"
    metrics = [m for m in preset.metrics or METRICS if m in frame and frame[m].notna().any()]
    curves_figure(figure, frame, preset.x, preset.lines, metrics, title, preset.panels)
    return frame


def _list_trials(
    preset: Preset, profile: Profile, settings: dict[str, dict[str, str]]
) -> list[Trial]:
    """Returns the trials of a preset; rows with the same options, which share stage 1, adjoin."""
    stage1 = choose("tcig", profile).options.first
    options = dict(preset.options)
    for name in preset.multiples:
        value = getattr(stage1, name.removeprefix("first.")) or profile.size
        options[name] = [round(factor * value) for factor in options[name]]
    trials = []
    for masks, *values, row in itertools.product(preset.masks, *options.values(), preset.rows):
        varied = dict(zip(options, values, strict=True))
        own = dict(varied)
        if row.startswith("tcig") and "steps" in own:  # the steps of TCIG are those of stage 2
            own["second.steps"] = own.pop("steps")
        trials.append(Trial(row, varied, settings[row] | own, masks))
    return trials


def _load_quality(
    profile: Profile, coco: Path | None
) -> tuple[Networks, Photographs | None] | None:
    """Loads what the quality metrics need, if the profile names a scorer."""
    if not profile.scorer:
        return None
    scorer = ClipEncoder(profile.scorer)
    features = load_features(profile.features, scorer)
    photographs = photograph_features(coco, profile.size, features) if coco else None
    return Networks(scorer, profile.prefix, features), photographs


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
