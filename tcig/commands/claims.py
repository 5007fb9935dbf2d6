"""`tcig claims`: the paper's claims, each put to a test of its own.

    tcig claims masks --out claims       # are imperfect masks forgiven, and at which strength?
    tcig claims steps --limit 12         # does stage 1 save diffusion steps?
    tcig claims weights                  # what do the weights of Eq. 2 do?
    tcig claims starts                   # does a random start give diverse images?
    tcig claims leakage                  # how much of TCIG's IoU does its guide alone see?

Generates the trials in OUT/runs, scores them by the profile's first judge, against the true masks,
and measures their quality (`tcig quality`) where the profile names a scorer. `leakage` takes all
judges of the profile, the first of which must be independent and one a guide of TCIG. Writes
OUT/CLAIM.csv and OUT/CLAIM.png. A stopped call goes on where it was.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

from tcig.commands.parsing import check_counts, parse
from tcig.data.errors import InputError
from tcig.data.imperfect import KINDS, TRUE


class Claim(NamedTuple):
    """What is varied to test one, and what is looked at."""

    said: str
    """By the paper, or asked by its reviewers."""
    rows: tuple[str, ...]
    x: str
    """The column across, an option or `evaluations`."""
    options: dict[str, tuple]
    """Option -> its values; every combination is a trial."""
    multiples: tuple[str, ...] = ()
    """Options whose values are multiples of what `tcig` has in the profile."""
    masks: tuple[str, ...] = (TRUE,)
    samples: int = 2
    """Of each layout; ours."""
    lines: tuple[str, ...] = ("row",)
    """The columns that tell the figure's lines apart."""
    panels: str | None = None
    """The column that tells its rows of panels apart."""
    metrics: tuple[str, ...] = ()
    """Those that it shows; none: all that were measured."""
    baseline: tuple[str, Any] | None = None
    """An option and its value: every other trial is compared with the one that has this value."""


CLAIMS = {
    "masks": Claim(
        'stage 2 is loosened "to address imperfect masks"',
        ("tcig",),
        "second.strength",
        {"second.strength": (0.05, 0.2, 0.4, 0.6, 0.8)},
        masks=(TRUE, *KINDS),
        lines=("masks",),
    ),
    "steps": Claim(
        '"fewer diffusion steps" than from pure noise',
        ("tcig", "tcig-no-stage1", "text-only"),
        "evaluations",
        {"steps": (5, 10, 20, 30, 50)},
    ),
    "weights": Claim(
        "how a_c and a_s of Eq. 2 are to be chosen (asked by a reviewer)",
        ("tcig-stage1", "tcig"),
        "first.guide_weight",
        {"first.guide_weight": (1, 3, 10, 30, 100)},
    ),
    "starts": Claim(
        '"a random start vector gives diverse stage-1 images"',
        ("tcig-stage1", "tcig"),
        "first.start",
        {"first.start": ("codes", "grey", "pixels")},
        samples=4,
    ),
    "leakage": Claim(
        "IoU that only the guide sees (the paper does not name its judge)",
        ("tcig-stage1", "tcig"),
        "first.iterations",
        {
            "first.views.count": (0, 2),
            "first.size": (1, 2),
            "first.iterations": (0.25, 0.5, 1, 2),
        },
        multiples=("first.size", "first.iterations"),
        lines=("first.size", "first.views.count"),
        panels="row",
        metrics=("iou_image", "iou_guide", "leakage"),
        baseline=("first.views.count", 0),
    ),
}


@dataclass
class Options:
    """Arguments of `tcig claims`."""

    claim: tyro.conf.Positional[Literal["masks", "steps", "weights", "starts", "leakage"]]
    """Which."""
    profile: str = "mini"
    """Size, judges and options."""
    layouts: Path | None = None
    """Manifest (default: the embedded data)."""
    limit: int | None = 24
    """The first N layouts in the order of a hash of their ids."""
    out: Path = Path("runs/claims")
    """Folder for runs, table and figure."""
    set: tuple[str, ...] = ()
    """Options of rows that all their trials share, as ROW.OPTION=VALUE."""


def main(argv: list[str]) -> int:
    """Runs `tcig claims`; 1 if a sample failed."""
    options = parse(Options, argv, "claims", __doc__)
    claim = CLAIMS[options.claim]
    check_counts(limit=options.limit)
    import pandas as pd

    from tcig.data.files import write_whole
    from tcig.eval.features import ClipEncoder, load_features, photograph_features
    from tcig.eval.judges import load_judge
    from tcig.eval.measure import Networks
    from tcig.eval.plots import curves_figure
    from tcig.eval.rows import GUIDES
    from tcig.methods.settings import parse_settings
    from tcig.profiles import load_profile
    from tcig.run.experiment import check_rows, manifest_of, read_data
    from tcig.run.spec import choose
    from tcig.run.trials import METRICS, Eyes, compare, measure

    profile = load_profile(options.profile)
    profile.compute.check_named()
    runs = options.out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    manifest, coco = manifest_of(profile, options.layouts, None, runs)
    data = read_data(manifest, coco, options.limit)
    shared = parse_settings(options.set, claim.rows)
    trials = list(_trials(claim, profile))
    chosen = [choose(row, profile, shared[row] | _own(row, given)) for row, _, given in trials]
    check_rows(chosen, data)
    names = profile.judges if "leakage" in claim.metrics else profile.judges[:1]
    judges = [load_judge(name) for name in names]
    guides = [name for name, _ in judges if name in GUIDES]
    if "leakage" in claim.metrics and not 0 < len(guides) < len(judges):
        raise InputError(
            f"profile {profile.name}: the judges are {', '.join(names)}; leakage needs an "
            f"independent judge and one of TCIG's guides ({', '.join(GUIDES)})."
        )
    eyes = Eyes(judges)
    if profile.scorer:
        scorer = ClipEncoder(profile.scorer)
        features = load_features(profile.features, scorer)
        photographs = coco and photograph_features(coco, profile.size, features)
        eyes = eyes._replace(
            networks=Networks(scorer, profile.prefix, features), photographs=photographs
        )
    records, table = [], options.out / f"{options.claim}.csv"
    for (row, masks, given), each in zip(trials, chosen, strict=True):
        cost = each.cost(data.drawn)
        record = {"row": row, "masks": masks} | given
        record |= {"evaluations": cost.unet / len(data.drawn)}
        record |= measure(each, profile, data, eyes, runs, masks, claim.samples)
        records.append(record)
        frame = pd.DataFrame(records).sort_values(
            "row", key=lambda rows: rows.map(claim.rows.index), kind="stable", ignore_index=True
        )
        write_whole(table, frame.round(4).to_csv(index=False))
    if claim.baseline:
        frame = compare(frame, list(claim.options), *claim.baseline, runs)
        write_whole(table, frame.round(4).to_csv(index=False))
    figure = options.out / f"{options.claim}.png"
    title = f"{claim.said} ({profile.name}, {len(data.drawn)} layouts)"
    metrics = claim.metrics or METRICS
    shown = [name for name in metrics if name in frame and frame[name].notna().any()]
    curves_figure(figure, frame, claim.x, claim.lines, shown, title, claim.panels)
    print(f"{table}\n{figure}")
    return 1 if frame["failed"].sum() else 0


def _trials(claim: Claim, profile):
    """Row, masks and settings of each; rows of the same settings, which share stage 1, together."""
    options = {
        name: [_multiple(name, each, profile) for each in values]
        if name in claim.multiples
        else values
        for name, values in claim.options.items()
    }
    for masks, *values, row in itertools.product(claim.masks, *options.values(), claim.rows):
        yield row, masks, dict(zip(options, values, strict=True))


def _multiple(option: str, factor: float, profile) -> int:
    """A multiple of an option of stage 1 as the profile's `tcig` has it."""
    from tcig.run.spec import choose

    first = choose("tcig", profile).options.first
    whole = getattr(first, option.removeprefix("first.")) or profile.size
    return round(factor * whole)


def _own(row: str, given: dict) -> dict:
    """Settings under the row's own names: TCIG's steps are those of stage 2."""
    if row.startswith("tcig") and "steps" in given:
        return {"second.steps": given["steps"]}
    return given
