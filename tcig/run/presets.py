"""Presets of `tcig sweep`: the paper's claims, each tested by trials of its own."""

import itertools
from typing import Any, NamedTuple

from tcig.data.masks import TRUE
from tcig.profiles import Profile
from tcig.run.spec import choose
from tcig.run.sweep import Trial


class Preset(NamedTuple):
    """What is varied to test a claim, and what its figure shows."""

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
        masks=(TRUE, *KINDS),
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


def preset_trials(
    preset: Preset, profile: Profile, settings: dict[str, dict[str, str]]
) -> list[Trial]:
    """Returns the trials of a preset; rows with the same options, which share stage 1, adjoin.

    Args:
        preset: a preset.
        profile: the profile.
        settings: options that all trials of a row share, by row.
    """
    options = {
        name: [_multiple(name, value, profile) for value in values]
        if name in preset.multiples
        else values
        for name, values in preset.options.items()
    }
    trials = []
    for masks, *values, row in itertools.product(preset.masks, *options.values(), preset.rows):
        varied = dict(zip(options, values, strict=True))
        own = {_own_name(row, name): value for name, value in varied.items()}
        trials.append(Trial(row, varied, settings[row] | own, masks))
    return trials


def _multiple(option: str, factor: float, profile: Profile) -> int:
    """Returns a multiple of an option of stage 1 as the profile sets it for `tcig`."""
    first = choose("tcig", profile).options.first
    value = getattr(first, option.removeprefix("first.")) or profile.size
    return round(factor * value)


def _own_name(row: str, option: str) -> str:
    """Returns a row's own name of an option: the steps of TCIG are those of stage 2."""
    return "second.steps" if option == "steps" and row.startswith("tcig") else option
