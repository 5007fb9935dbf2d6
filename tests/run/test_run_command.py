"""`tcig run`: what stops it, and what it leaves behind."""

import errno
import signal
import subprocess
import sys
import time
from functools import partial

from toy import rows_of

from tcig.cli import main
from tcig.data import records
from tcig.data.files import write_whole

FULL = "No space left on device"


def test_a_full_disk_stops_the_run_with_one_sentence(toy_run, monkeypatch, capsys):
    """The fourth image cannot be written: three are committed, once, and none has failed."""

    def full(path, content, durable=True):
        if path.suffix == ".png" and len(toy_run.images()) == 3:
            raise OSError(errno.ENOSPC, FULL, str(path))
        write_whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_whole", full)
        assert toy_run.main("--samples", 1) == 2
    err = capsys.readouterr().err
    assert err.startswith("tcig: error: ")
    assert err.endswith(f"{FULL}; free some space, then run the same command again\n")
    assert err.count("\n") == 1
    assert [row["error"] for row in toy_run.rows()] == [None] * 3
    asked = len(toy_run.calls())
    assert toy_run.main("--samples", 1) == 0
    assert len(toy_run.calls()) - asked == 27
    assert capsys.readouterr().out == f"{toy_run.folder}\n"


def test_two_methods_of_one_name_are_refused_before_anything_is_drawn(toy_run, tmp_path, capsys):
    copy = tmp_path / "copy.py"
    copy.write_text(toy_run.file.read_text())
    methods = [f"{path}:Toy" for path in (toy_run.file, copy)]
    assert main(["run", "--methods", *methods, "--out", str(toy_run.out)]) == 2
    assert f"{' and '.join(methods)} are one row by name" in capsys.readouterr().err
    assert not list(toy_run.out.glob("Toy*"))


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


def test_an_interrupt_ends_a_command_even_where_it_is_swallowed(tmp_path):
    """It takes 0.1 to 0.8 s; the bound here is for busy machines."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    command = ["-m", "tcig.cli", "run", "--methods", "stubborn.py:Stubborn", "--no-score"]
    child = subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # some shells ignore it
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.05)
    asked = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert time.monotonic() - asked < 10
    assert child.returncode == 130
    assert said.splitlines()[-1] == "tcig: stopped; the same command goes on from here"
    assert not any(rows_of(path.parent) for path in tmp_path.glob("runs/*/rows.jsonl"))
