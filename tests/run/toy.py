"""`tcig run` of a toy method, which does what a test tells it to."""

import json
from pathlib import Path

from forked import Command

from tcig.cli import main

TOY = '''
import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tcig.methods.base import Method

FOLDER = Path(__file__).parent


class Toy(Method):
    """Noise of the seed. Each call is logged; then the file `act` is executed."""

    def generate(self, layouts, seeds, callback=None):
        ids = [layout.id for layout in layouts]
        with open(FOLDER / "log", "a") as log:
            log.write("".join(f"{os.getpid()} {i} {s}\\n" for i, s in zip(ids, seeds)))
        exec((FOLDER / "act").read_text())
        shape = (self.context.size, self.context.size, 3)
        return [
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
            for seed in seeds
        ]
'''


def rows_of(folder: Path) -> list[dict]:
    """The records of a run, in the order of the file."""
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


class ToyRun:
    """A folder with the toy, its log and its runs: by default two samples of 30 layouts."""

    def __init__(self, folder: Path, manifest: Path, profile: Path):
        self.place, self.out = folder, folder / "runs"
        self.file = folder / "toy.py"
        self.file.write_text(TOY)
        self.act()
        (folder / "log").touch()
        self.arguments = ["run", "--no-score", "--samples", 2, "--methods", f"{self.file}:Toy"]
        self.arguments += ["--layouts", manifest, "--profile", profile, "--out", self.out]

    def act(self, code: str = "pass") -> None:
        """Sets what happens in each call, where `ids` are the layouts'."""
        (self.place / "act").write_text(code)

    def main(self, *more: object) -> int:
        """Runs in this process; the exit status."""
        return main([str(each) for each in [*self.arguments, *more]])

    def start(self, *more: object, **environment: str) -> Command:
        """Starts a process of its own."""
        return Command([*self.arguments, *more], self.place, **environment)

    def finish(self, *more: object, **environment: str) -> tuple[int, str]:
        """Runs in a process of its own: exit status and standard error."""
        return self.start(*more, **environment).finish(timeout=400)

    @property
    def folder(self) -> Path:
        (folder,) = self.out.glob("Toy-*")
        return folder

    def calls(self) -> list[tuple[int, str, str]]:
        """Process, layout and seed of each sample that was asked for so far."""
        lines = (line.split() for line in (self.place / "log").read_text().splitlines())
        return [(int(pid), layout, seed) for pid, layout, seed in lines]

    def rows(self) -> list[dict]:
        return rows_of(self.folder)

    def images(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.glob("Toy-*/*.png")}


def assert_whole(run: ToyRun, unbroken: ToyRun) -> None:
    """Every sample is there once, as in a run that nothing interrupted."""
    pairs = [(row["layout"], row["sample"]) for row in run.rows()]
    assert len(pairs) == len(set(pairs)) == 60
    assert not any(row["error"] for row in run.rows())
    assert run.images() == unbroken.images()
    assert {p.name for p in run.folder.iterdir()} == {p.name for p in unbroken.folder.iterdir()}
    assert json.loads((run.folder / "run.json").read_text())["asked"] == {
        "limit": None,
        "samples": 2,
    }
