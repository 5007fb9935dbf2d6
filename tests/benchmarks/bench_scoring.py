"""10,000 images scored, reduced and tabulated; memory of runs and scorings of 1,000 and 10,000.

    OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_scoring.py --benchmark-json=FILE

The images are synthetic, of 64 px, each with ellipses for a truth. The judge `none` reads labels
off their red channel, so that what is left is everything but judging; `miniature` is a network. One
thread, as tests have: the other core is for what goes on beside the judge.
"""

import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks.gauge import Inside, peak_mib
from benchmarks.synthetic import write_layouts
from PIL import Image

from tcig.cli import main as tcig
from tcig.data.files import sha256
from tcig.data.layout import Layout, read_manifest
from tcig.eval.images import Sizes
from tcig.eval.judges import Judge, Segmentation, load_judge
from tcig.eval.score import score_images
from tcig.methods.base import Context, Method, NoOptions
from tcig.run.generate import generate
from tcig.run.spec import RunSpec
from tcig.run.store import RunStore

COUNTS, SIDE = (1000, 10_000), 64


class Labels(Judge):
    """A judge that takes no time."""

    kind, identity = "built-in", "red channel"

    def segment(self, images):
        return [Segmentation(np.asarray(image)[..., 0].copy()) for image in images]


class Timed(Judge):
    """A judge, and the seconds that it took."""

    kind = "built-in"

    def __init__(self, judge):
        self.judge, self.identity, self.seconds = judge, judge.identity, 0.0

    def segment(self, images):
        started = time.perf_counter()
        found = self.judge.segment(images)
        self.seconds += time.perf_counter() - started
        return found


class Nothing(Method):
    """A method that takes no time: noise around the truth, shifted."""

    version = 1

    def generate(self, layouts, seeds, callback=None):
        return [make_image(layout, seed) for layout, seed in zip(layouts, seeds, strict=True)]


def make_image(layout: Layout, seed: int) -> Image.Image:
    """The layout's labels, shifted, as red; noise as green and blue."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    pixels[..., 0] = np.roll(layout.class_map(SIDE), rng.integers(-4, 5, 2), (0, 1))
    return Image.fromarray(pixels)


def draw_and_score(folder: Path, manifest: Path) -> dict[str, float]:
    """Seconds of a run and of its scoring by `none`, and the process's peak MiB after each."""
    _, layouts = read_manifest(manifest)
    method = Nothing(Context(SIDE), NoOptions())
    spec = RunSpec(
        method="nothing",
        version=1,
        code=None,
        options={},
        profile="none",
        size=SIDE,
        arithmetic="none",
        weights={},
        manifest=sha256(manifest),
    )
    found = {}
    started = time.perf_counter()
    with RunStore(folder, spec, {"limit": None, "samples": 1}, {}) as store:
        generate(method, layouts, 1, 16, store)
    found["run, s"] = time.perf_counter() - started
    found["run, peak MiB"] = peak_mib()
    started = time.perf_counter()
    score_images(store.folder, layouts, spec.manifest, ("none", Labels()), Sizes(SIDE, SIDE))
    found["scoring, s"] = time.perf_counter() - started
    found["scoring, peak MiB"] = peak_mib()
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of manifests, by their number of layouts."""
    found = {}
    for count in COUNTS:
        found[count] = tmp_path_factory.mktemp(f"scored-{count}")
        write_layouts(found[count] / "layouts.jsonl", count, SIDE)
    return found


@pytest.mark.benchmark(group="memory")
@pytest.mark.parametrize("count", COUNTS)
def test_memory(benchmark, folders, count):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.bench_scoring", folders[count]]
    given = {"args": (command,), "kwargs": {"cwd": Path(__file__).parents[1]}}
    said = benchmark.pedantic(subprocess.check_output, **given, rounds=1)
    benchmark.extra_info.update({"layouts": count} | json.loads(said))


@pytest.mark.benchmark(group="scoring")
@pytest.mark.parametrize("judge", ["none", "miniature"])
def test_scoring(benchmark, folders, tmp_path, judge):
    place = folders[COUNTS[-1]]
    _, layouts = read_manifest(place / "layouts.jsonl")
    (images,) = place.glob("nothing-*")
    (images / "scores").rename(tmp_path / "scores")  # rather than removed: ext4 avoids new holes
    timed = Timed(Labels() if judge == "none" else load_judge(judge)[1])
    given = images, layouts, sha256(place / "layouts.jsonl"), (judge, timed), Sizes(SIDE, SIDE)
    with Inside() as inside:
        benchmark.pedantic(score_images, args=given, rounds=1)
    seconds = benchmark.stats.stats.median
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        tcig(["table", str(images)])
    table = time.perf_counter() - started
    benchmark.extra_info.update(
        {
            "judge": judge,
            "images": len(layouts),
            "scoring, s": seconds,
            "judge, s": timed.seconds,
            "table, s": table,
            "scoring and table, judge aside, s": seconds - timed.seconds + table,
            "scoring inside the network": f"{inside.seconds / seconds:.1%}",
        }
    )


if __name__ == "__main__":
    print(json.dumps(draw_and_score(Path(sys.argv[1]), Path(sys.argv[1]) / "layouts.jsonl")))
