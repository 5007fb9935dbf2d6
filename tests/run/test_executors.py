"""The executors give the same; shards and Ray's workers that die lose and double nothing."""

import json
import os
import re
import signal
import sys
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from toy import assert_whole

from tcig.cli import main
from tcig.data.files import InputError, Shard
from tcig.data.records import RunSpec
from tcig.run.generate import generate, list_samples, pending_batches
from tcig.run.store import RunStore

OF_THE_MACHINE = "seconds", "peak_mib", "peak_device_mib"
RAY = ("--engine", "ray", "--workers", "2")


@pytest.fixture(scope="module")
def generate_rows(tmp_path_factory):
    """Generates and scores two rows in few steps."""
    profile = tmp_path_factory.mktemp("profile") / "few.toml"
    profile.write_text('base = "smoke"\n[methods.si]\nsteps = 3\n')

    def call(out, *more, rows=("si", "real")):
        arguments = ["--methods", *rows, "--limit", 20, "--profile", profile, "--out", out, *more]
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


def test_what_is_compared_is_there(serial):
    assert len([name for name in serial if re.fullmatch(r"si-\w+/\w+-0.png", name)]) == 20
    assert len([name for name in serial if "labels/" in name]) == 20 * 2 * 2
    (name,) = (name for name in serial if re.fullmatch(r"si-\w+/rows.jsonl", name))
    assert sorted(json.loads(row)["batch"] for row in serial[name]) == [4] * 4 + [8] * 16


def test_three_shards_put_together_are_the_same(generate_rows, serial, tmp_path):
    for shard in ("2/3", "3/3", "1/3"):
        generate_rows(tmp_path, "--shard", shard)
    (rows,) = tmp_path.glob("si-*/rows.2-of-3.jsonl")
    assert len(rows.read_bytes().splitlines()) == 8
    assert not list(tmp_path.glob("*/scores"))
    generate_rows(tmp_path)
    assert contents(tmp_path) == serial


def test_two_workers_of_ray_are_the_same(generate_rows, serial, tmp_path):
    pytest.importorskip("ray")
    generate_rows(tmp_path, *RAY)
    assert contents(tmp_path) == serial


@pytest.mark.parametrize("count", [1, 7, 12])
def test_shards_share_the_batches_of_an_empty_store(open_store, layouts, count):
    asked = list_samples(layouts, 2)
    with open_store() as store:
        whole = pending_batches(asked, store, 7)
        shards = [Shard(number, count) for number in range(1, count + 1)]
        parts = list(chain(*(pending_batches(asked, store, 7, shard) for shard in shards)))
    assert list(chain(*whole)) == asked
    assert sorted(parts, key=lambda batch: asked.index(batch[0])) == whole


def test_a_part_that_is_done_or_empty_says_nothing(open_store, noise, layouts, capsys):
    for fresh, shard in [(3, Shard(2, 2)), (0, Shard(2, 2)), (0, Shard(9, 9))]:
        noise.calls.clear()
        with open_store() as store:
            assert generate(noise, layouts[:6], 1, 3, store, shard=shard) == 0
        assert len(noise.drawn) == fresh
    assert "failed" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shard", "4/3"], "no part of a whole"),
        (["--shard", "1/3", "--engine", "ray"], "give one of them"),
        (["--workers", "2"], "give it too"),
        (["--engine", "ray", "--workers", "0"], "--workers must be at least 1"),
        (["--engine", "ray", "--threads", "4000"], "fewer --workers or --threads"),
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


def test_a_sample_on_which_workers_die_is_the_only_failure(toy_run, unbroken):
    """Layout 4 kills its worker once, 11 loses it the GPU once, 7 kills it whenever it is drawn."""
    pytest.importorskip("ray")
    toy_run.act("""
first = [i for i in ids if i in ("4", "11") and not (FOLDER / i).exists()]
if first:
    (FOLDER / first[0]).touch()
    if first[0] == "11":
        raise RuntimeError("CUDA error: device-side assert triggered")
if first or "7" in ids:
    os.kill(os.getpid(), signal.SIGKILL)
""")
    status, err = toy_run.finish(*RAY, "--samples", 1)
    assert status == 1, err
    assert "Toy 7-0 failed: its process died 2 times, as one does that is killed" in err
    assert (toy_run.place / "4").exists()
    assert (toy_run.place / "11").exists()
    assert [row["layout"] for row in toy_run.rows() if row["error"]] == ["7"]
    assert len(toy_run.rows()) == 30
    toy_run.act()
    assert toy_run.finish() == (0, "")
    assert_whole(toy_run, unbroken)


def wait_for_calls(run, process, count):
    deadline = time.monotonic() + 200
    while len(run.calls()) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def name_of(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.mark.parametrize("victim", ["driver", "cluster"])
def test_the_same_command_resumes_after_a_kill(toy_run, unbroken, victim):
    """A killed driver takes its workers along; of a killed cluster a sentence tells."""
    pytest.importorskip("ray")
    toy_run.act("time.sleep(1)")
    soon = {"RAY_health_check_period_ms": "300", "RAY_health_check_failure_threshold": "2"}
    soon |= {"RAY_health_check_initial_delay_ms": "300", "RAY_health_check_timeout_ms": "500"}
    process = toy_run.start(*RAY, **soon)
    wait_for_calls(toy_run, process, 16)
    if victim == "driver":
        process.kill()
        pids = {pid for pid, *_ in toy_run.calls()}
        deadline = time.monotonic() + 100
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    else:
        (raylet,) = [pid for pid in children(process.pid) if name_of(pid) == "raylet"]
        os.kill(raylet, signal.SIGKILL)
        status, err = process.finish(timeout=200)
        assert status == 2
        assert "the Ray cluster is gone; the same command goes on from here" in err
    finished = toy_run.images()
    assert 0 < len(finished) < 60
    toy_run.act()
    assert toy_run.finish() == (0, "")
    assert_whole(toy_run, unbroken)
    assert finished.items() <= toy_run.images().items()


def test_the_folder_is_free_again_after_a_kill(toy_run):
    toy_run.act("time.sleep(0.05)")
    process = toy_run.start()
    while not list(toy_run.out.glob("Toy-*/*.png")):
        assert process.poll() is None
        time.sleep(0.01)
    record = json.loads((toy_run.folder / "run.json").read_text())
    spec = RunSpec.model_validate(record["spec"])
    store = RunStore(toy_run.out, spec, record["asked"], record["profile"])
    with pytest.raises(InputError, match="is being written by another process"):
        store.__enter__()
    process.kill()
    with store:
        assert store.done
