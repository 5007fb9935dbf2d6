"""`tcig figures`: what is written, and that it can be read."""

import numpy as np
import pytest
from PIL import Image

from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts
from tcig.eval.grids import stages_figure
from tcig.eval.plots import course_figure

RED = """
from PIL import Image
from tcig.methods.base import Method

class Red(Method):
    def generate(self, layouts, seeds, callback=None):
        return [Image.new("RGB", (self.context.size,) * 2, "red") for _ in layouts]
"""


@pytest.fixture(scope="module")
def layouts():
    return hash_order(build_layouts(FOLDER, Filter())[1])[:3]


def flat(colour):
    return Image.new("RGB", (64, 64), colour)


def share(path, colour):
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return (pixels == np.array(colour)).all(-1).mean()


def test_each_output_stands_after_its_start(layouts, tmp_path):
    first = [[flat((255, 0, 0)), flat((0, 255, 0))]] * 3
    second = [[[flat((0, 0, 255))] * 2] * 2] * 3
    stages_figure(tmp_path / "stages.png", layouts, first, second)
    reds, blues = (share(tmp_path / "stages.png", c) for c in ((255, 0, 0), (0, 0, 255)))
    assert blues == pytest.approx(4 * reds, rel=0.1)


def test_a_course_has_frames_and_curves(layouts, tmp_path):
    frames = {0: flat((255, 0, 0)), 9: flat((0, 255, 0))}
    falling = {n: 1 - n / 9 for n in range(10)}
    course = frames, {"clip loss": falling, "IoU, by the guide": {0: 0.0, 5: 0.4}}
    path = tmp_path / "course.png"
    course_figure(path, layouts[0], {"one": course, "two": course})
    red, green = share(path, (255, 0, 0)), share(path, (0, 255, 0))
    assert red > 0.02
    assert red == pytest.approx(green, rel=0.1)
    assert share(path, (31, 119, 180)) > 0.0005


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


def test_the_command_says_what_it_lacks(tcig, quick, tmp_path):
    status, printed = tcig("figures", tmp_path / "none", "--profile", quick)
    assert status == 2
    assert "is no folder of runs: make one with `tcig run`" in printed.err
    status, printed = tcig("figures", tmp_path, "--profile", quick, "--out", tmp_path / "out")
    assert status == 2
    assert "has no run of real" in printed.err
