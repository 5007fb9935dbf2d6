"""Where the slowest rows spend their time: a flame graph, and torch's operators.

    OMP_NUM_THREADS=2 python tests/benchmarks/profiles.py [--rows si tcig-stage1]

Writes ROW.svg, by py-spy, of a process that draws eight embedded layouts three times under `mini`
(stage 1 by 20 iterations), and ROW.md, the operators of one such time by torch's profiler. Where
the system lets a process be watched by its parents alone (Yama's ptrace_scope 1), run it as root.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from timing import embedded_layouts
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from tcig.data.emoji import FOLDER
from tcig.data.files import write_whole
from tcig.profiles import load_profile
from tcig.run.batches import generate_batch
from tcig.run.spec import prepare

LAYOUTS, ROUNDS, SHOWN = 8, 3, 20
"""Layouts of a round; rounds of the flame graph; operators of the table."""
ABOUT = f"""This page shows which of torch's operators take the most time while the row
generates a batch. `python tests/benchmarks/profiles.py` writes it with torch's profiler.

- The batch has {LAYOUTS} embedded layouts. The profile is `mini`.
- Stage 1, where the row has it, takes 20 iterations.
- torch uses one thread, because its profiler sees only its own thread.
- The time of an operator excludes the operators that it calls."""
SETTINGS = {"tcig-stage1": {"first.iterations": "20"}}


def prepared(row: str) -> Callable[[int], None]:
    """A function that draws a round, with other seeds each time: nothing is kept."""
    _, method = prepare(row, load_profile("mini"), FOLDER, "0" * 64, SETTINGS.get(row, {}))
    layouts = embedded_layouts()[:LAYOUTS]

    def drawing(number: int) -> None:
        generate_batch(method, layouts, [1000 * number + n for n in range(LAYOUTS)])

    return drawing


def flame_graph(drawing: Callable[[int], None], path: Path) -> None:
    """Writes it as SVG; the set-up is over by now. py-spy must be allowed to look at a parent."""
    spy = ["py-spy", "record", "--pid", str(os.getpid()), "--function", "--output", path]
    with subprocess.Popen(spy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as watching:
        watching.stdout.readline()
        for number in range(ROUNDS):
            drawing(number)
        watching.send_signal(signal.SIGINT)
        said = watching.stdout.read().decode()
    if watching.returncode:
        sys.exit(f"py-spy wrote no {path}: {said.strip()}")
    graph = path.read_text(encoding="utf-8")
    write_whole(path, re.sub(r"py-spy record [^<]*", path.stem, graph))  # its title


def operators(drawing: Callable[[int], None]) -> str:
    """As a Markdown table."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the profiler sees its own thread alone
    with profile(activities=[ProfilerActivity.CPU]) as found:
        drawing(ROUNDS)
    torch.set_num_threads(threads)
    events = sorted(found.key_averages(), key=lambda each: -each.self_cpu_time_total)
    total = sum(each.self_cpu_time_total for each in events)
    lines = ["| operator | calls | ms an image | share |", "|---|---|---|---|"]
    for each in events[:SHOWN]:
        ms = each.self_cpu_time_total / 1000 / LAYOUTS
        share = each.self_cpu_time_total / total
        lines.append(f"| `{each.key}` | {each.count} | {ms:.1f} | {share:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Writes the files of each row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=["si", "tcig-stage1"])
    parser.add_argument("--out", type=Path, default=Path("results/profiles"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tqdm.monitor_interval = 0  # no thread of its own in the graphs
    for row in options.rows:
        drawing = prepared(row)
        drawing(-1)
        flame_graph(drawing, options.out / f"{row}.svg")
        shown = f"# Operators of `{row}`\n\n{ABOUT}\n\n{operators(drawing)}\n"
        write_whole(options.out / f"{row}.md", shown)


if __name__ == "__main__":
    main()
