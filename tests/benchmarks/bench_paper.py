"""The share of time inside networks of the paper's size, with random weights and two steps.

    tcig rehearse --profile paper-small --methods si multidiffusion tcig --keep
    REHEARSAL=rehearsal OMP_NUM_THREADS=2 python -m pytest tests/benchmarks/bench_paper.py \
        --benchmark-json=FILE
"""

import os
import time
from pathlib import Path

import pytest
from benchmarks.gauge import Inside, forget_peak, peak_mib

from tcig.data.build import build_layouts
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.models.fetch import present
from tcig.models.kept import release
from tcig.profiles import load_profile
from tcig.run.spec import choose, set_up

FEW = {
    "si": {"steps": "2"},
    "multidiffusion": {"steps": "2"},
    "tcig-stage1": {"first.iterations": "2"},
}
PROFILE, LAYOUTS = "paper-small", 2


@pytest.mark.benchmark(group="paper-small, random weights")
@pytest.mark.parametrize("row", FEW)
def test_steps(benchmark, monkeypatch, row):
    weights = Path(os.environ.get("REHEARSAL", "rehearsal")) / "weights"
    monkeypatch.setenv("TCIG_WEIGHTS", str(weights.resolve()))
    release()
    profile = load_profile(PROFILE)
    chosen = choose(row, profile, FEW[row])
    if not all(map(present, chosen.sources)):
        pytest.skip("needs the weights of a rehearsal, see above")
    _, method = set_up(chosen, profile, FOLDER, "0" * 64)
    layouts = hash_order(build_layouts(FOLDER, Filter())[1])[:LAYOUTS]
    forget_peak()
    with Inside() as inside:
        started = time.perf_counter()
        benchmark.pedantic(method.generate, args=(layouts, range(LAYOUTS)), rounds=1)
        seconds = time.perf_counter() - started
    benchmark.extra_info.update(
        {
            "row": row,
            "s an image": seconds / LAYOUTS,
            "inside networks": f"{inside.seconds / seconds:.1%}",
            "peak MiB": peak_mib(),
        }
    )
