"""`tcig figures`: what is written, and that it can be read."""

import numpy as np
import pytest
from PIL import Image

from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.manifest import build_layouts
from tcig.eval.pictures import stages_figure

RED = """
from PIL import Image
from tcig.methods.base import Method

class Red(Method):
    def generate(self, layouts, seeds, callback=None):
        return [Image.new("RGB", (self.context.size,) * 2, "red") for _ in layouts]
"""


def share(path, colour):
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return (pixels == np.array(colour)).all(-1).mean()


def test_each_output_stands_after_its_start(tmp_path):
    layouts = build_layouts(FOLDER, Filter())[1][:3]
    red, green, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue"))
    first, second = [[red, green]] * 3, [[[blue] * 2] * 2] * 3
    stages_figure(tmp_path / "stages.png", layouts, first, second)
    reds, blues = (share(tmp_path / "stages.png", c) for c in ((255, 0, 0), (0, 0, 255)))
    assert blues == pytest.approx(4 * reds, rel=0.1)


def test_the_command_draws_a_finished_run(tcig, quick, tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "figures"
    (tmp_path / "red.py").write_text(RED)
    rows = ("real", "text-only", "tcig", f"{tmp_path / 'red.py'}:Red")
    settings = ("--profile", quick)
    assert tcig("run", "--methods", *rows, "--limit", 2, "--out", runs, *settings)[0] == 0
    status, printed = tcig("figures", runs, "--out", out, "--count", 2, *settings)
    assert (status, printed.out) == (0, f"{out}\n")
    names = {"systems.png", "samples.png", "stages.png", "course.png"}
    assert {path.name for path in out.iterdir()} == names
    for name in names:
        assert np.asarray(Image.open(out / name).convert("L")).std() > 20
    assert share(out / "systems.png", (255, 0, 0)) > 0.1, "a method from outside has a column"


def test_the_command_says_what_it_lacks(refuse, quick, tmp_path):
    said, where = "is no folder of runs: make one with `tcig run`", tmp_path / "none"
    refuse(said, "figures", where, "--profile", quick)
    refuse("has no run of real", "figures", tmp_path, "--profile", quick, "--out", where)
