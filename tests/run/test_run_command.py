"""`tcig run` of a method in a file, in this process: status, messages, what is drawn again."""

import errno
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from toy import rows_of

from tcig.cli import main
from tcig.data import records as store_module
from tcig.data.files import write_whole

ENOSPC = "No space left on device"


@pytest.fixture
def toy(toy_run):
    """Runs the toy, which does `act` where layout 7 is in a call: status, layouts, folder."""

    def run(*more, act="pass"):
        before = len(toy_run.calls())
        toy_run.act(f"if '7' in ids: {act}")
        status = toy_run.main("--samples", 1, *more)
        return status, [layout for _, layout, _ in toy_run.calls()[before:]], toy_run.folder

    return run


def test_exit_status_1_while_a_sample_fails_then_0(toy, capsys):
    status, _, folder = toy(act="raise RuntimeError('out of luck')")
    assert status == 1
    assert [row["layout"] for row in rows_of(folder) if row["error"]] == ["7"]
    assert len(rows_of(folder)) == 30
    captured = capsys.readouterr()
    assert "Toy 7-0 failed: RuntimeError: out of luck" in captured.err
    assert captured.out == f"{folder}\n"
    assert toy()[:2] == (0, ["7"])
    assert [row["error"] for row in rows_of(folder)] == [None] * 30


def test_a_full_disk_stops_the_run_with_one_sentence(toy, toy_run, monkeypatch, capsys):
    """The fourth image cannot be written: three are committed, once, and none has failed."""

    def full(path, content, durable=True):
        if path.suffix == ".png" and len(toy_run.images()) == 3:
            raise OSError(errno.ENOSPC, ENOSPC, str(path))
        write_whole(path, content)

    monkeypatch.setattr(store_module, "write_whole", full)
    status, _, folder = toy()
    err = capsys.readouterr().err
    assert status == 2
    assert ENOSPC in err
    assert err.startswith("tcig: error: ")
    assert err.count("\n") == 1
    assert [row["error"] for row in rows_of(folder)] == [None] * 3
    monkeypatch.undo()
    status, again, _ = toy()
    assert (status, len(again)) == (0, 27)


def test_two_methods_of_one_name_are_refused_before_anything_is_drawn(toy, tmp_path, capsys):
    (tmp_path / "copy.py").write_text((tmp_path / "toy.py").read_text())
    out = tmp_path / "none"
    methods = [f"{tmp_path / name}.py:Toy" for name in ("toy", "copy")]
    assert main(["run", "--methods", *methods, "--out", str(out)]) == 2
    assert f"{' and '.join(methods)} are one row by name" in capsys.readouterr().err
    assert not list(out.glob("Toy*"))


def test_numbers_that_are_not_finite_are_failed_samples_and_never_images(tmp_path):
    """A black image would score 0 and count."""
    arguments = ["--methods", "text-only", "--limit", "2", "--no-score", "--out", str(tmp_path)]
    changes = ["text-only.steps=2", "text-only.guidance=1e38"]
    assert main(["run", "--profile", "smoke", *arguments, "--set", *changes]) == 1
    (folder,) = tmp_path.glob("text-only-*")
    errors = [record["error"] for record in rows_of(folder)]
    assert len(errors) == 2
    assert all("infinite" in error for error in errors)
    assert not list(folder.glob("*.png"))


STUBBORN = """
import time
from pathlib import Path
from tcig.methods.base import Method

class Stubborn(Method):
    def generate(self, layouts, seeds, callback=None):
        Path("started").touch()
        while True:
            try:
                time.sleep(30)
            except BaseException:
                pass
"""


@pytest.mark.parametrize("row", ["stubborn.py:Stubborn", "tcig"])
def test_an_interrupt_ends_a_command_even_where_it_is_swallowed(tmp_path, row):
    """It takes 0.1 to 0.8 s; the bound here is for busy machines."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    command = [sys.executable, "-m", "tcig.cli", "run", "--methods", row, "--no-score"]
    settings = ["--set", "tcig.first.iterations=100000"] if row == "tcig" else []
    child = subprocess.Popen(
        [*command, *settings],
        cwd=tmp_path,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # some shells ignore it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not any((tmp_path / name).exists() for name in ("started", "runs/.lock")):
        if list(tmp_path.glob("runs/*/run.json")):
            break
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.05)
    time.sleep(0.5)
    asked = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert time.monotonic() - asked < 10
    assert child.returncode == 130
    assert said.splitlines()[-1] == "tcig: stopped; the same command goes on from here"
    assert not any(rows_of(path.parent) for path in tmp_path.glob("runs/*/rows.jsonl"))
