"""`tcig smoke`: every row on two layouts with few steps, against stored ranges.

    tcig smoke --out smoke
    tcig smoke --measure results/mini/smoke.csv     # stores the ranges anew

Rows that have no miniature models (`controlnet`, `gligen`) are left out. Writes the table and a
figure to OUT, and fails where a row leaves its range: `paste` and `empty` must be exact under the
judge `colours`, the other rows within what was measured over threads and instruction sets, and a
margin. `--measure` runs itself under each of these in turn.
"""

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from tcig.commands.parsing import parse
from tcig.data.errors import InputError

LAYOUTS = 2
MARGIN = 0.08
"""Of IoU, beyond the measured ones on both sides; ours."""
EXACT = {"paste": 1.0, "empty": 0.0}
"""Rows whose IoU the judge `colours` gives in closed form."""
MACHINES = (
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2"},
    {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
)
"""Processors to measure over: environments that torch and oneDNN read."""


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
    import pandas as pd

    from tcig.run.experiment import run_experiment

    if options.measure:
        return _measure(options.measure, options.out)
    shipped = files("tcig.results") / "mini" / "smoke.csv"
    try:
        ranges = pd.read_csv(options.ranges or shipped).set_index("row")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{options.ranges or shipped} holds no ranges ({error}).") from None
    rows = _rows()
    missing = sorted(set(rows) - set(ranges.index) - set(EXACT))
    if missing:
        raise InputError(f"no range is stored for {', '.join(missing)}: make them by --measure.")
    with TemporaryDirectory() as work:  # anew each time: a run that is there would be kept
        outcome = run_experiment(rows, "smoke", limit=LAYOUTS, out=Path(work))
        reached = _reached(Path(work), options.out)
    wrong = 0
    for row in rows:
        low, high = (EXACT[row],) * 2 if row in EXACT else ranges.loc[row, ["low", "high"]]
        iou = reached.get(row, math.nan)
        kept = low <= iou <= high
        wrong += not kept
        print(f"{'ok  ' if kept else 'FAIL'} {row:<28} {iou:.3f}  in {low:.3f} .. {high:.3f}")
    return 1 if outcome.failed or wrong else 0


def _rows() -> list[str]:
    """Those of the profile."""
    from tcig.profiles import load_profile

    return list(load_profile("smoke").rows)


def _reached(work: Path, out: Path) -> dict[str, float]:
    """Each row's iou_image of the runs in `work`; writes the table and the figure to `out`."""
    from tcig.data.files import write_whole
    from tcig.data.layout import hash_order, read_manifest
    from tcig.eval.estimates import result_of
    from tcig.eval.grids import systems_figure
    from tcig.eval.table import render
    from tcig.run.folders import find_runs, image_of

    out.mkdir(parents=True, exist_ok=True)
    manifest = work / "layouts-smoke.jsonl"
    runs = find_runs(work, manifest)
    runs = {row: runs[row] for row in _rows() if row in runs}
    result = result_of(list(runs.values()), "none")
    write_whole(out / "table.md", render(result, ["iou_image", "iou_foreground"], "md"))
    layouts = hash_order(read_manifest(manifest)[1])[:LAYOUTS]
    columns = {row: [image_of(run, layout) for layout in layouts] for row, run in runs.items()}
    whole = {row: images for row, images in columns.items() if None not in images}
    systems_figure(out / "systems.png", layouts, whole)
    reached = {}
    for row in result.rows:
        if row.key == (row.row, "colours" if row.row in EXACT else "miniature", "none"):
            reached[row.row] = row.figures["iou_image"].mean
    return reached


def _measure(target: Path, out: Path) -> int:
    """Stores each row's range over `MACHINES`, each in a process of its own."""
    import pandas as pd

    from tcig.data.files import write_whole

    found = []
    for machine in MACHINES:
        print(" ".join(f"{key}={value}" for key, value in machine.items()), flush=True)
        with TemporaryDirectory() as work:
            command = [sys.executable, "-m", "tcig.cli", "run", "--profile", "smoke", "--out", work]
            command += ["--limit", str(LAYOUTS), "--methods", *_rows()]
            if subprocess.run(command, env=os.environ | machine).returncode:
                raise InputError(f"the rows cannot be measured under {machine}: see above.")
            found.append(_reached(Path(work), out))
    frame = pd.DataFrame(found).drop(columns=list(EXACT))
    low, high = (frame.min() - MARGIN).clip(0), (frame.max() + MARGIN).clip(upper=1)
    table = pd.DataFrame({"low": low, "high": high, "spread": frame.max() - frame.min()})
    write_whole(target, table.round(4).to_csv(index_label="row"))
    print(table.round(4).to_string())
    return 0
