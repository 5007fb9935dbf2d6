"""`tcig calibrate`: which definition gives real photographs the published 0.43 ± 0.09.

    tcig calibrate --coco coco --download --out calibration
    tcig calibrate --coco coco --year 2014 --profile paper --out calibration-2014

Scores COCO's own photographs by the profile's judges, under both readings of the filter, with
dropped objects counted and ignored, by every reduction. Mask2Former also sees them at the input
size of its published evaluation, 800 px. Prints the combinations nearest to the published ceiling,
and the readings that leave nearest to 1,000 images. Everything is in OUT/calibration.csv. A stopped
calibration goes on where it was.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tabulate import tabulate

from tcig.commands.parsing import parse

SHOWN = 12
"""Combinations printed; ours."""


@dataclass
class Options:
    """Arguments of `tcig calibrate`."""

    coco: Path
    """COCO's folder."""
    download: bool = False
    """Fetch what it lacks: annotations, and the photographs of the layouts."""
    year: Literal[2014, 2017] = 2017
    """Of the validation set."""
    profile: str = "paper"
    """Sizes and judges."""
    limit: int | None = None
    """The first N layouts in the order of a hash of their ids."""
    out: Path = Path("calibration")
    """Folder for manifests, scores and the table."""


def main(argv: list[str]) -> int:
    """Runs `tcig calibrate`."""
    options = parse(Options, argv, "calibrate", __doc__)
    from tcig.commands import layouts, run, score
    from tcig.data.coco import read_instances
    from tcig.data.files import write_whole
    from tcig.data.filters import Filter, count_table
    from tcig.data.layout import read_manifest
    from tcig.eval.calibrate import NEAREST, calibration, ceiling, nearest_subsets
    from tcig.eval.judges import JUDGES
    from tcig.profiles import load_profile
    from tcig.run.folders import find_runs

    options.out.mkdir(parents=True, exist_ok=True)
    shared = ["--coco", str(options.coco), "--year", str(options.year)]
    manifests = {name: options.out / f"{name}.jsonl" for name in ("masks", "images")}
    for reading, path in manifests.items():
        more = ["--download"] if options.download else []
        layouts.main([*shared, *more, "--reading", reading, "--out", str(path)])
    # The layouts of `images` are among those of `masks`, the same ones: judged once.
    ids = {name: {each.id for each in read_manifest(p)[1]} for name, p in manifests.items()}
    arguments = ["--profile", options.profile, "--methods", "real", "--out", str(options.out)]
    arguments += ["--layouts", str(manifests["masks"]), "--coco", str(options.coco)]
    limit = ["--limit", str(options.limit)] if options.limit else []
    status = run.main(arguments + limit)
    real = find_runs(options.out, manifests["masks"])["real"]
    larger = [f"{judge}-800" for judge in load_profile(options.profile).judges]
    larger = [judge for judge in larger if judge in JUDGES]
    if larger:
        arguments = [str(real), "--layouts", str(manifests["masks"]), *limit]
        score.main([*arguments, "--judge", *larger])
    frame = calibration(real, ids)
    write_whole(options.out / "calibration.csv", frame.to_csv(index=False))
    mean, std = ceiling()
    print(f"\nReal photographs against the published {mean} ± {std} (MultiDiffusion, Table 2):\n")
    shown = frame.head(SHOWN)
    print(tabulate(shown, headers="keys", showindex=False, floatfmt=".3f"))
    landed = int(frame["lands"].sum())
    print(f"\n{landed} of {len(frame)} combinations land on it, rounded to two decimals.")
    print(f"\nReadings of the filter that leave nearest to {NEAREST} images of {options.year}:\n")
    counts = count_table(read_instances(options.coco, options.year), Filter(year=options.year))
    print(tabulate(nearest_subsets(counts), headers="keys"))
    return status
