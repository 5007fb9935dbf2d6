"""Images an hour of one and of two workers of Ray, a thread each.

    python -m pytest tests/benchmarks/bench_engines.py --benchmark-json=FILE

By `tcig run` on few layouts and on many: the difference is drawing alone, as what it takes to start
Ray, to set the row up and to end is in both.
"""

import os
import subprocess
import sys
import time

import pytest

ROW, FEW, MANY = "multidiffusion", 32, 96
"""Batches of 8: four and twelve, which one and two workers share evenly."""
_rates: dict[int, float] = {}


def drawn(out, workers: int, layouts: int) -> float:
    """Seconds of a run."""
    command = [sys.executable, "-W", "ignore", "-m", "tcig.cli", "run", "--no-score"]
    command += ["--methods", ROW, "--limit", str(layouts), "--out", str(out)]
    command += ["--engine", "ray", "--workers", str(workers), "--threads", "1"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ)
    return time.perf_counter() - started


@pytest.mark.benchmark(group="engines")
@pytest.mark.parametrize("workers", [1, 2])
def test_workers(benchmark, tmp_path, workers):
    few = drawn(tmp_path / "few", workers, FEW)
    many = benchmark.pedantic(drawn, args=(tmp_path / "many", workers, MANY), rounds=1)
    _rates[workers] = (MANY - FEW) / (many - few)
    benchmark.extra_info.update(
        {
            "row": ROW,
            "workers": workers,
            f"{FEW} layouts, s": few,
            f"{MANY} layouts, s": many,
            "images an hour": round(3600 * _rates[workers]),
            "of so many times one": f"{_rates[workers] / workers / _rates[1]:.2f}",
        }
    )
