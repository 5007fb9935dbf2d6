"""The full table on 1 to 1,000 workers, simulated from measured times of samples.

    python tests/benchmarks/simulate_scale.py RUN... [--out results/scale.md]

RUN are folders of runs of `si`, `bld`, `multidiffusion` and `tcig`: their rows' seconds, layout by
layout, are drawn from again, as they are (miniatures, a core) and enlarged to the means that
results/paper.md estimates for a GPU. Workers are as `tcig.run.spread` keeps them: a queue over all
rows, the next batch to whoever is free, set-up when a worker changes rows; or as shards, each with
every n-th batch of each row. All that is assumed stands in the constants. Writes the page.
"""

import argparse
import heapq
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tcig.data.files import write_whole
from tcig.data.runs import read_run, run_rows

LAYOUTS, WORKERS = 1000, (1, 3, 10, 30, 100, 300, 1000)
"""The paper scores 1K images."""
BATCHES = 8, 1
COMMIT = 0.9e-3
"""Seconds that the one writer takes for a sample: measured, results/benchmarks.md."""
IMAGE = 0.45e6
"""Bytes of an image of 512 px (results/paper.md)."""
NODE = 8
"""Workers of a machine, which reads weights once."""


class World(NamedTuple):
    """Where samples are drawn."""

    name: str
    means: dict[str, float] | None
    """Seconds an image, to which the measured ones are enlarged; None: as measured."""
    setup: float
    """Seconds that a row's set-up takes beside the reading of its weights."""
    weights: float
    """Bytes of a row's weights that every machine reads."""
    storage: float
    """Bytes a second that all machines together read."""

    def reading(self, workers: int) -> float:
        """Seconds until a row is set up, where so many do it at once."""
        return self.setup + self.weights * -(-workers // NODE) / self.storage


WORLDS = (
    World("the miniature suite, a core each", None, 7.0, 40e6, 1e9),
    World(
        "`paper` on GPUs, estimated",
        {"si": 3.2, "bld": 2.6, "multidiffusion": 2.2, "tcig": 45.0},
        20.0,
        4e9,
        2e9,
    ),
)
"""Set-up, weights and disks are guessed."""


class Outcome(NamedTuple):
    """Of one simulation, seconds."""

    makespan: float
    busy: float
    """Share of all workers' time that draws."""
    tail: float
    """From when the first worker has nothing left to do to the end."""
    writer: float
    """Share of the makespan in which the one writer commits."""


def batches_of(times: Sequence[float], size: int, rng: random.Random) -> list[float]:
    """Seconds of each batch of a row."""
    drawn = [rng.choice(times) for _ in range(LAYOUTS)]
    return [sum(drawn[first : first + size]) for first in range(0, LAYOUTS, size)]


def queued(rows: Sequence[Sequence[float]], workers: int, world: World) -> Outcome:
    """One queue over all rows, as Ray's workers have it."""
    tasks = [(row, seconds) for row, batches in enumerate(rows) for seconds in batches]
    reading = world.reading(min(workers, len(tasks)))
    free = [(0.0, n, -1) for n in range(workers)]
    ends = [0.0] * workers
    for row, seconds in tasks:
        at, worker, loaded = heapq.heappop(free)
        ends[worker] = at + seconds + (reading if row != loaded else 0)
        heapq.heappush(free, (ends[worker], worker, row))
    return outcome(ends, rows)


def sharded(rows: Sequence[Sequence[float]], workers: int, world: World) -> Outcome:
    """Every n-th batch of each row to each."""
    ends = [0.0] * workers
    for batches in rows:
        reading = world.reading(min(workers, len(batches)))
        for worker in range(workers):
            own = batches[worker::workers]
            ends[worker] += sum(own) + (reading if own else 0)
    return outcome(ends, rows)


def outcome(ends: Sequence[float], rows: Sequence[Sequence[float]]) -> Outcome:
    """Of workers that end at these seconds."""
    committing = COMMIT * LAYOUTS * len(rows)
    makespan = max(*ends, committing)
    drawing = sum(map(sum, rows))
    tail = makespan - min(ends)
    return Outcome(makespan, drawing / makespan / len(ends), tail, committing / makespan)


def lasting(seconds: float) -> str:
    """In the unit that reads best."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def table(world: World, measured: dict[str, list[float]]) -> list[str]:
    """The lines of a world's table."""
    lines = [
        f"\n## {world.name[0].upper() + world.name[1:]}\n",
        "| workers | batch | Ray: makespan | drawing | tail | writer | images, MB/s "
        "| slowest row first | shards: makespan |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for size in BATCHES:
        for workers in WORKERS:
            rng = random.Random(size)
            rows = []
            for row, times in measured.items():
                mean = sum(times) / len(times)
                factor = world.means[row] / mean if world.means else 1
                rows.append([factor * each for each in batches_of(times, size, rng)])
            ray, shards = queued(rows, workers, world), sharded(rows, workers, world)
            first = queued(sorted(rows, key=sum, reverse=True), workers, world)
            rate = IMAGE * LAYOUTS * len(rows) / ray.makespan / 1e6
            lines.append(
                f"| {workers} | {size} | {lasting(ray.makespan)} | {ray.busy:.0%} | "
                f"{lasting(ray.tail)} | {ray.writer:.1%} | {rate:.1f} | "
                f"{lasting(first.makespan)} | {lasting(shards.makespan)} |"
            )
    return lines


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/scale.md"))
    options = parser.parse_args()
    measured = {
        read_run(run).spec.method: [row["seconds"] for row in run_rows(run) if not row["error"]]
        for run in options.runs
    }
    print(json.dumps({row: round(sum(t) / len(t), 2) for row, t in measured.items()}))
    lines = [line for world in WORLDS for line in table(world, measured)]
    text = options.out.read_text(encoding="utf-8")
    start, end = "<!-- simulated -->", "<!-- end -->"
    head, rest = text.split(start)
    tail = rest.split(end)[1]
    write_whole(options.out, "\n".join([head + start, *lines, "", end]) + tail)


if __name__ == "__main__":
    main()
