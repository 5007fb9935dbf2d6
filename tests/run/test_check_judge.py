"""`tcig check` finds each way in which a judge goes wrong, and takes a good one."""

import pytest

from tcig import cli

HEAD = """
import random
import numpy as np
import torch
from PIL import Image
from tcig.eval.judges import Judge
BEFORE
class Mine(Judge):
    identity = "one"
    def label(self, image):
        pixels = np.asarray(image).astype(int)
        return np.where(pixels[..., 0] > pixels[..., 1] + 40, 8, 0)
    def segment(self, images):
        BODY
"""
GOOD = "return [self.label(image) for image in images]"
WRONG = {
    "random": (
        "return [self.label(i) * np.random.default_rng().integers(2) for i in images]",
        "deterministic",
    ),
    "global generator": ("np.random.random(); " + GOOD, "generators"),
    "state": (
        "self.n = getattr(self, 'n', 0) + 1; return [self.label(i) * (self.n % 2) for i in images]",
        "deterministic",
    ),
    "place": ("return [self.label(i) * (n == 0) for n, i in enumerate(images)]", "order"),
    "batch": ("return [self.label(i) * (len(images) > 1) for i in images]", "batch"),
    "dtype": ("torch.set_default_dtype(torch.float64); " + GOOD, "process"),
    "size": ("assert images[0].width == 64; " + GOOD, "sizes"),
    "crop": ("return [self.label(i)[:64, :63] for i in images]", "segments"),
    "empty": (
        "maps = [self.label(i) for i in images]; assert all(m.any() for m in maps); return maps",
        "empty",
    ),
    "exits": ("exit(0)", "segments"),
    "255": ("return [np.where(self.label(i), 8, 255) for i in images]", "segments"),
    "deaf": ("return [np.full((i.height, i.width), 8) for i in images]", "maps"),
}


@pytest.fixture
def checked(tmp_path, capsys):
    """Status, and the verdict of each check, of a `Mine` with this body."""

    def check(body, before="", *arguments):
        path = tmp_path / "mine.py"
        path.write_text(HEAD.replace("BODY", body).replace("BEFORE", before))
        status = cli.main(["check", f"{path}:Mine", *arguments])
        out = capsys.readouterr().out
        lines = [line.split(maxsplit=2) for line in out.splitlines() if line[:4] in KINDS]
        return status, {what: (verdict, said) for verdict, what, said in lines}, out

    return check


KINDS = ("ok  ", "note", "FAIL")


def test_a_good_judge_conforms(checked):
    status, found, out = checked(GOOD)
    assert status == 0
    assert {verdict for verdict, _ in found.values()} == {"ok"}, out
    expected = "segments process generators deterministic order batch sizes empty maps"
    assert set(found) == set(expected.split())


@pytest.mark.parametrize("name", WRONG)
def test_each_fault_of_a_judge_is_found(name, checked):
    body, what = WRONG[name]
    status, found, out = checked(body)
    assert status == 1
    assert found[what][0] == "FAIL", out


def test_what_a_judge_does_on_import_is_found(checked):
    status, found, out = checked(GOOD, "torch.set_num_threads(3)")
    assert status == 1
    assert "torch's threads" in found["process"][1], out


def test_maps_of_a_size_of_their_own_are_noted(checked):
    status, found, _ = checked("return [self.label(i.resize((40, 40))) for i in images]")
    assert status == 0
    assert found["sizes"][0] == "note"


@pytest.mark.parametrize("name", ["miniature", "guide", "colours"])
def test_built_in_judges_conform(name, capsys):
    assert cli.main(["check", name]) == 0, capsys.readouterr().out
    assert cli.main(["check", name, "--set", "a=1"]) == 2
    assert "is a judge" in capsys.readouterr().err


def test_a_class_that_is_neither_is_refused(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("class Mine: pass\n")
    assert cli.main(["check", f"{path}:Mine"]) == 2
    assert "tcig.methods.base.Method or tcig.eval.judges.Judge" in capsys.readouterr().err
