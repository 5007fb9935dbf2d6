"""The executors give the same; shards and Ray's workers that die lose and double nothing."""

import json
import os
import re
import signal
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
from toy import assert_whole

from tcig.cli import main
from tcig.data.files import Shard
from tcig.run.generate import list_samples, split_batches

OF_THE_MACHINE = "seconds", "peak_mib", "peak_device_mib"
RAY = ("--engine", "ray", "--workers", "2")


@pytest.fixture(scope="module")
def generate_rows(tmp_path_factory):
    """Generates and scores two rows in few steps."""
    profile = tmp_path_factory.mktemp("profile") / "few.toml"
    profile.write_text('base = "smoke"\n[methods.si]\nsteps = 3\n')

    def call(out, *more, rows=("si", "real")):
        arguments = ["--methods", *rows, "--limit", 12, "--profile", profile, "--out", out, *more]
        assert main(["run", *map(str, arguments)]) == 0
        return out

    return call


def contents(out):
    """Each file by its path; records sorted and without time and memory."""
    files = {}
    for path in out.rglob("*"):
        name = str(path.relative_to(out))
        if path.match("rows*.jsonl"):
            records = [json.loads(line) for line in path.open()]
            for record in records:
                for key in OF_THE_MACHINE:
                    record.pop(key, None)
            files[name] = sorted(json.dumps(record) for record in records)
        elif path.is_file():
            files[name] = path.read_bytes()
    return files


@pytest.fixture(scope="module")
def serial(generate_rows, tmp_path_factory):
    return contents(generate_rows(tmp_path_factory.mktemp("serial")))


def test_three_shards_put_together_are_the_same(generate_rows, serial, tmp_path):
    assert len([name for name in serial if re.fullmatch(r"si-\w+/\w+-0.png", name)]) == 12
    assert len([name for name in serial if "labels/" in name]) == 12 * 2 * 2
    for shard in ("2/3", "3/3", "1/3"):
        generate_rows(tmp_path, "--shard", shard)
    (rows,) = tmp_path.glob("si-*/rows.2-of-3.jsonl")
    assert len(rows.read_bytes().splitlines()) == 4
    assert not list(tmp_path.glob("*/scores"))
    generate_rows(tmp_path)
    assert contents(tmp_path) == serial


def test_two_workers_of_ray_are_the_same(generate_rows, serial, tmp_path):
    pytest.importorskip("ray")
    generate_rows(tmp_path, *RAY)
    assert contents(tmp_path) == serial


@pytest.mark.parametrize("count", [1, 7, 12])
def test_shards_share_the_batches(layouts, count):
    batches = split_batches(list_samples(layouts, 2), 7)
    parts = chain(*(Shard(number, count).of(batches) for number in range(1, count + 1)))
    assert sorted(parts, key=batches.index) == batches


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shard", "4/3"], "no part of a whole"),
        (["--shard", "1/3", "--engine", "ray"], "give one of them"),
        (["--workers", "2"], "give it too"),
        (["--engine", "ray", "--workers", "0"], "--workers must be at least 1"),
        (["--engine", "ray"], "pip install 'tcig[ray]'"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, capsys, monkeypatch, more, said):
    if "pip" in said:
        monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", "--methods", "empty", "--out", str(tmp_path), *more]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("tcig: error: ")
    assert said in err[-1]
    assert not list(tmp_path.glob("*/rows*.jsonl"))


def test_shards_at_once_of_which_each_is_killed(toy_run, unbroken):
    """Each dies in its third call, and is started again."""
    toy_run.act("""
time.sleep(0.1)
if (FOLDER / "log").read_text().count(f"{os.getpid()} ") > 6:
    os.kill(os.getpid(), signal.SIGKILL)
""")
    shards = [f"{number}/3" for number in (1, 2, 3)]
    for process in [toy_run.start("--shard", shard) for shard in shards]:
        assert process.finish()[0] == -signal.SIGKILL
    toy_run.act()
    for process in [toy_run.start("--shard", shard) for shard in shards]:
        assert process.finish() == (0, "")
    calls = toy_run.calls()
    assert toy_run.finish() == (0, "")
    assert toy_run.calls() == calls, "nothing was left to generate"
    assert_whole(toy_run, unbroken)


def kill_cluster(pid):
    """Kills the raylet that a process has started."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "raylet":
                os.kill(int(child), signal.SIGKILL)


def test_a_killed_cluster_and_samples_on_which_workers_die_lose_no_other(toy_run, unbroken):
    """Killed after the first image; later layout 2 loses the GPU once, and 7 kills its worker."""
    pytest.importorskip("ray")
    toy_run.act('if list(FOLDER.glob("runs/Toy-*/*.png")): time.sleep(600)')
    soon = {"RAY_health_check_period_ms": "300", "RAY_health_check_failure_threshold": "2"}
    soon |= {"RAY_health_check_initial_delay_ms": "300", "RAY_health_check_timeout_ms": "500"}
    process = toy_run.start(*RAY, "--samples", 1, **soon)
    deadline = time.monotonic() + 200
    while not list(toy_run.out.glob("Toy-*/*.png")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_cluster(process.pid)
    status, err = process.finish(timeout=200)
    assert status == 2
    assert "the Ray cluster is gone; the same command goes on from here" in err
    finished = toy_run.images()
    assert 0 < len(finished) < 30
    toy_run.act("""
if "2" in ids and not (FOLDER / "lost").exists():
    (FOLDER / "lost").touch()
    raise RuntimeError("CUDA error: device-side assert triggered")
if "7" in ids:
    os.kill(os.getpid(), signal.SIGKILL)
""")
    assert not finished.keys() & {"2-0.png", "7-0.png"}, "late in the order"
    status, err = toy_run.finish(*RAY, "--samples", 1)
    assert status == 1, err
    assert "Toy 7-0 failed: its process died 2 times, as one does that is killed" in err
    assert [row["layout"] for row in toy_run.rows() if row["error"]] == ["7"]
    assert len(toy_run.rows()) == 30
    toy_run.act()
    assert toy_run.finish() == (0, "")
    assert_whole(toy_run, unbroken)
    assert finished.items() <= toy_run.images().items()
