"""Images an hour of rows by `tcig run`, under profiles, batch sizes, workers or checkouts in turns.

    python tests/benchmarks/rows.py --rows si tcig-stage1 --set si.steps=20 --batches 1 8 24
    python tests/benchmarks/rows.py --rows si bld --profiles mini mini-fast --rounds 2
    python tests/benchmarks/rows.py --rows si --pythons python OTHER/.venv/bin/python
    OMP_NUM_THREADS=1 python tests/benchmarks/rows.py --rows multidiffusion --workers 1 2
    TCIG_WEIGHTS=rehearsal/weights python tests/benchmarks/rows.py --rows si --set si.steps=2 \
        --profiles paper-small --few 2 --many 4

Each measurement runs a few layouts and many: their difference is generation alone, as both have the
start and the set-up of the row. Workers are Ray's, with one thread each. The last example needs the
weights of `tcig rehearse --profile paper-small --methods si --keep`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median

from timing import print_table


def run(python: str, row: str, layouts: int, options: list[str]) -> tuple[float, int]:
    """Wall time of a run in seconds, and its peak memory in MiB."""
    with tempfile.TemporaryDirectory() as out:
        command = [python, "-P", "-W", "ignore", "-m", "tcig.cli", "run", "--no-score"]
        command += ["--methods", row, "--limit", str(layouts), "--out", out, *options]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        (records,) = Path(out).glob("*/rows.jsonl")
        lines = records.read_text(encoding="utf-8").splitlines()
        return seconds, max(json.loads(line)["peak_mib"] or 0 for line in lines)


def options_of(folder: str, profile: str, batch: int | None, workers: int | None) -> list[str]:
    """The options of `tcig run`; a batch size is in a profile of its own."""
    options = ["--engine", "ray", "--workers", str(workers), "--threads", "1"] if workers else []
    if batch:
        path = Path(folder) / f"{profile}-{batch}.toml"
        path.write_text(f'base = "{profile}"\nbatch = {batch}\n', encoding="utf-8")
        profile = str(path)
    return ["--profile", profile, *options]


def main() -> None:
    """Prints a table for each row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--pythons", nargs="+", default=[sys.executable])
    parser.add_argument("--profiles", nargs="+", default=["mini"])
    parser.add_argument("--batches", nargs="+", type=int, default=[None], help="the profile's")
    parser.add_argument("--workers", nargs="+", type=int, default=[None], help="without Ray")
    parser.add_argument("--set", nargs="*", default=[], help="options of rows, as ROW.NAME=X")
    parser.add_argument("--few", type=int, default=24)
    parser.add_argument("--many", type=int, default=72)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    names = ("python", "profile", "batch", "workers")
    ways = product(arguments.pythons, arguments.profiles, arguments.batches, arguments.workers)
    with tempfile.TemporaryDirectory() as folder:
        options = {way: options_of(folder, *way[1:]) for way in ways}
        for row in arguments.rows:
            seconds, peaks = {way: [] for way in options}, {}
            own = [setting for setting in arguments.set if setting.startswith(f"{row}.")]
            own = ["--set", *own] if own else []
            for _, way in product(range(arguments.rounds), options):
                few, _ = run(way[0], row, arguments.few, options[way] + own)
                many, peaks[way] = run(way[0], row, arguments.many, options[way] + own)
                seconds[way].append((many - few) / (arguments.many - arguments.few))
            first = median(next(iter(seconds.values())))
            table = []
            for way, values in seconds.items():
                rate = {
                    "s an image": median(values),
                    "images an hour": round(3600 / median(values)),
                }
                rate |= {"times the first": first / median(values), "peak MiB": peaks[way]}
                cells = (value or "" for value in way)
                table.append({"row": row} | dict(zip(names, cells, strict=True)) | rate)
            print_table(table)


if __name__ == "__main__":
    main()
