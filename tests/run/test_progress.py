"""The bar moves inside a batch, and Ctrl-C ends a command that would go on."""

import io
import json
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from tqdm import tqdm

from tcig.run.generate import Bar, generate


def test_the_bar_moves_by_fractions_and_ends_at_the_whole(layouts, open_store, noise, monkeypatch):
    moves = []
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: moves.append(n))
    draw = type(noise).generate

    def told(self, given, seeds, callback=None):
        for step in range(1, 5):
            callback("progress", done=step / 4)
        return draw(self, given, seeds)

    monkeypatch.setattr(type(noise), "generate", told)
    with open_store() as store:
        assert generate(noise, layouts[:6], 1, 3, store) == 0
    assert sum(moves) == pytest.approx(6)
    assert moves[:4] == pytest.approx([0.75] * 4), "a quarter of three samples, four times"


def test_what_fails_and_is_tried_again_moves_the_bar_once(layouts, open_store, noise, monkeypatch):
    moves = []
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: moves.append(n))
    draw = type(noise).generate

    def told(self, given, seeds, callback=None):
        callback("progress", done=0.9)
        return draw(self, given, seeds)

    monkeypatch.setattr(type(noise), "generate", told)
    noise.bad = {layouts[1].id}
    with open_store() as store:
        assert generate(noise, layouts[:4], 1, 4, store) == 1
    assert sum(moves) == pytest.approx(4)
    assert min(moves) >= 0


def test_the_count_is_written_to_one_decimal():
    shown = io.StringIO()
    with Bar(total=4, file=shown, mininterval=0) as bar:
        bar.update(1 / 3)
        bar.update(1 / 3)
    assert " 0.7/4 " in shown.getvalue()
    assert "0.33" not in shown.getvalue()


STUBBORN = """
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from PIL import Image
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
    for path in tmp_path.glob("runs/*/rows.jsonl"):
        assert [json.loads(line) for line in path.read_text().splitlines()] == []
