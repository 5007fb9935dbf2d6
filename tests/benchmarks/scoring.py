"""10,000 images generated, scored and tabulated; peak memory for 1,000 and 10,000 layouts.

    OMP_NUM_THREADS=1 python tests/benchmarks/scoring.py

The layouts are synthetic ellipses; the method and the judge `none` take no time: the judge reads
labels off the red channel. The judge `miniature` is a network. One thread, as other work goes on
beside the judge.
"""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from timing import peak_mib, print_table, write_layouts

import tcig
from tcig.cli import main as command
from tcig.eval.judges import Judge
from tcig.methods.base import Method

COUNTS, SIDE = (1000, 10_000), 64


class Labels(Judge):
    """A judge that takes no time."""

    identity = "red channel"

    def segment(self, images):
        return [np.asarray(image)[..., 0].copy() for image in images]


class Nothing(Method):
    """A method that takes no time: the layout's labels, shifted, as red, and noise beside them."""

    version = 1

    def generate(self, layouts, seeds, callback=None):
        images = []
        for layout, seed in zip(layouts, seeds, strict=True):
            rng = np.random.default_rng(seed)
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            pixels[..., 0] = np.roll(layout.class_map(SIDE), rng.integers(-4, 5, 2), (0, 1))
            images.append(Image.fromarray(pixels))
        return images


def measure(folder: Path, judge: str) -> dict[str, float]:
    """Seconds of a run, unless it is there, and of its scoring and table; peak MiB after each."""
    manifest, runs, times = folder / "layouts.jsonl", folder / "runs", [time.perf_counter()]
    method = f"{__file__}:Nothing"
    (run,) = tcig.run_experiment([method], layouts=manifest, judges=[], out=runs).folders
    times.append(time.perf_counter())
    figures = {"run, s": times[1] - times[0], "run, peak MiB": peak_mib()}
    tcig.score_folder(run, manifest, [judge])
    times.append(time.perf_counter())
    figures |= {"scoring, s": times[2] - times[1], "scoring, peak MiB": peak_mib()}
    with contextlib.redirect_stdout(io.StringIO()):
        command(["table", str(run)])
    return figures | {"table, s": time.perf_counter() - times[2]}


def main() -> None:
    """Prints the table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for count in COUNTS:
            folder = Path(name) / str(count)
            folder.mkdir()
            write_layouts(folder / "layouts.jsonl", count, SIDE)
            judges = {"none": f"{__file__}:Labels"}
            if count == COUNTS[-1]:
                judges["miniature"] = "miniature"
            for label, judge in judges.items():  # in processes of their own, for the peak memory
                said = subprocess.check_output([sys.executable, __file__, folder, judge])
                rows.append({"layouts": count, "judge": label} | json.loads(said.splitlines()[-1]))
    print_table(rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
    else:
        main()
