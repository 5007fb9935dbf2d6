"""Runs killed at random and resumed end as if they had never been killed.

`tests/data/test_records.py` has the crash points of their store one by one.
"""

import json
import random
import signal
import time

import pytest
from forked import Command

from tcig.data.errors import InputError
from tcig.run.spec import RunSpec
from tcig.run.store import RunStore

TOY = '''
"""Noise of the seed, 20 ms a call."""
import os
import time

import numpy as np
from PIL import Image

from tcig.methods.base import Method


class Slow(Method):
    def generate(self, layouts, seeds, callback=None):
        with open(os.environ["TOY_LOG"], "a") as log:
            log.write("".join(f"{l.id} {s}\\n" for l, s in zip(layouts, seeds)))
        time.sleep(0.02)
        shape = (self.context.size, self.context.size, 3)
        return [
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
            for seed in seeds
        ]
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "slow.py"
    path.write_text(TOY)
    return path


class Run:
    """`tcig run` of the toy method into a folder, in processes of their own."""

    def __init__(self, folder, toy, manifest, profile):
        self.log, self.out = folder / "log", folder / "runs"
        self.log.touch()
        self.command = ["run", "--no-score", "--samples", 2, "--methods", f"{toy}:Slow"]
        self.command += ["--layouts", manifest, "--profile", profile, "--out", self.out]

    def start(self):
        return Command(self.command, self.log.parent, TOY_LOG=str(self.log))

    def finish(self):
        return self.start().finish()

    @property
    def folder(self):
        (folder,) = self.out.glob("Slow-*")
        return folder

    def drawn(self):
        return [tuple(line.split()) for line in self.log.read_text().splitlines()]

    def committed(self):
        """(layout, seed) of each whole row whose image is there."""
        pairs = set()
        for path in self.out.glob("Slow-*/rows.jsonl"):
            for line in path.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                assert (path.parent / f"{row['layout']}-{row['sample']}.png").exists()
                pairs.add((row["layout"], str(row["seed"])))
        return pairs


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, toy, manifest, profile):
    run = Run(tmp_path_factory.mktemp("unbroken"), toy, manifest, profile)
    assert run.finish() == (0, "")
    assert len(run.drawn()) == len(run.committed()) == 60
    return run


@pytest.fixture
def run(tmp_path, toy, manifest, profile):
    return Run(tmp_path, toy, manifest, profile)


@pytest.fixture
def assert_equal(unbroken, read_images, read_rows):
    def check(run):
        one, other = unbroken.folder, run.folder
        assert one.name == other.name
        assert {p.name for p in other.iterdir()} == {p.name for p in one.iterdir()}
        assert len(read_images(one)) == 60
        assert read_images(other) == read_images(one)
        assert read_rows(other) == read_rows(one)
        assert (other / "run.json").read_bytes() == (one / "run.json").read_bytes()

    return check


def test_killed_at_random_points(run, assert_equal):
    rng = random.Random(20240312)
    landed = 0
    for _ in range(6):
        before, committed = len(run.drawn()), run.committed()
        batches = rng.choice([0, 1, 1, 2])
        process = run.start()
        wait_until = time.monotonic() + (rng.uniform(0, 0.2) if batches == 0 else 30)
        while process.poll() is None and time.monotonic() < wait_until:
            if batches and len(run.drawn()) >= before + 3 * batches:
                time.sleep(rng.uniform(0, 0.04))
                break
            time.sleep(0.002)
        process.kill()
        landed += process.poll() == -signal.SIGKILL
        assert committed <= run.committed()
        assert not committed & set(run.drawn()[before:])
    assert landed == 6
    before, committed = len(run.drawn()), run.committed()
    assert 0 < len(committed) < 60
    assert run.finish() == (0, "")
    assert len(run.drawn()[before:]) == 60 - len(committed)
    assert not committed & set(run.drawn()[before:])
    assert_equal(run)


def test_the_folder_is_free_again_after_a_kill(run):
    process = run.start()
    while not list(run.out.glob("Slow-*/*.png")):
        assert process.poll() is None
        time.sleep(0.01)
    record = json.loads((run.folder / "run.json").read_text())
    store = RunStore(
        run.out, RunSpec.model_validate(record["spec"]), record["asked"], record["profile"]
    )
    with pytest.raises(InputError, match="is being written by another process"):
        store.__enter__()
    process.kill()
    with store:
        assert store.done
