"""Each method's run: speed, the share of it inside networks, FLOP/s, memory.

    OMP_NUM_THREADS=2 python -m pytest tests/benchmarks/bench_methods.py --benchmark-json=FILE

A run is what `tcig run` does once a row is set up: it draws batches, writes images and rows. Timed
against the batch size (as many layouts as one batch has) and the number of layouts.
"""

from functools import cache

import pytest
import torch
from benchmarks.gauge import Inside, forget_peak, least_seconds, peak_mib, products, rates

from tcig.data.build import build_layouts
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import Layout, hash_order
from tcig.data.seeds import seed_of
from tcig.models.kept import release
from tcig.profiles import load_profile
from tcig.run.generate import generate
from tcig.run.spec import prepare
from tcig.run.store import RunStore

SETTINGS = {
    "tcig-stage1": {"first.iterations": "20"},
    "tcig": {"first.iterations": "20"},
    "direct-guidance": {"steps": "10"},
}
"""Where a sample takes long: the time is nearly linear in these."""
SIZES = ((1, 1), (8, 8), (24, 24), (48, 24))
"""Layouts, and how many are drawn at once."""
CASES = [
    *(
        (row, *size)
        for row in ("si", "bld", "multidiffusion", "tcig-stage1", "tcig")
        for size in SIZES
    ),
    *((row, 8, 8) for row in ("text-only", "direct-guidance")),
]


@cache
def layouts(count: int) -> list[Layout]:
    """Of the embedded data, in its order."""
    return hash_order(build_layouts(FOLDER, Filter())[1])[:count]


@cache
def machine(dtype: str) -> dict[str, float]:
    """Its rates."""
    return rates(getattr(torch, dtype))


@cache
def work(row: str, count: int, batch: int) -> dict[str, int]:
    """Operations of the images; their number does not depend on the arithmetic."""
    _, method = prepare(row, load_profile("mini"), FOLDER, "0" * 64, SETTINGS.get(row, {}))
    total = {}
    for first in range(0, count, batch):
        part = layouts(count)[first : first + batch]
        done = products(lambda p=part: method.generate(p, [seed_of(each.id, 0) for each in p]))
        total = {kind: total.get(kind, 0) + number for kind, number in done.items()}
    return total


@pytest.mark.benchmark(group="methods")
@pytest.mark.parametrize("profile", ["mini", "mini-fast"])
@pytest.mark.parametrize(("row", "count", "batch"), CASES)
def test_run(benchmark, tmp_path, row, count, batch, profile):
    release()
    settings = load_profile(profile)
    spec, method = prepare(row, settings, FOLDER, "0" * 64, SETTINGS.get(row, {}))
    method.generate(layouts(1), [0])  # what is made at the first call only
    done = work(row, count, batch)
    shares, own, number = [], [], iter(range(99))

    def run():
        out = tmp_path / str(next(number))
        out.mkdir()
        with RunStore(out, spec, {"limit": count, "samples": 1}, {}) as store, Inside() as inside:
            assert not generate(method, layouts(count), 1, batch, store)
        shares.append(inside.seconds)
        own.append(inside.of_threads)

    forget_peak()
    benchmark.pedantic(run, rounds=3 if count < 24 else 1)
    peak = peak_mib()
    times = benchmark.stats.stats.data
    seconds = benchmark.stats.stats.median
    arithmetic = method.context.compute.arithmetic
    able = machine("bfloat16" if "bfloat16" in arithmetic else "float32")
    benchmark.extra_info.update(
        {
            "row": row,
            "profile": profile,
            "layouts": count,
            "at once": batch,
            "s an image": seconds / count,
            "images an hour": round(3600 * count / seconds),
            "inside networks": f"{sum(shares) / sum(times):.1%}",
            "each lane": f"{sum(own) / sum(times):.1%}",
            "GFLOP an image": sum(done.values()) / count / 1e9,
            "GFLOP/s": sum(done.values()) / seconds / 1e9,
            "of the machine's": f"{least_seconds(done, able) / seconds:.0%}",
            "peak MiB": peak,
        }
    )
