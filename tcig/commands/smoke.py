"""`tcig smoke`: generates every row on two layouts with few steps, and checks its IoU.

    tcig smoke --out smoke
    tcig smoke --measure results/mini/smoke.csv     # stores new ranges

Rows without miniature models (`controlnet`, `gligen`) are left out. Writes the table and a figure
to OUT, and fails where a row leaves its range: `paste` and `empty` must be exact under the judge
`colours`, the other rows within a margin of what was measured over threads and instruction sets.
`--measure` measures anew, in one process for each of these.
"""

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from tcig.commands import parse
from tcig.data.files import InputError, write_whole
from tcig.data.layout import hash_order
from tcig.data.manifest import read_manifest

LAYOUTS = 2
MARGIN = 0.08
"""IoU by which a range exceeds the measured values on both sides (our choice)."""
EXACT = {"paste": 1.0, "empty": 0.0}
"""Rows whose IoU under the judge `colours` is known exactly."""
MACHINES = (
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2"},
    {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
)
"""Environments by which torch and oneDNN compute as on other processors."""


@dataclass
class Options:
    """Arguments of `tcig smoke`."""

    out: Path = Path("runs/smoke")
    """Folder for `table.md` and `systems.png`."""
    ranges: Path | None = None
    """CSV of row, low, high (default: the shipped one)."""
    measure: Path | None = None
    """CSV to write instead of checking."""


def main(argv: list[str]) -> int:
    """Runs `tcig smoke`; 1 if a row leaves its range or a sample failed."""
    options = parse(Options, argv, "smoke", __doc__)
    from tcig.profiles import load_profile
    from tcig.run.experiment import run_experiment

    rows = load_profile("smoke").rows
    if options.measure:
        return _measure(rows, options.measure, options.out)
    path = options.ranges or files("tcig.results") / "mini" / "smoke.csv"
    try:
        ranges = pd.read_csv(path).set_index("row")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} holds no ranges ({error}).") from None
    missing = sorted(set(rows) - set(ranges.index) - set(EXACT))
    if missing:
        raise InputError(f"no range is stored for {', '.join(missing)}: make them by --measure.")
    with TemporaryDirectory() as work:  # an earlier run would be kept
        outcome = run_experiment(rows, "smoke", limit=LAYOUTS, out=Path(work))
        reached = _read_iou(outcome.folders, Path(work) / "layouts-smoke.jsonl", options.out)
    wrong = 0
    for row in rows:
        low, high = (EXACT[row],) * 2 if row in EXACT else ranges.loc[row, ["low", "high"]]
        iou = reached.get(row, math.nan)
        inside = low <= iou <= high
        wrong += not inside
        print(f"{'ok  ' if inside else 'FAIL'} {row:<28} {iou:.3f}  in {low:.3f} .. {high:.3f}")
    return 1 if outcome.failed or wrong else 0


def _read_iou(runs: list[Path], manifest: Path, out: Path) -> dict[str, float]:
    """Returns each row's iou_image, and writes the table and the figure to `out`."""
    from tcig.eval.pictures import systems_figure
    from tcig.eval.rows import result_of
    from tcig.eval.table import render
    from tcig.run.generate import image_of

    out.mkdir(parents=True, exist_ok=True)
    result = result_of(runs, "none")
    write_whole(out / "table.md", render(result, ["iou_image", "iou_foreground"], "md"))
    layouts = hash_order(read_manifest(manifest)[1])[:LAYOUTS]
    columns = {run.name.rpartition("-")[0]: [image_of(run, x) for x in layouts] for run in runs}
    complete = {row: images for row, images in columns.items() if None not in images}
    systems_figure(out / "systems.png", layouts, complete)
    return {
        row.row: row.figures["iou_image"].mean
        for row in result.rows
        if row.key == (row.row, "colours" if row.row in EXACT else "miniature", "none")
    }


def _measure(rows: tuple[str, ...], target: Path, out: Path) -> int:
    """Stores each row's range over `MACHINES`, each in a process of its own."""
    reached = []
    for machine in MACHINES:
        print(" ".join(f"{key}={value}" for key, value in machine.items()), flush=True)
        with TemporaryDirectory() as work:
            command = [sys.executable, "-m", "tcig.cli", "run", "--profile", "smoke", "--out", work]
            command += ["--limit", str(LAYOUTS), "--methods", *rows]
            run = subprocess.run(
                command, env=os.environ | machine, stdout=subprocess.PIPE, text=True
            )
            if run.returncode:
                raise InputError(f"the rows cannot be measured under {machine}: see above.")
            runs = [Path(line) for line in run.stdout.splitlines()]
            reached.append(_read_iou(runs, Path(work) / "layouts-smoke.jsonl", out))
    frame = pd.DataFrame(reached).drop(columns=list(EXACT))
    low, high = (frame.min() - MARGIN).clip(0), (frame.max() + MARGIN).clip(upper=1)
    table = pd.DataFrame({"low": low, "high": high, "spread": frame.max() - frame.min()})
    write_whole(target, table.round(4).to_csv(index_label="row"))
    print(table.round(4).to_string())
    return 0
