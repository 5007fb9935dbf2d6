"""`tcig check` finds each way in which a method or a judge goes wrong, and says how to fix it."""

import pytest
from PIL import Image

from tcig import cli
from tcig.methods.base import Method
from tcig.methods.registry import find_row, load_method

METHOD = """
import random
import numpy as np
import torch
from PIL import Image
from tcig.methods.base import Method
BEFORE
def picture(context, rng):
    return Image.fromarray(rng.integers(0, 256, (context.size, context.size, 3), np.uint8))

class Mine(Method):
    weights = {"net": "1"}
    def generate(self, layouts, seeds, callback=None):
        size = self.context.size
        BODY
"""
GOOD_METHOD = "return [picture(self.context, np.random.default_rng(s)) for s in seeds]"
JUDGE = """
import numpy as np
import torch
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
WRONG = [
    (
        METHOD,
        "return [picture(self.context, np.random.default_rng(np.random.randint(99)))"
        " for s in seeds]",
        {"generators": "numpy's global", "deterministic": "the second time"},
    ),
    (  # alike each time, and yet it moves what other code draws from
        METHOD,
        "random.seed(seeds[0]); torch.manual_seed(seeds[0])\n        " + GOOD_METHOD,
        {"generators": "torch's and Python's global"},
    ),
    (
        METHOD,
        "rng = np.random.default_rng(sum(seeds))\n"
        "        return [picture(self.context, rng) for s in seeds]",
        {"order": "a generator for each sample", "batch": "what stands beside it"},
    ),
    (METHOD, "return [Image.new('RGB', (size, size)) for s in seeds]", {"failures": "of one grey"}),
    (METHOD, "return [Image.new('RGB', (9, 9)) for s in seeds]", {"draws": "9x9"}),
    (
        METHOD,
        "raise RuntimeError('no model here')",
        {"draws": "no model here (line 15 of mine.py)"},
    ),
    (
        METHOD,
        "if len(layouts) < 2: raise IndexError('pairs only')\n        " + GOOD_METHOD,
        {"batch": "pairs only"},
    ),
    (
        JUDGE,
        "return [self.label(i) * np.random.default_rng().integers(2) for i in images]",
        {"deterministic": "the second time"},
    ),
    (
        JUDGE,
        "return [self.label(i) * (n == 0) for n, i in enumerate(images)]",
        {"order": "its place in the call"},
    ),
    (
        JUDGE,
        "return [self.label(i) * (len(images) > 1) for i in images]",
        {"batch": "eval() stops"},
    ),
    (JUDGE, "torch.set_default_dtype(torch.float64); " + GOOD_JUDGE, {"process": "dtype"}),
    (JUDGE, "assert images[0].width == 64; " + GOOD_JUDGE, {"sizes": "AssertionError"}),
    (JUDGE, "return [self.label(i)[:64, :63] for i in images]", {"segments": "(64, 63)"}),
    (
        JUDGE,
        "maps = [self.label(i) for i in images]; assert all(m.any() for m in maps); return maps",
        {"empty": "AssertionError"},
    ),
    (JUDGE, "return [np.full((i.height, i.width), 8) for i in images]", {"maps": "all the same"}),
]


@pytest.fixture
def check(tmp_path, capsys):
    """Status, verdict and message by name, and output of `tcig check` on a class `Mine`."""

    def call(text, body, before=""):
        path = tmp_path / "mine.py"
        path.write_text(text.replace("BODY", body).replace("BEFORE", before))
        status = cli.main(["check", f"{path}:Mine"])
        out = capsys.readouterr().out
        lines = [line.split(maxsplit=2) for line in out.splitlines()[:-2]]
        return status, {name: (verdict, message) for verdict, name, message in lines}, out

    return call


@pytest.mark.parametrize(
    ("text", "body", "names"),
    [
        (
            METHOD,
            GOOD_METHOD,
            "record draws process generators deterministic order batch seeds failures",
        ),
        (JUDGE, GOOD_JUDGE, "segments process generators deterministic order batch sizes empty"),
    ],
    ids=["method", "judge"],
)
def test_a_good_one_conforms(check, text, body, names):
    status, results, out = check(text, body)
    assert status == 0
    assert {verdict for verdict, _ in results.values()} == {"ok"}, out
    assert list(results)[:-1] == names.split()
    assert out.endswith("Mine: conforms\n")


@pytest.mark.parametrize(("text", "body", "expected"), WRONG)
def test_each_fault_is_found_and_told(check, text, body, expected):
    status, results, out = check(text, body)
    assert status == 1
    for name, message in expected.items():
        assert results[name][0] == "FAIL", out
        assert message in results[name][1], out


def test_what_is_odd_and_allowed_is_noted(check):
    status, results, _ = check(METHOD.replace('    weights = {"net": "1"}\n', ""), GOOD_METHOD)
    assert (status, results["record"][0]) == (0, "note")
    _, results, _ = check(METHOD, GOOD_METHOD.replace("rng(s)", "rng(7)"))
    assert results["seeds"][0] == "note"
    status, results, _ = check(JUDGE, "return [self.label(i.resize((40, 40))) for i in images]")
    assert (status, results["sizes"][0]) == (0, "note")


def test_what_a_file_does_on_import_is_found(check):
    status, results, _ = check(JUDGE, GOOD_JUDGE, "torch.set_num_threads(3)")
    assert (status, "torch's threads" in results["process"][1]) == (1, True)


def test_a_built_in_judge_conforms(capsys):
    assert cli.main(["check", "miniature"]) == 0, capsys.readouterr().out


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of methods."""
    text = METHOD.replace("BODY", GOOD_METHOD).replace("BEFORE", "")
    (tmp_path / "aside.py").write_text(f"{text}\n\nclass Other:\n    pass\n")
    info = tmp_path / "aside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aside\nVersion: 1.0\n")
    points = ["aside = aside:Mine", "si = aside:Mine", "other = aside:Other", "gone = gone:Mine"]
    (info / "entry_points.txt").write_text("[tcig.methods]\n" + "\n".join(points) + "\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_an_installed_packages_method(package, tmp_path):
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
