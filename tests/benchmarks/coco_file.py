"""Reads, checks and filters COCO files of val2017's and val2014's size; pycocotools beside it.

    python tests/benchmarks/coco_file.py [--repeats 7]

The files are synthetic, of COCO's counts and of its bytes per annotation. Each reading is a fresh
process, imports aside; the two take turns, so that the machine's drift affects both. Memory is the
whole process's peak. Prints medians as Markdown, and the time of a manifest's masks. Linux only.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from timing import print_table

from tcig.data.voc import CLASSES

SETS = {"val2017": (2017, 5_000, 36_781), "val2014": (2014, 40_504, 291_875)}
"""COCO's own numbers of images and annotations."""
TIME_BOUND, MEMORY_BOUND = 1.5, 2.0
"""Against pycocotools: what reading, checking and filtering may cost."""
PYCOCOTOOLS = """
from pycocotools.coco import COCO
def work(folder, year): COCO(f"{folder}/annotations/instances_val{year}.json")
"""
TCIG = """
from tcig.data.coco import read_instances
from tcig.data.filters import Filter, choose
def work(folder, year): choose(read_instances(folder, year), Filter(year=year))
"""
MANIFEST = """
from tcig.data.filters import Filter
from tcig.data.manifest import build_layouts
def work(folder, year): build_layouts(folder, Filter(year=year))
"""
MEASURE = """
import contextlib, io, json, re, sys, time
from pathlib import Path
started = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()): work(Path(sys.argv[1]), int(sys.argv[2]))
seconds = time.perf_counter() - started
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(json.dumps([seconds, int(peak) / 1024]))
"""


def make_file(folder: Path, year: int, images: int, annotations: int) -> None:
    """Writes instances and captions of a set's size; polygons of 8 to 36 points."""
    rng = random.Random(year)
    names = {c.coco_id: c.label for c in CLASSES} | {n: str(n) for n in range(27, 43)}
    records = []
    for number in range(annotations):
        x, y, radius = rng.uniform(80, 560), rng.uniform(80, 400), rng.uniform(5, 160)
        points = rng.randint(8, 36)
        polygon = [round(rng.gauss(c, radius / 2), 2) for _ in range(points) for c in (x, y)]
        record = {"segmentation": [polygon], "area": round(radius * radius * rng.random(), 4)}
        record |= {"iscrowd": 0, "image_id": rng.randrange(images), "id": number}
        box = [round(value, 2) for value in (x, y, radius, radius)]
        records.append(record | {"bbox": box, "category_id": rng.choice(sorted(names))})
    pictures = []
    for number in range(images):
        name = f"{number:012}.jpg"
        picture = {"license": 4, "file_name": name, "coco_url": f"http://images.example/val/{name}"}
        pictures.append(picture | {"height": 480, "width": 640, "id": number})
    categories = [{"id": number, "name": name} for number, name in names.items()]
    text = "a photograph of several things"
    captions = [{"id": n, "image_id": n % images, "caption": text} for n in range(5 * images)]
    parts = {"instances": {"annotations": records, "categories": categories}}
    parts["captions"] = {"annotations": captions}
    (folder / "annotations").mkdir(exist_ok=True)
    for name, part in parts.items():
        content = json.dumps({"images": pictures} | part)
        (folder / "annotations" / f"{name}_val{year}.json").write_text(content)


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
        for file, (year, images, annotations) in SETS.items():
            folder = Path(name)
            make_file(folder, year, images, annotations)
            size = (folder / "annotations" / f"instances_{file}.json").stat().st_size / 1e6
            programs = (TCIG, PYCOCOTOOLS)
            turns = [[measure(p, folder, year) for p in programs] for _ in range(repeats)]
            row = {"file": file, "MB": round(size)}
            for number, unit in enumerate(("s", "MiB")):
                row[f"tcig {unit}"] = median(ours[number] for ours, _ in turns)
                row[f"pycocotools {unit}"] = median(other[number] for _, other in turns)
                row[f"ratio, {unit}"] = median(
                    ours[number] / other[number] for ours, other in turns
                )
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
