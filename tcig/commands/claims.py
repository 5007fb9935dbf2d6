"""`tcig claims`: the paper's claims, each put to a test of its own.

    tcig claims masks --out claims       # are imperfect masks forgiven, and at which strength?
    tcig claims steps --limit 12         # does stage 1 save diffusion steps?
    tcig claims weights                  # what do the weights of Eq. 2 do?
    tcig claims starts                   # does a random start give diverse images?

Draws the trials in OUT/runs, scores them by the profile's first judge, against the true masks, and
measures their quality (`tcig quality`) where the profile names a scorer; writes OUT/CLAIM.csv and
OUT/CLAIM.png. A stopped call goes on where it was.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import tyro

from tcig.commands.parsing import parse
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
    masks: tuple[str, ...] = (TRUE,)
    samples: int = 2
    """Of each layout; ours."""
    line: str = "row"
    """The column that tells the figure's lines apart."""


CLAIMS = {
    "masks": Claim(
        'stage 2 is loosened "to address imperfect masks"',
        ("tcig",),
        "second.strength",
        {"second.strength": (0.05, 0.2, 0.4, 0.6, 0.8)},
        masks=(TRUE, *KINDS),
        line="masks",
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
}


@dataclass
class Options:
    """Arguments of `tcig claims`."""

    claim: tyro.conf.Positional[Literal["masks", "steps", "weights", "starts"]]
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
    if options.limit is not None and options.limit < 1:
        raise InputError("--limit counts from 1.")
    import pandas as pd

    from tcig.commands.inputs import manifest_of
    from tcig.data.files import sha256, write_whole
    from tcig.data.layout import hash_order, read_manifest
    from tcig.eval.curves import curves_figure
    from tcig.eval.features import ClipEncoder, load_features, photograph_features
    from tcig.eval.judges import load_judge
    from tcig.eval.measure import Networks
    from tcig.methods.settings import parse_settings
    from tcig.models.weights import locate
    from tcig.profiles import load_profile
    from tcig.run.spec import choose
    from tcig.run.trials import METRICS, Data, Eyes, measure

    profile = load_profile(options.profile)
    runs = options.out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    manifest, coco = manifest_of(profile, options.layouts, None, runs)
    _, layouts = read_manifest(manifest)
    data = Data(coco, sha256(manifest), layouts, hash_order(layouts)[: options.limit])
    shared = parse_settings(options.set, claim.rows)
    trials = list(_trials(claim))
    chosen = [choose(row, profile, shared[row] | _own(row, given)) for row, _, given in trials]
    for source in dict.fromkeys(source for each in chosen for source in each.sources):
        locate(source)
    eyes = Eyes(load_judge(profile.judges[0]))
    if profile.scorer:
        scorer = ClipEncoder(profile.scorer)
        features = load_features(profile.features, scorer)
        photographs = coco and photograph_features(coco, profile.size, features)
        eyes = eyes._replace(
            networks=Networks(scorer, profile.prefix, features), photographs=photographs
        )
    records = []
    for (row, masks, given), each in zip(trials, chosen, strict=True):
        cost = each.kind.cost(each.options, data.drawn)
        record = {"row": row, "masks": masks} | given
        record |= {"evaluations": cost.unet / len(data.drawn)}
        record |= measure(each, profile, data, eyes, runs, masks, claim.samples)
        records.append(record)
        frame = pd.DataFrame(records)
        write_whole(options.out / f"{options.claim}.csv", frame.round(4).to_csv(index=False))
    figure = options.out / f"{options.claim}.png"
    title = f"{claim.said} ({profile.name}, {len(data.drawn)} layouts)"
    shown = [name for name in METRICS if name in frame and frame[name].notna().any()]
    curves_figure(figure, frame, claim.x, claim.line, shown, title)
    print(f"{options.out / options.claim}.csv\n{figure}")
    return 1 if frame["failed"].sum() else 0


def _trials(claim: Claim):
    """Row, masks and settings of each; what shares stage 1 stands together."""
    for row, masks, values in itertools.product(
        claim.rows, claim.masks, itertools.product(*claim.options.values())
    ):
        yield row, masks, dict(zip(claim.options, values, strict=True))


def _own(row: str, given: dict) -> dict:
    """Settings under the row's own names: TCIG's steps are those of stage 2."""
    if row.startswith("tcig") and "steps" in given:
        return {"second.steps": given["steps"]}
    return given
