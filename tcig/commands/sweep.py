"""`tcig sweep`: measures rows under combinations of their options.

    tcig sweep --row tcig-stage1 --vary "first.rate=0.05 0.1 0.2" "first.guide_weight=10 50"
    tcig sweep --row multidiffusion --vary "guidance=2 5 9" --limit 48 --table guidance.csv
    tcig sweep --row si --profile paper --layouts val2014.jsonl --exclude val2017.jsonl \\
        --vary "guidance=5 7.5 10"
    tcig sweep --row tcig --vary "first.size,first.iterations=64,200 96,90"    # together
    tcig sweep --preset masks          # does stage 2 forgive imperfect masks, at which strength?
    tcig sweep --preset steps          # does stage 1 save diffusion steps?
    tcig sweep --preset loss-weights   # what do the weights of Equation 2 do?
    tcig sweep --preset init           # does a random start give diverse images?
    tcig sweep --preset leakage        # how much of TCIG's IoU does its guide alone see?

Every combination is a run in OUT, scored against the true masks by the profile's first judge. The
table is written after each run, and a stopped sweep resumes. With --row, the layouts are the
embedded tuning split, which shares no scene with the reported layouts, and the table is sorted by
iou_image. A preset tests a claim of the paper: it uses the reported layouts, adds quality metrics
where the profile names a scorer, and draws OUT/PRESET.png. `leakage` uses all judges of the
profile: an independent one and a guide of TCIG.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tcig.commands.parsing import assignment, parse
from tcig.data.files import InputError

if TYPE_CHECKING:
    import pandas as pd

    from tcig.profiles import Profile
    from tcig.run.sweep import Quality

TUNING_SCENES = 64
"""Scenes of the embedded tuning split, before the filter."""


@dataclass
class Options:
    """Arguments of `tcig sweep`."""

    row: str | None = None
    """The row, as in `tcig run --methods`."""
    vary: tuple[str, ...] = ()
    """Options with their values, as "OPTION=VALUE VALUE ...", each in quotes. Options that change
    together are joined by commas, and so are their values."""
    preset: Literal["masks", "steps", "loss-weights", "init", "leakage"] | None = None
    """A preset, in place of --row and --vary."""
    set: tuple[str, ...] = ()
    """Options that all runs share, as OPTION=VALUE; with --preset, ROW.OPTION=VALUE."""
    profile: str = "mini"
    """Size, judges and batch: mini, paper, or a TOML file."""
    layouts: Path | None = None
    """Manifest of layouts (default: embedded data)."""
    exclude: Path | None = None
    """Manifest whose layouts are not used, such as the reported ones."""
    limit: int | None = 24
    """Number of layouts, the first in the order of a hash of their ids."""
    out: Path | None = None
    """Folder of the runs (default: runs/sweep; runs/claims with --preset)."""
    table: Path | None = None
    """CSV to write (default: OUT/ROW.csv or OUT/PRESET.csv)."""

    def __post_init__(self):
        if (self.row is None) == (self.preset is None):
            raise InputError("give either --row with --vary, or --preset.")
        if self.preset and self.vary:
            raise InputError("--vary belongs to --row; a preset varies options of its own.")


def main(argv: list[str]) -> int:
    """Runs `tcig sweep`; 1 if a sample failed."""
    options = parse(Options, argv, "sweep", __doc__)
    frame = _sweep_preset(options) if options.preset else _sweep_row(options)
    return 1 if frame["failed"].sum() else 0


def _sweep_row(options: Options) -> "pd.DataFrame":
    """Measures one row on layouts for tuning."""
    from tcig.methods.registry import find_row
    from tcig.profiles import load_profile
    from tcig.run.sweep import Trial, run_trials

    shared = dict(assignment(text) for text in options.set)
    combinations = itertools.product(*(_axis(text) for text in options.vary))
    varied = [dict(itertools.chain(*combination)) for combination in combinations]
    trials = [Trial(options.row, values, shared | values) for values in varied]
    profile = load_profile(options.profile)
    row, _ = find_row(options.row)
    out = options.out or Path("runs/sweep")
    coco, manifest = _tuning_layouts(profile, options.layouts, out)
    data = {"coco": coco, "samples": 1, "limit": options.limit, "exclude": _ids(options.exclude)}
    records = run_trials(
        trials, options.profile, manifest, **data, judges=profile.judges[:1], out=out
    )
    table = options.table or out / f"{row}.csv"
    sort = {"by": "iou_image", "ascending": False}
    frame = _write_each(records, table, ["row", "masks", "evaluations"], sort)
    print(table)
    return frame


def _sweep_preset(options: Options) -> "pd.DataFrame":
    """Tests a claim of the paper on the reported layouts, and draws its figure."""
    from tcig.data.files import write_whole
    from tcig.eval.plots import curves_figure
    from tcig.eval.rows import GUIDES
    from tcig.methods.settings import parse_settings
    from tcig.profiles import load_profile
    from tcig.run.experiment import find_manifest, read_data
    from tcig.run.presets import PRESETS, preset_trials
    from tcig.run.sweep import METRICS, add_gains, run_trials

    preset, profile = PRESETS[options.preset], load_profile(options.profile)
    trials = preset_trials(preset, profile, parse_settings(options.set, preset.rows))
    judges = profile.judges if "leakage" in preset.metrics else profile.judges[:1]
    guides = set(judges) & set(GUIDES)
    if "leakage" in preset.metrics and not 0 < len(guides) < len(judges):
        raise InputError(
            f"profile {profile.name}: the judges are {', '.join(judges)}; leakage needs an "
            f"independent judge and one of TCIG's guides ({', '.join(GUIDES)})."
        )
    out = options.out or Path("runs/claims")
    runs = out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    manifest, coco = find_manifest(profile, options.layouts, None, runs)
    data = {"coco": coco, "limit": options.limit, "exclude": _ids(options.exclude)}
    records = run_trials(
        trials,
        options.profile,
        manifest,
        **data,
        samples=preset.samples,
        judges=judges,
        out=runs,
        quality=_load_quality(profile, coco),
    )
    table, figure = options.table or out / f"{options.preset}.csv", out / f"{options.preset}.png"
    sort = {"by": "row", "key": lambda rows: rows.map(preset.rows.index), "ignore_index": True}
    frame = _write_each(records, table, [], sort)
    if preset.baseline:
        frame = add_gains(frame, list(preset.options), *preset.baseline, runs)
        write_whole(table, frame.round(4).to_csv(index=False))
    count = len(read_data(manifest, None, options.limit, data["exclude"]).drawn)
    title = f"{preset.title} ({profile.name}, {count} layouts)"
    metrics = [m for m in preset.metrics or METRICS if m in frame and frame[m].notna().any()]
    curves_figure(figure, frame, preset.x, preset.lines, metrics, title, preset.panels)
    print(f"{table}\n{figure}")
    return frame


def _write_each(records, table: Path, drop: list[str], sort: dict) -> "pd.DataFrame":
    """Writes the table after each record, and returns it."""
    import pandas as pd

    from tcig.data.files import write_whole

    table.parent.mkdir(parents=True, exist_ok=True)
    done = []
    for record in records:
        done.append(record)
        frame = pd.DataFrame(done).drop(columns=drop).sort_values(**sort, kind="stable")
        write_whole(table, frame.round(4).to_csv(index=False))
    return frame


def _axis(text: str) -> list[list[tuple[str, str]]]:
    """Returns the settings of one `--vary`: for each value, pairs of an option and its value."""
    left, right = assignment(text)
    options, values = left.split(","), right.split()
    if not values:
        raise InputError(f'{text!r}: give "OPTION=VALUE VALUE ...", as in "guidance=5 7.5".')
    if len(options) == 1:
        return [[(left, value)] for value in values]
    for value in values:
        if value.count(",") + 1 != len(options):
            raise InputError(f"{text!r}: {value} is not {len(options)} values, one an option.")
    return [list(zip(options, value.split(","), strict=True)) for value in values]


def _ids(manifest: Path | None) -> set[str]:
    from tcig.data.manifest import read_manifest

    return {layout.id for layout in read_manifest(manifest)[1]} if manifest else set()


def _tuning_layouts(
    profile: "Profile", layouts: Path | None, out: Path
) -> tuple[Path | None, Path]:
    """Returns the COCO folder and the manifest to tune on."""
    from tcig.data.emoji.make import make_split
    from tcig.data.filters import Filter
    from tcig.data.manifest import build_layouts, write_manifest

    if layouts:
        return None, layouts
    if not profile.embedded:
        raise InputError(
            f"the profile {profile.name} embeds no data: give --layouts FILE, and what it must not "
            "share as --exclude FILE."
        )
    out.mkdir(parents=True, exist_ok=True)
    folder, manifest = out / "tuning", out / "tuning.jsonl"
    make_split("tuning", TUNING_SCENES, folder)
    write_manifest(manifest, *build_layouts(folder, Filter()))
    return folder, manifest


def _load_quality(profile: "Profile", coco: Path | None) -> "Quality | None":
    """Loads the networks of the quality metrics, if the profile names a scorer."""
    from tcig.eval.features import ClipEncoder, load_features, photograph_features
    from tcig.eval.measure import Networks
    from tcig.run.sweep import Quality

    if not profile.scorer:
        return None
    scorer = ClipEncoder(profile.scorer)
    features = load_features(profile.features, scorer)
    photographs = photograph_features(coco, profile.size, features) if coco else None
    return Quality(Networks(scorer, profile.prefix, features), photographs)
