"""Reads, checks and filters COCO files of val2017's and val2014's size; pycocotools beside it.

    python tests/benchmarks/coco_file.py [--repeats 7]

The files are synthetic, of COCO's counts and of its bytes per annotation. Each reading is a fresh
process, imports aside; the two take turns, so that the machine's drift affects both. Memory is the
whole process's peak. Prints medians as Markdown, and the time of a manifest's masks. Linux only.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import print_table

from tcig.data.voc import CLASSES

SETS = {"val2017": (2017, 5_000, 36_781), "val2014": (2014, 40_504, 291_875)}
"""COCO's own numbers of images and annotations."""

PYCOCOTOOLS = """
from pycocotools.coco import COCO
def work(folder, year): COCO(f"{folder}/annotations/instances_val{year}.json")
"""
TCIG = """
from pathlib import Path
from tcig.data.filters import choose
from tcig.data.coco import read_instances
from tcig.data.filters import Filter
def work(folder, year): choose(read_instances(Path(folder), year), Filter(year=year))
"""
MEASURE = """
import contextlib, io, json, re, sys, time
started = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()): work(sys.argv[1], int(sys.argv[2]))
seconds = time.perf_counter() - started
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(json.dumps([seconds, int(peak) / 1024]))
"""
MANIFEST = """
from pathlib import Path
from tcig.data.manifest import build_layouts
from tcig.data.filters import Filter
def work(folder, year): build_layouts(Path(folder), Filter(year=year))
"""
TIME_BOUND, MEMORY_BOUND = 1.5, 2.0
"""Against pycocotools: what reading, checking and filtering may cost."""


def make_file(folder: Path, year: int, images: int, annotations: int) -> None:
    """Writes instances and captions of a set's size; polygons of 8 to 36 points."""
    rng = random.Random(year)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    names = {c.coco_id: c.label for c in CLASSES} | {
        number: str(number) for number in range(27, 43)
    }
    ids = sorted(names)
    records = []
    for number in range(annotations):
        points = rng.randint(8, 36)
        x, y, radius = rng.uniform(80, 560), rng.uniform(80, 400), rng.uniform(5, 160)
        polygon = [round(rng.gauss(c, radius / 2), 2) for _ in range(points) for c in (x, y)]
        records.append(
            {
                "segmentation": [polygon],
                "area": round(radius * radius * rng.random(), 4),
                "iscrowd": 0,
                "image_id": rng.randrange(images),
                "bbox": [round(x, 2), round(y, 2), round(radius, 2), round(radius, 2)],
                "category_id": rng.choice(ids),
                "id": number,
            }
        )
    pictures = [
        {
            "license": 4,
            "file_name": f"{number:012}.jpg",
            "coco_url": f"http://images.example/val/{number:012}.jpg",
            "height": 480,
            "width": 640,
            "id": number,
        }
        for number in range(images)
    ]
    categories = [{"id": number, "name": name} for number, name in names.items()]
    instances = {"images": pictures, "annotations": records, "categories": categories}
    captions = [
        {"id": n, "image_id": n % images, "caption": "a photograph of several things"}
        for n in range(5 * images)
    ]
    place = folder / "annotations"
    (place / f"instances_val{year}.json").write_text(json.dumps(instances))
    (place / f"captions_val{year}.json").write_text(
        json.dumps({"images": pictures, "annotations": captions})
    )


def measure(program: str, folder: Path, year: int) -> list[float]:
    """Seconds and peak MiB of a program in a fresh process."""
    command = [sys.executable, "-c", program + MEASURE, str(folder), str(year)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    rows, masks = [], ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, (year, images, annotations) in SETS.items():
            make_file(folder, year, images, annotations)
            size = (folder / "annotations" / f"instances_{file}.json").stat().st_size / 1e6
            turns = [
                (measure(TCIG, folder, year), measure(PYCOCOTOOLS, folder, year))
                for _ in range(repeats)
            ]
            row = {"file": file, "MB": round(size)}
            for number, unit in enumerate(("s", "MiB")):
                row[f"tcig {unit}"] = statistics.median(ours[number] for ours, _ in turns)
                row[f"pycocotools {unit}"] = statistics.median(other[number] for _, other in turns)
                ratios = [ours[number] / other[number] for ours, other in turns]
                row[f"ratio, {unit}"] = statistics.median(ratios)
            rows.append(row)
            if not masks:
                seconds = measure(MANIFEST, folder, year)[0] - row["tcig s"]
                masks = f"Masks, crops and captions of {file}'s layouts, apart: {seconds:.2f} s."
    print_table(rows)
    print(f"\n{masks}")
    if any(row["ratio, s"] > TIME_BOUND or row["ratio, MiB"] > MEMORY_BOUND for row in rows):
        sys.exit(f"over the bounds of {TIME_BOUND} and {MEMORY_BOUND}")


if __name__ == "__main__":
    main()
