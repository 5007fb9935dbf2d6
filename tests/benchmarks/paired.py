"""Images per hour of rows in two checkouts or under two profiles, in turns.

    python tests/benchmarks/paired.py --base OTHER/.venv/bin/python --rows si bld multidiffusion
    python tests/benchmarks/paired.py --profiles mini mini-fast --rows tcig-stage1 --rounds 5

Each way is a process of its own, which waits while another has its turn, so that the machine's
drift hits all; a turn before the first is not counted. OMP_NUM_THREADS holds for each. Prints the
medians, and the median of the ratios of the turns, as Markdown.
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import NamedTuple

WORKER = """
import json, sys, time, torch
from tcig.data.build import build_layouts
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.profiles import load_profile
from tcig.run.spec import prepare
try:
    from tcig.run.calls import call  # of a checkout that has lanes
except ImportError:
    call = lambda method, *batch: method.generate(*batch)
row, profile, count = sys.argv[1], load_profile(sys.argv[2]), int(sys.argv[3])
layouts = hash_order(build_layouts(FOLDER, Filter())[1])[:count]
_, method = prepare(row, profile, FOLDER, "0" * 64, json.loads(sys.argv[4]))
print("ready", flush=True)
for turn, _ in enumerate(sys.stdin):
    started = time.perf_counter()
    seeds = [1000 * turn + n for n in range(count)]  # others each time: nothing is kept
    for first in range(0, count, profile.batch):
        part = slice(first, first + profile.batch)
        call(method, layouts[part], seeds[part])
    print(json.dumps(time.perf_counter() - started), flush=True)
"""


class Way(NamedTuple):
    """An installation and a profile."""

    name: str
    python: str
    profile: str


def start(way: Way, row: str, layouts: int, settings: dict[str, str]) -> subprocess.Popen:
    """A process that draws the row whenever it is told to."""
    arguments = [row, way.profile, str(layouts), json.dumps(settings)]
    command = [way.python, "-P", "-W", "ignore", "-c", WORKER, *arguments]  # its own tcig alone
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes)
    if process.stdout.readline() != "ready\n":
        sys.exit(f"{way.name}: {row} cannot be set up")
    return process


def turn(process: subprocess.Popen) -> float:
    """Seconds of one turn."""
    process.stdin.write("go\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", help="python of another checkout's environment")
    parser.add_argument("--profiles", nargs="+", default=["mini"])
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--set", nargs="*", default=[], help="OPTION=VALUE, of all rows")
    parser.add_argument("--layouts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ways = [Way(f"{profile}, here", sys.executable, profile) for profile in options.profiles]
    if options.base:
        ways.insert(0, Way(f"{options.profiles[0]}, base", options.base, options.profiles[0]))
    settings = dict(each.split("=", 1) for each in options.set)
    print("| row | way | s an image | images an hour | times the first |\n|---|---|---|---|---|")
    for row in options.rows:
        processes = [start(way, row, options.layouts, settings) for way in ways]
        rounds = [[turn(process) for process in processes] for _ in range(1 + options.rounds)][1:]
        for process in processes:
            process.stdin.close()
            process.wait()
        for place, way in enumerate(ways):
            seconds = statistics.median(taken[place] for taken in rounds) / options.layouts
            ratio = statistics.median(taken[0] / taken[place] for taken in rounds)
            print(
                f"| {row} | {way.name} | {seconds:.3f} | {3600 / seconds:.0f} | {ratio:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
