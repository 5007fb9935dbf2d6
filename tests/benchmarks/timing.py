"""What the benchmarks share: turns, peak memory, synthetic layouts, tables."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import Layout, Region, hash_order
from tcig.data.manifest import Counts, Header, build_layouts, write_manifest
from tcig.data.masks import encode
from tcig.data.voc import CLASSES


def median_seconds(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each way; they take turns, so that the machine's drift affects all of them.

    One more turn comes first and is not counted.
    """
    seconds = {name: [] for name in ways}
    for _ in range(1 + rounds):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def peak_mib() -> int:
    """Peak memory of this process (Linux; getrusage would begin with the parent's)."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 2**10


def embedded_layouts() -> list[Layout]:
    """The layouts of the embedded data, in the order of a run."""
    return hash_order(build_layouts(FOLDER, Filter())[1])


def write_layouts(path: Path, count: int, side: int) -> None:
    """Writes a manifest of synthetic layouts without photographs."""
    counts = Counts(images=count, filtered=count, objects_cut=0, layouts_cut=0, layouts=count)
    header = Header(filter=Filter(), sources=(), counts=counts)
    write_manifest(path, header, [_ellipses(number, side) for number in range(count)])


def _ellipses(number: int, side: int) -> Layout:
    """A layout of two to four ellipses."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] / side
    regions = []
    for place in range(rng.integers(2, 5)):
        centre, radii = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.3, 2)
        mask = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
        label = CLASSES[rng.integers(20)].label
        regions.append(Region(annotation=place, label=label, mask=encode(mask)))
    caption = f"scene {number} with " + " and ".join(f"a {region.label}" for region in regions)
    return Layout(id=str(number), image="", side=side, caption=caption, regions=tuple(regions))


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Prints a Markdown table: three significant digits of a float, all of anything else."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|---" * len(rows[0]) + "|")
    for row in rows:
        cells = [
            f"{value:.{3 if abs(value) < 1000 else 6}g}" if isinstance(value, float) else str(value)
            for value in row.values()
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
