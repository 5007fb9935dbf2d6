"""Every reader, on malformed inputs: one sentence and status 2, or 1 where samples fail.

`pytest tests/fuzz --fuzz 20000 --fuzz-seed 7` tries more of them.
"""

import contextlib
import io
import json
import random
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from hostile import VALUES, bent_json, damaged
from PIL import Image

from tcig import cli
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts, write_manifest

SECONDS = 20
"""After which an input counts as one that hangs."""
MEMORY = 6 * 2**30
"""Bytes of address space beyond those in use."""
STATUSES: set[int] = set()
"""Exit statuses of the commands of one test."""
PROFILE = """
size = 32
score_size = 32
judges = ["colours"]
batch = 2
[compute]
on = "cpu"
[methods.text-only]
weights = "mini:stable-diffusion"
steps = 2
guidance = 2.5
"""
METHOD = """
from dataclasses import dataclass
from PIL import Image
from tcig.methods.base import Method
{before}
@dataclass(frozen=True)
class Settings:
    width: {annotation} = {default}
class Mine(Method):
    Options = {options}
    version = {version}
    weights = {weights}
    def __init__(self, context, options):
        {set_up}
    @classmethod
    def sources(cls, options):
        return {sources}
    def generate(self, layouts, seeds, callback=None):
        return {images}
"""
GOOD = {
    "before": "",
    "annotation": "int",
    "default": "1",
    "options": "Settings",
    "version": "1",
    "weights": "{'net': 'x'}",
    "set_up": "super().__init__(context, options)",
    "sources": "()",
    "images": "[Image.new('RGB', (self.context.size,) * 2) for _ in layouts]",
}
PYTHON = (
    "None",
    "1 / 0",
    "exit(0)",
    "[1]",
    "{'a': 1}",
    "float('nan')",
    "'x'",
    "object()",
    "10 ** 5000",
    "[].pop()",
    "(yield)",
    "lambda: 0",
    "__import__('os')._exit(0)",
    "print",
    "open('/nowhere')",
    "b'\\xff'",
    "{None}",
    "Image.new('RGB', (1, 1))",
    "[Image.new('RGBA', (32, 32))]",
    ")",
)


@contextlib.contextmanager
def bounded():
    """A limit on memory and on time."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)

    def late(*_):
        raise AssertionError(f"no answer after {SECONDS} s")

    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def run(*arguments) -> int:
    """A command's status, after a look at what it said."""
    out, err = io.StringIO(), io.StringIO()
    with bounded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(each) for each in arguments])
        except SystemExit as error:  # tyro's, of an argument that it cannot parse
            status = error.code
    said = err.getvalue()
    assert status in (0, 1, 2), (status, said)
    STATUSES.add(status)
    assert "Traceback" not in said + out.getvalue(), said
    if status == 2:
        lines = [line for line in said.splitlines() if line.startswith("tcig: error: ")]
        assert len(lines) == 1, said
        assert 20 < len(lines[0]) < 2000, said
    return status


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """One of each input, as it should be."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "p.toml").write_text(PROFILE)
    header, layouts = build_layouts(FOLDER, Filter())
    header = header.model_copy(update={"counts": header.counts.model_copy(update={"layouts": 2})})
    write_manifest(folder / "m.jsonl", header, hash_order(layouts)[:2])
    arguments = ["--profile", folder / "p.toml", "--layouts", folder / "m.jsonl", "--coco", FOLDER]
    assert run("run", *arguments, "--methods", "paste", "real", "--out", folder / "runs") == 0
    with contextlib.redirect_stdout(io.StringIO()) as result:
        assert cli.main(["table", str(folder / "runs"), "--format", "json"]) == 0
    (folder / "result.json").write_text(result.getvalue())
    instances = json.loads((FOLDER / "annotations" / "instances_val2017.json").read_text())
    ids = {image["id"] for image in instances["images"][:3]}
    instances["images"] = instances["images"][:3]
    instances["annotations"] = [a for a in instances["annotations"] if a["image_id"] in ids]
    captions = json.loads((FOLDER / "annotations" / "captions_val2017.json").read_text())
    captions["images"] = instances["images"]
    captions["annotations"] = [a for a in captions["annotations"] if a["image_id"] in ids]
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "captions.json").write_text(json.dumps(captions))
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[4:20, 4:20] = (255, 0, 0)
    Image.fromarray(pixels).save(folder / "mask.png")
    return folder


def annotations(good, place, rng):
    """`tcig layouts`, of COCO's files."""
    (place / "annotations").mkdir(parents=True)
    broken = rng.choice(["instances", "captions"])
    for kind in ("instances", "captions"):
        content = (good / f"{kind}.json").read_bytes()
        if kind == broken:
            content = bent_json(json.loads(content), rng)
        (place / "annotations" / f"{kind}_val2017.json").write_bytes(content)
    more = rng.choice([["--count"], ["--out", place / "m.jsonl"], ["--area-from", "pixels"]])
    run("layouts", "--coco", place, *more, *(["--out", place / "n"] if "pixels" in more else []))


def manifests(good, place, rng):
    """`tcig layouts --export`, of a manifest."""
    lines = (good / "m.jsonl").read_bytes().splitlines()
    number = rng.randrange(len(lines))
    lines[number] = bent_json(json.loads(lines[number]), rng)
    (place / "m.jsonl").write_bytes(b"\n".join(lines))
    run("layouts", "--export", place / "e", "--layouts", place / "m.jsonl")


def records(good, place, rng):
    """`tcig table` and `tcig score`, of a run's folder."""
    (run_folder,) = good.glob(f"runs/{rng.choice(['paste', 'real'])}-*")
    folder = shutil.copytree(run_folder, place / "run")
    path = folder / rng.choice(
        ["run.json", "rows.jsonl", "scores/colours/score.json", "scores/colours/rows.jsonl"]
    )
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    number = rng.randrange(len(lines))
    lines[number] = bent_json(json.loads(lines[number]), rng)
    path.write_bytes(b"\n".join(lines) + b"\n")
    run("table", folder)
    run("score", folder, "--layouts", good / "m.jsonl", "--profile", good / "p.toml")
    if path.name != "run.json":  # what did not fit was computed again
        assert run("table", folder) == 0


def results(good, place, rng):
    """`tcig compare`, of a result."""
    content = bent_json(json.loads((good / "result.json").read_bytes()), rng)
    (place / "r.json").write_bytes(content)
    run("compare", good / "result.json", place / "r.json")


def profiles(good, place, rng):
    """`tcig run --check`, of a profile."""
    lines = PROFILE.strip().splitlines()
    if rng.random() < 0.7:
        keys = [
            "size",
            "base",
            "judges",
            "batch",
            "compute",
            "compute.on",
            "methods.text-only.steps",
        ]
        value = rng.choice(VALUES)
        with contextlib.suppress(ValueError, OverflowError):
            lines.insert(0, f"{rng.choice(keys)} = {json.dumps(value)}")
        content = "\n".join(lines).encode(errors="surrogatepass")
    else:
        content = damaged(PROFILE.encode(), rng)
    (place / "p.toml").write_bytes(content)
    run("run", "--check", "--profile", place / "p.toml", "--methods", "text-only")


def masks(good, place, rng):
    """`tcig draw`, of a picture or of JSON."""
    if rng.random() < 0.5:
        mask = place / rng.choice(["mask.png", "cat.png", "dog-2.png"])
        mask.write_bytes(damaged((good / "mask.png").read_bytes(), rng))
    else:
        polygon = [[2, 2, 20, 2, 20, 20, 2, 20]]
        record = {"label": "cat", "size": [32, 32], "segmentation": polygon}
        image = {"id": 1, "width": 32, "height": 32}
        annotation = {"category_id": 17, "image_id": 1, "segmentation": polygon}
        coco = {"images": [image], "annotations": [annotation]}
        mask = place / "mask.json"
        mask.write_bytes(bent_json(rng.choice([[record], record, coco]), rng))
    draw(good, place, mask)


def draw(good, place, mask, *more):
    arguments = ["--profile", good / "p.toml", "--prompt", "x", "--mask", mask, *more]
    run("draw", *arguments, "--method", "empty", "--out", place / "o.png")


def legends(good, place, rng):
    """`tcig draw --legend`."""
    colours = ["#ff0000", "red", "300,0,0", "1,2", "-1,0,0", "hsl(0,1%,1%)"]
    parts = [*colours, "", "=", "cat", "dög", "\x00"]
    legend = rng.choice(["", "="]).join(rng.choices(parts, k=rng.randint(1, 3))) or "="
    draw(good, place, good / "mask.png", "--legend", legend)


def methods(good, place, rng):
    """`tcig run`, of a method from a file."""
    parts = GOOD | {rng.choice(list(GOOD)): rng.choice(PYTHON)}
    text = METHOD.format(**parts).encode()
    (place / "mine.py").write_bytes(text if rng.random() < 0.9 else damaged(text, rng))
    arguments = ["--profile", good / "p.toml", "--layouts", good / "m.jsonl", "--no-score"]
    run("run", "--methods", f"{place / 'mine.py'}:Mine", *arguments, "--out", place / "runs")


def label_maps(good, place, rng):
    """`tcig score --label-maps`."""
    (folder,) = good.glob("runs/paste-*")
    maps = shutil.copytree(folder / "scores" / "colours" / "labels", place / "maps")
    path = rng.choice(sorted(maps.iterdir()))
    if rng.random() < 0.5:
        path.write_bytes(damaged(path.read_bytes(), rng))
    else:
        shape = rng.choice([(32, 32), (16, 16), (32, 16), (32, 32, 3)])
        pixels = np.full(shape, rng.choice([0, 20, 21, 255]), np.uint8)
        Image.fromarray(pixels).save(path)
    images = shutil.copytree(folder, place / "images", ignore=shutil.ignore_patterns("scores"))
    arguments = ["--layouts", good / "m.jsonl", "--profile", good / "p.toml"]
    run("score", images, *arguments, "--label-maps", maps)


def photographs(good, place, rng):
    """`tcig run --methods real`, of a photograph."""
    line = (good / "m.jsonl").read_text().splitlines()[1]
    path = place / json.loads(line)["image"]
    path.parent.mkdir()
    path.write_bytes(damaged((FOLDER / json.loads(line)["image"]).read_bytes(), rng))
    arguments = ["--profile", good / "p.toml", "--layouts", good / "m.jsonl", "--coco", place]
    more = "--limit", "1", "--no-score", "--out", place / "runs"
    run("run", "--methods", "real", *arguments, *more)


READERS = (
    annotations,
    manifests,
    records,
    results,
    profiles,
    masks,
    legends,
    methods,
    label_maps,
    photographs,
)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_malformed_inputs_get_a_sentence(reader, good, tmp_path, request, monkeypatch):
    monkeypatch.setattr("tcig.eval.score.write_sheet", lambda *arguments: None)
    monkeypatch.setattr("os.fsync", lambda number: None)
    count = -(-request.config.getoption("--fuzz") // len(READERS))
    STATUSES.clear()
    for number in range(count):
        seed = f"{reader.__name__} {request.config.getoption('--fuzz-seed')} {number}"
        place = tmp_path / str(number)
        place.mkdir()
        try:
            reader(good, place, random.Random(seed))
        except Exception as error:
            raise AssertionError(f"input {seed!r} in {place}") from error
        shutil.rmtree(place)
    assert STATUSES & {1, 2}, "none of them was malformed"
