"""`tcig check` finds each way in which a method goes wrong, and says how to mend it."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from tcig import cli
from tcig.methods.base import Method
from tcig.methods.registry import find_row, load_method

HEAD = """
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
"""
GOOD = "return [picture(self.context, np.random.default_rng(s)) for s in seeds]"
WRONG = {
    "numpy": (
        "return [picture(self.context, np.random.default_rng(np.random.randint(99)))"
        " for s in seeds]",
        {"generators": "numpy's global", "deterministic": "other images the second time"},
    ),
    "torch": (
        "return [picture(self.context, np.random.default_rng(int(torch.rand(1) * 1e6)))"
        " for s in seeds]",
        {"generators": "torch's global", "deterministic": "generator made of the sample's seed"},
    ),
    "seeded-globally": (  # alike each time, and yet it moves what other code draws from
        "random.seed(seeds[0]); np.random.seed(seeds[0])\n"
        "        return [picture(self.context, np.random.default_rng(s)) for s in seeds]",
        {"generators": "numpy's and Python's global"},
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
    "deaf": (
        "return [picture(self.context, np.random.default_rng(0)) for s in seeds]",
        {"failures": "every layout got the same image"},
    ),
    "size": ("return [Image.new('RGB', (9, 9)) for s in seeds]", {"draws": "9x9"}),
    "none": ("return [None for s in seeds]", {"draws": "NoneType"}),
    "few": ("return []", {"draws": "a list of 0 for 3 layouts"}),
    "raises": ("raise RuntimeError('no model here')", {"draws": "no model here"}),
    "single": (
        "if len(layouts) < 2: raise IndexError('pairs only')\n"
        "        return [picture(self.context, np.random.default_rng(s)) for s in seeds]",
        {"batch": "pairs only"},
    ),
}


@pytest.fixture
def checked(tmp_path, capsys):
    """Status, and verdict and sentence of each check, of a `Mine` whose generate has this body."""

    def check(body, *arguments):
        path = tmp_path / "mine.py"
        path.write_text(HEAD + "        " + body + "\n")
        status = cli.main(["check", f"{path}:Mine", *arguments])
        out = capsys.readouterr().out
        lines = [
            line.split(maxsplit=2) for line in out.splitlines() if line and ":" not in line[:6]
        ]
        return status, {what: (verdict, said) for verdict, what, said in lines}, out

    return check


def test_a_good_method_conforms(checked):
    status, found, out = checked(GOOD)
    assert status == 0
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    assert len(found) == 9
    assert out.endswith("Mine: conforms\n")


@pytest.mark.parametrize("name", WRONG)
def test_each_fault_is_found_and_told(name, checked):
    body, expected = WRONG[name]
    status, found, out = checked(body)
    assert status == 1
    for what, said in expected.items():
        verdict, text = found[what]
        assert verdict == ("note" if what == "seeds" else "FAIL"), out
        assert said in text, out
    failing = {what for what, (verdict, _) in found.items() if verdict == "FAIL"}
    if name in ("seeded-globally", "one-generator", "size", "none", "few", "raises"):
        assert failing <= set(expected)


def test_options_that_cannot_be_recorded(tmp_path, capsys):
    path = tmp_path / "mine.py"
    lines = ["@dataclass(frozen=True)", "class Settings:", "    rates: complex = 1j", ""]
    text = HEAD.replace("class Mine", "\n".join(lines) + "\nclass Mine")
    text = text.replace("    weights =", "    Options = Settings\n    weights =")
    path.write_text(text + "        " + GOOD + "\n")
    assert cli.main(["check", f"{path}:Mine"]) == 1
    assert "cannot be written as JSON" in capsys.readouterr().out


def test_weights_that_are_not_named_are_noted(checked, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(HEAD.replace('    weights = {"net": "1"}\n', "") + "        " + GOOD + "\n")
    assert cli.main(["check", f"{path}:Mine"]) == 0
    assert "note record" in capsys.readouterr().out


def test_the_generators_of_the_process_are_as_random_as_before(checked):
    """The check moves them, and never sets them."""
    seen = set()
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        checked(GOOD)
        seen.add((float(torch.rand(1)), np.random.random(), random.random()))
    assert len(seen) == 1


def test_what_cannot_be_checked_is_refused(capsys):
    assert cli.main(["check", "paste", "--count", "1"]) == 2
    assert "--count counts from 2" in capsys.readouterr().err
    assert cli.main(["check", "si", "--set", "guidance"]) == 2
    assert "OPTION=VALUE" in capsys.readouterr().err


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of methods."""
    (tmp_path / "aside.py").write_text(HEAD + "        " + GOOD + "\n\nclass Other:\n    pass\n")
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
    out = tmp_path / "runs"
    assert (
        cli.main(["run", "--methods", "aside", "--limit", "1", "--no-score", "--out", str(out)])
        == 0
    )
    (image,) = out.glob("aside-*/*.png")
    assert Image.open(image).size == (64, 64)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other", "aside has no class Other that is a tcig.methods.base.Method"),
        ("gone", "gone cannot be loaded: ModuleNotFoundError"),
        ("asid", "did you mean aside?"),
    ],
)
def test_a_packages_mistakes_are_named(name, said, package, capsys):
    assert cli.main(["check", name]) == 2
    assert said in capsys.readouterr().err
