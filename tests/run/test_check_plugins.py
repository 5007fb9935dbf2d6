"""`tcig check` finds each way in which a method or a judge goes wrong, and says how to fix it."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from tcig import cli
from tcig.methods.base import Method
from tcig.methods.registry import find_row, load_method

METHOD = """
import random
from dataclasses import dataclass
import numpy as np
import torch
from PIL import Image
from tcig.methods.base import Method

def picture(context, rng):
    return Image.fromarray(rng.integers(0, 256, (context.size, context.size, 3), np.uint8))

class Mine(Method):
    weights = {"net": "1"}
    def generate(self, layouts, seeds, callback=None):
        size = self.context.size
        BODY
"""
GOOD_METHOD = "return [picture(self.context, np.random.default_rng(s)) for s in seeds]"
WRONG_METHODS = {
    "numpy": (
        "return [picture(self.context, np.random.default_rng(np.random.randint(99)))"
        " for s in seeds]",
        {"generators": "numpy's global", "deterministic": "other images the second time"},
    ),
    "seeded-globally": (  # alike each time, and yet it moves what other code draws from
        "random.seed(seeds[0]); torch.manual_seed(seeds[0])\n        " + GOOD_METHOD,
        {"generators": "torch's and Python's global"},
    ),
    "one-generator": (
        "rng = np.random.default_rng(sum(seeds))\n"
        "        return [picture(self.context, rng) for s in seeds]",
        {"order": "one generator for each sample", "batch": "its own"},
    ),
    "normalised": (
        "images = np.stack([np.asarray(picture(self.context, np.random.default_rng(s)))"
        " for s in seeds]) / 255.0\n"
        "        images = images / images.max(axis=0).clip(0.1)\n"
        "        return [Image.fromarray((i.clip(0, 1) * 255).astype(np.uint8)) for i in images]",
        {"batch": "what stands beside it"},
    ),
    "state": (
        "self.calls = getattr(self, 'calls', 0) + 1\n"
        "        return [picture(self.context, np.random.default_rng(s * self.calls))"
        " for s in seeds]",
        {"deterministic": "the second time", "order": "place"},
    ),
    "blank": (
        "return [Image.new('RGB', (size, size)) for s in seeds]",
        {"failures": "raise an exception", "seeds": "the same under another seed"},
    ),
    "size": ("return [Image.new('RGB', (9, 9)) for s in seeds]", {"draws": "9x9"}),
    "raises": ("raise RuntimeError('no model here')", {"draws": "no model here"}),
    "single": (
        "if len(layouts) < 2: raise IndexError('pairs only')\n        " + GOOD_METHOD,
        {"batch": "pairs only"},
    ),
}
JUDGE = """
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
GOOD_JUDGE = "return [self.label(image) for image in images]"
WRONG_JUDGES = {
    "random": (
        "return [self.label(i) * np.random.default_rng().integers(2) for i in images]",
        "deterministic",
    ),
    "global generator": ("np.random.random(); " + GOOD_JUDGE, "generators"),
    "place": ("return [self.label(i) * (n == 0) for n, i in enumerate(images)]", "order"),
    "batch": ("return [self.label(i) * (len(images) > 1) for i in images]", "batch"),
    "dtype": ("torch.set_default_dtype(torch.float64); " + GOOD_JUDGE, "process"),
    "size": ("assert images[0].width == 64; " + GOOD_JUDGE, "sizes"),
    "crop": ("return [self.label(i)[:64, :63] for i in images]", "segments"),
    "empty": (
        "maps = [self.label(i) for i in images]; assert all(m.any() for m in maps); return maps",
        "empty",
    ),
    "255": ("return [np.where(self.label(i), 8, 255) for i in images]", "segments"),
    "deaf": ("return [np.full((i.height, i.width), 8) for i in images]", "maps"),
}


@pytest.fixture
def check(tmp_path, capsys):
    """Status, results by name and output of `tcig check` on a class `Mine` with this body."""

    def call(body, text=METHOD, before=""):
        path = tmp_path / "mine.py"
        path.write_text(text.replace("BODY", body).replace("BEFORE", before))
        status = cli.main(["check", f"{path}:Mine"])
        out = capsys.readouterr().out
        lines = [line.split(maxsplit=2) for line in out.splitlines() if line[:4] in VERDICTS]
        return status, {name: (verdict, said) for verdict, name, said in lines}, out

    return call


VERDICTS = ("ok  ", "note", "FAIL")


@pytest.mark.parametrize(
    ("body", "text", "expected"),
    [
        (
            GOOD_METHOD,
            METHOD,
            "record draws process generators deterministic order batch seeds failures",
        ),
        (
            GOOD_JUDGE,
            JUDGE,
            "segments process generators deterministic order batch sizes empty maps",
        ),
    ],
    ids=["method", "judge"],
)
def test_a_good_one_conforms(check, body, text, expected):
    status, results, out = check(body, text)
    assert status == 0
    assert {verdict for verdict, _ in results.values()} == {"ok"}, out
    assert list(results) == expected.split()
    assert out.endswith("Mine: conforms\n")


@pytest.mark.parametrize("name", WRONG_METHODS)
def test_each_fault_of_a_method_is_found_and_told(name, check):
    body, expected = WRONG_METHODS[name]
    status, results, out = check(body)
    assert status == 1
    for check_name, said in expected.items():
        verdict, text = results[check_name]
        assert verdict == ("note" if check_name == "seeds" else "FAIL"), out
        assert said in text, out
    failing = {each for each, (verdict, _) in results.items() if verdict == "FAIL"}
    if name in ("seeded-globally", "one-generator", "size", "raises"):
        assert failing <= set(expected)


@pytest.mark.parametrize("name", WRONG_JUDGES)
def test_each_fault_of_a_judge_is_found(name, check):
    body, expected = WRONG_JUDGES[name]
    status, results, out = check(body, JUDGE)
    assert status == 1
    assert results[expected][0] == "FAIL", out


def test_what_is_odd_and_allowed_is_noted(check):
    status, results, _ = check(GOOD_METHOD, METHOD.replace('    weights = {"net": "1"}\n', ""))
    assert (status, results["record"][0]) == (0, "note")
    body = "return [self.label(i.resize((40, 40))) for i in images]"
    status, results, _ = check(body, JUDGE)
    assert (status, results["sizes"][0]) == (0, "note")


def test_what_a_judge_does_on_import_is_found(check):
    status, results, out = check(GOOD_JUDGE, JUDGE, "torch.set_num_threads(3)")
    assert status == 1
    assert "torch's threads" in results["process"][1], out


def test_options_that_cannot_be_recorded(check):
    settings = "@dataclass(frozen=True)\nclass Settings:\n    rates: complex = 1j\n\nclass Mine"
    text = METHOD.replace("class Mine", settings)
    status, _, out = check(GOOD_METHOD, text.replace("    w", "    Options = Settings\n    w", 1))
    assert status == 1
    assert "cannot be written as JSON" in out


def test_the_generators_of_the_process_are_as_random_as_before(check):
    """The check moves them, and never sets them."""
    seen = set()
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        check(GOOD_METHOD)
        seen.add((float(torch.rand(1)), np.random.random(), random.random()))
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["miniature", "colours"])
def test_built_in_judges_conform(name, capsys):
    assert cli.main(["check", name]) == 0, capsys.readouterr().out


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of methods."""
    other = "\n\nclass Other:\n    pass\n"
    (tmp_path / "aside.py").write_text(METHOD.replace("BODY", GOOD_METHOD) + other)
    info = tmp_path / "aside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aside\nVersion: 1.0\n")
    points = ["aside = aside:Mine", "si = aside:Mine", "other = aside:Other", "gone = gone:Mine"]
    (info / "entry_points.txt").write_text("[tcig.methods]\n" + "\n".join(points) + "\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_an_installed_packages_method(package, tmp_path, capsys):
    row, entry = find_row("aside")
    kind, code = load_method(entry)
    assert (row, issubclass(kind, Method), len(code)) == ("aside", True, 64)
    assert cli.main(["check", "aside"]) == 0
    with pytest.warns(UserWarning, match="tcig's own row, not the installed aside:Mine"):
        own = find_row("si")[1]
    assert load_method(own)[0].__name__ == "Inpainting", "tcig's own stays"
    arguments = ["--methods", "aside", "--limit", "1", "--no-score", "--out", str(tmp_path / "r")]
    assert cli.main(["run", *arguments]) == 0
    (image,) = tmp_path.glob("r/aside-*/*.png")
    assert Image.open(image).size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["paste", "--count", "1"], "--count must be at least 2"),
        (["colours", "--set", "a=1"], "is a judge"),
        (["CLASS"], "tcig.methods.base.Method or tcig.eval.judges.Judge"),
        (["other"], "aside has no class Other that is a tcig.methods.base.Method"),
        (["gone"], "gone cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_checked_is_refused(arguments, said, package, tmp_path, capsys):
    (tmp_path / "mine.py").write_text("class Mine: pass\n")
    path = f"{tmp_path / 'mine.py'}:Mine"
    assert cli.main(["check", *(path if each == "CLASS" else each for each in arguments)]) == 2
    assert said in capsys.readouterr().err
