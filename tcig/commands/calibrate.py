"""`tcig calibrate`: finds which definition gives real photographs the published 0.43 ± 0.09.

    tcig calibrate --coco coco --download --out calibration
    tcig calibrate --coco coco --year 2014 --profile paper --out calibration-2014
    tcig calibrate --coco coco --judge path/to/file.py:MyJudge --sliver 0.1

Scores COCO's own photographs by the profile's judges or others, under both readings of the filter,
with and without images of people, with dropped objects counted and ignored, by every reduction.
Mask2Former also sees them at the input size of its published evaluation, 800 px. Prints the
combinations nearest to the published ceiling, and the readings that leave nearest to 1,000 images.
No captions are needed. Everything is in OUT/calibration.csv. A stopped calibration resumes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tabulate import tabulate

from tcig.commands import parse
from tcig.commands.layouts import make_manifest
from tcig.data.coco import read_instances
from tcig.data.download import fetch_annotations
from tcig.data.files import InputError, write_whole
from tcig.data.filters import Filter, count_table
from tcig.data.manifest import build_layouts, read_manifest

PRINTED = 12
"""Number of combinations that are printed (our choice)."""


@dataclass
class Options:
    """Arguments of `tcig calibrate`."""

    coco: Path
    """COCO's folder."""
    download: bool = False
    """Fetch what the folder lacks: annotations, and the photographs of the layouts."""
    year: Literal[2014, 2017] = 2017
    """Year of the validation set."""
    profile: str = "paper"
    """Sizes and judges."""
    judge: tuple[str, ...] = ()
    """Judges by name, or path/to/file.py:Class (default: the profile's)."""
    sliver: float = 0.0
    """Share of its own pixels, 0 to 1: a class of a layout of which less is visible under smaller
    objects is left out; 0 leaves out none."""
    limit: int | None = None
    """Number of layouts, the first in the order of a hash of their ids."""
    out: Path = Path("calibration")
    """Folder for manifests, scores and the table."""


def main(argv: list[str]) -> int:
    """Runs `tcig calibrate`; 1 if a photograph could not be scored."""
    options = parse(Options, argv, "calibrate", __doc__)
    if not 0 <= options.sliver <= 1:
        raise InputError(f"--sliver {options.sliver}: expected a share from 0 to 1.")
    from tcig.eval.calibrate import NEAREST, calibration, ceiling, nearest_subsets
    from tcig.eval.judges import JUDGES
    from tcig.profiles import load_profile
    from tcig.run.experiment import run_experiment

    coco, year, out = options.coco, options.year, options.out
    out.mkdir(parents=True, exist_ok=True)
    if options.download:
        fetch_annotations(coco, year)
    manifest = out / "masks.jsonl"
    make_manifest(coco, Filter(year=year, caption=None), manifest, options.download)
    _, layouts = read_manifest(manifest)
    readings = _readings(coco, year, {layout.id for layout in layouts})
    judges = list(options.judge or load_profile(options.profile).judges)
    if not options.judge:  # also with a larger input, where possible
        judges += [f"{judge}-800" for judge in judges if f"{judge}-800" in JUDGES]
    data = {"coco": coco, "limit": options.limit, "judges": judges, "out": out}
    outcome = run_experiment(["real"], options.profile, manifest, **data)
    if not outcome.folders:
        raise InputError(f"{coco}: no photograph could be scored, see the rows.jsonl in {out}.")
    frame = calibration(outcome.folders[0], readings, layouts, options.sliver)
    write_whole(out / "calibration.csv", frame.to_csv(index=False))
    mean, std = ceiling()
    print(f"\nReal photographs against the published {mean} ± {std} (MultiDiffusion, Table 2):\n")
    print(tabulate(frame.head(PRINTED), headers="keys", showindex=False, floatfmt=".3f"))
    landed = int(frame["lands"].sum())
    print(f"\n{landed} of {len(frame)} combinations land on it, rounded to two decimals.")
    near = frame.loc[frame["mean_distance"].idxmin()]
    print(
        f"The nearest mean alone is {near['mean']:.3f} ± {near['std']:.3f}: reading "
        f"{near['reading']}, judge {near['judge']}, {near['reduction']}, ignore {near['ignore']}."
    )
    print(f"\nReadings of the filter that leave nearest to {NEAREST} images of {year}:\n")
    counts = count_table(read_instances(coco, year), Filter(year=year))
    print(tabulate(nearest_subsets(counts), headers="keys"))
    return 1 if outcome.failed else 0


def _readings(coco: Path, year: int, everything: set[str]) -> dict[str, set[str]]:
    """Returns the ids of the layouts that each reading of the filter leaves.

    They are among those of the first reading, so that all are judged once.
    """
    ids = {"masks": everything}
    for reading, people in (("images", "ignore"), ("masks", "drop"), ("images", "drop")):
        name = reading if people == "ignore" else f"{reading}, people dropped"
        chosen = Filter(year=year, reading=reading, people=people, caption=None)
        try:
            ids[name] = {layout.id for layout in build_layouts(coco, chosen)[1]}
        except InputError:  # the files were read before
            print(f"the reading {name} leaves no layouts", file=sys.stderr)
    return ids
