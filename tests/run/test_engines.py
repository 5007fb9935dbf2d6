"""The engines give the same: in this process, by shards put together, by workers of Ray."""

import json
import re
import sys
from itertools import chain

import pytest
import torch

from tcig.cli import main
from tcig.data.shards import Shard
from tcig.run.generate import generate, pending_batches, samples_of

OF_ITS_MACHINE = "seconds", "peak_mib", "peak_device_mib"
ARGUMENTS = ["run", "--limit", "20", "--methods"]
SMOKE = ["si", "real", "--profile", "smoke"]


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    """Draws and scores into a folder, in few steps."""
    profile = tmp_path_factory.mktemp("profile") / "engines.toml"
    profile.write_text('base = "smoke"\n[compute]\nlanes = 2\n[methods.si]\nsteps = 3\n')

    def drawn(out, *more, rows=("si", "real")):
        given = ["--profile", str(profile), "--out", str(out), *more]
        assert main([*ARGUMENTS, *rows, *given]) == 0
        return out

    return drawn


def contents(out):
    """Each file by its place, rows sorted and without time and memory."""
    found = {}
    for path in out.rglob("*"):
        if path.match("rows*.jsonl"):
            rows = [json.loads(line) for line in path.open()]
            kept = [{k: v for k, v in row.items() if k not in OF_ITS_MACHINE} for row in rows]
            found[path.relative_to(out)] = sorted(map(json.dumps, kept))
        elif path.is_file():
            found[path.relative_to(out)] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def serial(draw, tmp_path_factory):
    """By two threads, one for each half of a batch; all others have one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    found = contents(draw(tmp_path_factory.mktemp("serial")))
    torch.set_num_threads(before)
    return found


def test_what_is_compared_is_there(serial):
    names = [str(path) for path in serial]
    assert len([name for name in names if re.fullmatch(r"si-\w+/\w+-0.png", name)]) == 20
    assert len([name for name in names if "labels/" in name]) == 20 * 2 * 2
    batches = [json.loads(row)["batch"] for row in serial[find(serial, r"si-\w+/rows.jsonl")]]
    assert sorted(batches) == [4] * 4 + [8] * 16
    rows = serial[find(serial, r"si-\w+/scores/miniature/rows.jsonl")]
    pixels = [each for row in rows for each in json.loads(row)["confusion"]]
    assert any(truth == predicted > 0 for truth, predicted, _ in pixels)


def find(found, pattern):
    (path,) = [path for path in found if re.fullmatch(pattern, str(path))]
    return path


def test_three_shards_put_together_are_the_same(draw, serial, tmp_path):
    for shard in ("2/3", "3/3", "1/3"):
        draw(tmp_path, "--shard", shard)
    (rows,) = tmp_path.glob("si-*/rows.2-of-3.jsonl")
    assert len(rows.read_bytes().splitlines()) == 8
    assert not list(tmp_path.glob("*/scores"))
    draw(tmp_path)
    assert contents(tmp_path) == serial
    assert not list(tmp_path.rglob("*-of-*"))


def test_two_workers_of_ray_are_the_same(draw, serial, tmp_path):
    draw(tmp_path, "--engine", "ray", "--workers", "2")
    assert contents(tmp_path) == serial
    draw(tmp_path, "--engine", "ray", "--workers", "1", rows=["real"])  # all is there
    assert contents(tmp_path) == serial


def ids(batch):
    return [(layout.id, sample) for layout, sample in batch]


def test_a_part_that_is_done_or_empty_says_nothing(open_store, noise, layouts, capsys):
    for fresh, shard in [(3, Shard(2, 2)), (0, Shard(2, 2)), (0, Shard(9, 9))]:
        noise.calls.clear()
        with open_store() as store:
            assert generate(noise, layouts[:6], 1, 3, store, shard=shard) == 0
        assert len(noise.drawn) == fresh
    assert "failed" not in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_shards_share_the_batches_of_an_empty_store(open_store, layouts, count):
    asked = samples_of(layouts, 2)
    with open_store() as store:
        whole = pending_batches(asked, store, 7)
        parts = [
            batch
            for number in range(1, count + 1)
            for batch in pending_batches(asked, store, 7, Shard(number, count))
        ]
        assert sorted(map(ids, parts)) == sorted(map(ids, whole))
        assert list(chain(*whole)) == asked


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shard", "4/3"], "no part of a whole"),
        (["--shard", "1/3", "--engine", "ray"], "give one of them"),
        (["--workers", "2"], "give it too"),
        (["--threads", "2"], "give it too"),
        (["--address", "auto"], "give it too"),
        (["--engine", "ray", "--workers", "0"], "--workers must be at least 1"),
        (["--engine", "ray", "--threads", "0"], "--threads must be at least 1"),
        (["--engine", "ray", "--threads", "4000"], "fewer --workers or --threads"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(tmp_path, capsys, more, said):
    assert main([*ARGUMENTS, *SMOKE, "--out", str(tmp_path), *more]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("tcig: error: ")
    assert said in err[-1]
    assert not list(tmp_path.glob("*/rows*.jsonl"))


def test_without_ray_it_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*ARGUMENTS, *SMOKE, "--out", str(tmp_path), "--engine", "ray"]) == 2
    assert "pip install 'tcig[ray]'" in capsys.readouterr().err
