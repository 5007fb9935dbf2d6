"""Small layouts, folders of images painted for them, and a check of the wording of refusals."""

import json

import numpy as np
import pytest
import torch
from counting import SIZES, Counting
from looking import Looking
from PIL import Image

from tcig.data.files import sha256
from tcig.data.filters import Filter
from tcig.data.layout import Dropped, Layout, Region, hash_order
from tcig.data.manifest import Counts, Header, SourceFile, write_manifest
from tcig.data.masks import encode
from tcig.data.voc import COLOURS
from tcig.eval.images import Sizes
from tcig.eval.judges import ColourJudge
from tcig.eval.score import score_images

torch.set_num_threads(1)

SIDE = 32
OBJECTS = {  # id: regions and dropped objects as (label, top, left, bottom, right)
    "1": ([("cat", 2, 2, 14, 14), ("dog", 16, 16, 30, 30)], []),
    "2.b": ([("cat", 0, 0, 10, 10), ("cat", 20, 20, 30, 30)], []),
    "c_3": ([("train", 4, 0, 30, 32), ("person", 8, 8, 20, 14)], [("person", 0, 0, 8, 32)]),
    "44": ([("dining table", 0, 0, 32, 16), ("tv", 3, 20, 12, 31)], [("tv", 5, 5, 15, 25)]),
    # the dog is wholly covered by two smaller cats
    "5": (
        [
            ("dog", 8, 8, 16, 16),
            ("cat", 8, 8, 12, 16),
            ("cat", 12, 8, 16, 16),
            ("car", 20, 4, 31, 30),
        ],
        [],
    ),
    "6": (
        [("airplane", 1, 1, 9, 31), ("potted plant", 11, 3, 30, 12), ("bus", 12, 15, 30, 31)],
        [],
    ),
}


def _object(number, label, top, left, bottom, right):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top:bottom, left:right] = True
    return {"annotation": number, "label": label, "mask": encode(mask)}


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda number: None)


@pytest.fixture(scope="session")
def layouts():
    """Six layouts in hash order."""
    return hash_order(
        Layout(
            id=name,
            image=f"val2017/{name}.png",
            side=SIDE,
            caption=f"scene {name}",
            regions=tuple(Region(**_object(i, *each)) for i, each in enumerate(regions)),
            dropped=tuple(
                Dropped(**_object(90 + i, *each), reason="small") for i, each in enumerate(dropped)
            ),
        )
        for name, (regions, dropped) in OBJECTS.items()
    )


@pytest.fixture(scope="session")
def manifest_file(layouts, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "layouts.jsonl"
    counts = Counts(images=9, filtered=7, objects_cut=0, layouts_cut=1, layouts=len(layouts))
    source = SourceFile(file="instances_val2017.json", sha256="0" * 64)
    write_manifest(path, Header(filter=Filter(), sources=(source,), counts=counts), layouts)
    return path


@pytest.fixture(scope="session")
def manifest(manifest_file):
    """The manifest's hash."""
    return sha256(manifest_file)


@pytest.fixture
def paint(layouts, tmp_path):
    """Writes a folder of images: the truth in flat colours, grey, or `damaged` truth."""

    def draw(layout, sample, what, size):
        labels = layout.class_map(size)
        if what == "grey":
            return np.full((size, size, 3), 127, np.uint8)
        if what == "damaged":
            rng = np.random.default_rng([sample, *layout.id.encode()])
            wrong = rng.random(labels.shape) < 0.3
            labels = np.where(wrong, rng.choice([0, 8, 12, 20], labels.shape), labels)
        return np.array(COLOURS, np.uint8)[labels]

    def write(what="truth", name="mine", size=SIDE, samples=1):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for layout in layouts:
            for sample in range(samples):
                pixels = draw(layout, sample, what, size)
                Image.fromarray(pixels).save(folder / f"{layout.id}-{sample}.png")
        return folder

    return write


@pytest.fixture
def record_run(manifest):
    """Writes a `run.json` as `tcig run` does."""

    def write(
        folder, limit=None, samples=1, manifest=manifest, method="tcig", score_size=16, weights=()
    ):
        spec = {"method": method, "manifest": manifest, "size": SIDE, "weights": dict(weights)}
        profile = {"name": "tiny", "size": SIDE, "score_size": score_size}
        profile |= {"judges": ["colours"], "batch": 1, "embedded": False}
        asked = {"limit": limit, "samples": samples}
        (folder / "run.json").write_text(
            json.dumps({"spec": spec, "asked": asked, "profile": profile})
        )

    return write


@pytest.fixture
def score(layouts, manifest):
    """Scores a folder; returns the scores' folder and how many images were judged."""

    def run(folder, judge=None, sizes=SIZES, manifest=manifest, **options):
        judge = judge or Counting()
        place = score_images(folder, layouts, manifest, ("colours", judge), sizes, **options)
        return place, getattr(judge, "asked", None)

    return run


@pytest.fixture
def scored(paint, layouts, manifest, tmp_path, monkeypatch):
    """Scores a painted folder under one or more judges' names."""
    monkeypatch.setattr("tcig.eval.score.write_sheet", lambda *arguments: None)

    def run(what, name, judges=("colours",), manifest=manifest, row=None, limit=None):
        folder = tmp_path / name
        if not folder.exists():
            paint(what, name=name)
        for judge in judges:
            judge = (judge, ColourJudge())
            score_images(folder, layouts, manifest, judge, Sizes(32, 32), row, limit)
        return folder

    return run


@pytest.fixture
def photographs(layouts, tmp_path):
    """A COCO folder with a photograph of each layout."""
    folder = tmp_path / "coco"
    (folder / "val2017").mkdir(parents=True)
    for layout in layouts:
        rng = np.random.default_rng(list(layout.id.encode()))
        pixels = rng.integers(0, 256, (SIDE, SIDE + 6, 3), np.uint8)
        Image.fromarray(pixels).save(folder / layout.image)
    return folder


@pytest.fixture
def measure(layouts, manifest, photographs):
    """Measures a folder; what was found, and how many images the scorer was asked about."""
    from tcig.eval.features import photograph_features
    from tcig.eval.measure import Networks, measure_folder

    def run(folder, scorer=None, features=None, prefix="", coco=photographs, **options):
        scorer = scorer or Looking()
        features = features or scorer
        look = coco and photograph_features(coco, SIDE, features)
        networks = Networks(scorer, prefix, features)
        found = measure_folder(folder, layouts, manifest, networks, SIZES, look, **options)
        return found, scorer.asked

    return run
