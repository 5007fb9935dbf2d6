"""Workers of Ray that are killed, with their driver and their cluster: nothing lost or doubled."""

import json
import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from forked import Command

pytest.importorskip("ray")

TOY = '''
"""Noise of the seed; what it draws and where stands in a log. Layouts in `poison` kill, or lose the
GPU where there is a file `lost`."""
import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tcig.methods.base import Method

PLACE = Path(__file__).parent


class Slow(Method):
    def generate(self, layouts, seeds, callback=None):
        ids = [layout.id for layout in layouts]
        with open(PLACE / "log", "a") as log:
            log.write(f"{os.getpid()} {' '.join(ids)}\\n")
        time.sleep(float((PLACE / "seconds").read_text()))
        if set((PLACE / "poison").read_text().split()) & set(ids):
            if (PLACE / "lost").exists():
                raise RuntimeError("CUDA error: device-side assert triggered")
            os.kill(os.getpid(), signal.SIGKILL)
        shape = (self.context.size, self.context.size, 3)
        return [
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
            for seed in seeds
        ]
'''
RAY = ("--engine", "ray", "--workers", "2")


class Run:
    """`tcig run` of the toy, in a process of its own."""

    def __init__(self, folder, manifest, profile):
        self.folder, self.log, self.out = folder, folder / "log", folder / "runs"
        (folder / "slow.py").write_text(TOY)
        self.log.touch()
        self.set()
        self.command = ["run", "--no-score", "--samples", 2, "--layouts", manifest]
        self.command += ["--methods", f"{folder / 'slow.py'}:Slow", "--profile", profile]
        self.command += ["--out", self.out]

    def set(self, seconds=0.05, poison=""):
        (self.folder / "seconds").write_text(str(seconds))
        (self.folder / "poison").write_text(poison)

    def start(self, *more, **environment):
        return Command([*self.command, *more], self.folder, **environment)

    def finish(self, *more):
        return self.start(*more).finish(timeout=600)

    def calls(self):
        """(process, layouts) of each call so far."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [(int(pid), ids) for pid, *ids in lines]

    def rows(self):
        (path,) = self.out.glob("*/rows.jsonl")
        return [json.loads(line) for line in path.open()]

    def images(self):
        return {path.name: path.read_bytes() for path in self.out.glob("*/*.png")}


@pytest.fixture
def run(tmp_path, manifest, profile):
    return Run(tmp_path, manifest, profile)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, manifest, profile):
    run = Run(tmp_path_factory.mktemp("unbroken"), manifest, profile)
    run.set(seconds=0)
    assert run.finish() == (0, "")
    assert len(run.images()) == 60
    return run


def assert_whole(run, unbroken):
    """Every sample once, as if nothing had happened; no command but the same again was needed."""
    pairs = [(row["layout"], row["sample"]) for row in run.rows()]
    assert len(pairs) == len(set(pairs)) == 60
    assert run.images() == unbroken.images()
    assert not any(row["error"] for row in run.rows())
    (folder,) = run.out.glob("Slow-*")
    names = {path.name for path in folder.iterdir()} - set(run.images())
    assert names == {"run.json", "rows.jsonl", "layouts.jsonl", ".lock"}


def test_killed_at_random_points(run, unbroken):
    """Six workers in one run: each is replaced, and what it drew is drawn again."""
    run.set(seconds=0.3)
    rng, killed = random.Random(7), []
    process = run.start(*RAY)

    def kill():
        while process.poll() is None and len(killed) < 6:
            time.sleep(rng.uniform(0, 0.4))
            alive = [pid for pid, _ in run.calls()[-2:] if pid not in killed]
            if alive:
                with suppress(ProcessLookupError):
                    os.kill(alive[-1], signal.SIGKILL)
                    killed.append(alive[-1])

    thread = threading.Thread(target=kill)
    thread.start()
    status, err = process.finish(timeout=240)
    thread.join()
    assert len(killed) == 6
    failed = [row for row in run.rows() if row["error"]]
    assert status == (1 if failed else 0), err
    assert len(run.rows()) == 60
    run.set(seconds=0)
    assert run.finish()[0] == 0
    assert_whole(run, unbroken)


@pytest.mark.parametrize("lost", [False, True], ids=["killed", "gpu-lost"])
def test_a_sample_on_which_workers_die_is_the_only_failure(run, unbroken, lost):
    """A worker that has lost its GPU ends, for a new process to have it back."""
    run.set(poison="7")
    if lost:
        (run.folder / "lost").touch()
    status, err = run.finish(*RAY, "--samples", "1")
    assert status == 1, err
    assert "Slow 7-0 failed: its process died 2 times, as one does that is killed" in err
    failures = {row["layout"]: row["error"] for row in run.rows() if row["error"]}
    assert failures.keys() == {"7"}
    assert len(run.rows()) == 30
    run.set()
    assert run.finish()[0] == 0
    assert_whole(run, unbroken)


def test_parts_killed_at_random_points(run, unbroken):
    """Three parts at once, of which thirty-two times one is killed and started again."""
    run.set(seconds=0.6)
    rng = random.Random(11)
    parts = [f"{number}/3" for number in (1, 2, 3)]
    processes = {part: run.start("--shard", part) for part in parts}
    landed = 0
    for _ in range(32):
        part = rng.choice(parts)
        before = len(run.calls())
        deadline = time.monotonic() + rng.choice([0.3, 3])
        while time.monotonic() < deadline and len(run.calls()) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        landed += processes[part].poll() is None
        processes[part].kill()
        processes[part] = run.start("--shard", part)
    run.set(seconds=0)
    for process in processes.values():
        assert process.finish() == (0, "")
    assert landed >= 28, "nearly all were killed before they had ended"
    assert len(run.images()) == 60
    calls = len(run.calls())
    assert run.finish() == (0, "")
    assert len(run.calls()) == calls, "nothing was left to draw"
    assert_whole(run, unbroken)


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def name_of(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()


def started(run, process, calls):
    deadline = time.monotonic() + 60
    while len(run.calls()) < calls:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pids):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_the_driver_killed_takes_its_workers_along_and_goes_on(run, unbroken):
    run.set(seconds=0.3)
    process = run.start(*RAY)
    started(run, process, 5)
    time.sleep(random.Random(3).uniform(0, 0.3))
    committed = run.images()
    assert committed
    process.kill()
    assert gone({pid for pid, _ in run.calls()})
    run.set(seconds=0)
    assert run.finish() == (0, "")
    assert_whole(run, unbroken)
    assert committed.items() <= run.images().items()


def test_the_cluster_killed_is_said_and_the_same_command_goes_on(run, unbroken):
    run.set(seconds=2)
    soon = {"RAY_health_check_period_ms": "300", "RAY_health_check_failure_threshold": "2"}
    soon |= {"RAY_health_check_initial_delay_ms": "300", "RAY_health_check_timeout_ms": "500"}
    process = run.start(*RAY, **soon)
    started(run, process, 3)
    (raylet,) = [pid for pid in children(process.pid) if name_of(pid) == "raylet"]
    os.kill(raylet, signal.SIGKILL)
    status, err = process.finish(timeout=100)
    assert status == 2
    assert "the Ray cluster is gone; the same command goes on from here" in err
    assert 0 < len(run.images()) < 60
    run.set(seconds=0)
    assert run.finish() == (0, "")
    assert_whole(run, unbroken)
