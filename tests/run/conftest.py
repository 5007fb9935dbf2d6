"""A small manifest, a spec, and a method whose images are noise of the seed."""

import numpy as np
import pytest
from PIL import Image
from toy import ToyRun

from tcig.data.filters import Filter
from tcig.data.layout import Layout, Region
from tcig.data.manifest import Counts, Header, write_manifest
from tcig.data.masks import encode
from tcig.methods.base import Context, Method, NoOptions
from tcig.run.spec import RunSpec
from tcig.run.store import RunStore

SIZE = 16


class Noise(Method):
    """Logs each call; raises `error` for the layouts named in `bad`."""

    def __init__(self):
        super().__init__(Context(size=SIZE), NoOptions())
        self.calls, self.bad, self.error = [], set(), ValueError("no such luck")

    @property
    def drawn(self):
        return [pair for call in self.calls for pair in call]

    def generate(self, layouts, seeds, callback=None):
        ids = [layout.id for layout in layouts]
        self.calls.append(list(zip(ids, seeds, strict=True)))
        if self.bad & set(ids):
            raise self.error
        return [self.image(seed) for seed in seeds]

    @staticmethod
    def image(seed):
        pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def layouts():
    cat, dog = np.zeros((2, 8, 8), bool)
    cat[:4], dog[5:] = True, True
    return [
        Layout(
            id=str(number),
            image=f"val2017/{number:012d}.png",
            side=8,
            caption="a cat and a dog",
            regions=(
                Region(annotation=1, label="cat", mask=encode(cat)),
                Region(annotation=2, label="dog", mask=encode(dog)),
            ),
        )
        for number in range(1, 31)
    ]


@pytest.fixture(scope="session")
def manifest(layouts, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "layouts.jsonl"
    n = len(layouts)
    counts = Counts(images=n, filtered=n, objects_cut=0, layouts_cut=0, layouts=n)
    write_manifest(path, Header(filter=Filter(), sources=(), counts=counts), layouts)
    return path


@pytest.fixture(scope="session")
def profile(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "toy.toml"
    path.write_text(f'size = {SIZE}\nscore_size = {SIZE}\njudges = ["colours"]\nbatch = 3\n')
    return path


@pytest.fixture
def spec():
    return RunSpec(
        weights={},
        method="noise",
        version=1,
        code=None,
        options={},
        profile="toy",
        size=SIZE,
        batch=3,
        device="cpu",
        arithmetic="float32",
        manifest="0" * 64,
    )


@pytest.fixture
def noise():
    return Noise()


@pytest.fixture
def open_store(tmp_path, spec):
    return lambda asked=None: RunStore(tmp_path / "runs", spec, asked or {}, {})


@pytest.fixture
def toy_run(tmp_path, manifest, profile):
    return ToyRun(tmp_path, manifest, profile)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, manifest, profile):
    """A run of the toy that nothing interrupted."""
    run = ToyRun(tmp_path_factory.mktemp("unbroken"), manifest, profile)
    assert run.main() == 0
    assert len(run.calls()) == len(run.images()) == 60
    return run
