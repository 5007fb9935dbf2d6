"""The reference rows against independent arithmetic, and the registry."""

import numpy as np
import pytest
from PIL import Image

from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.files import InputError, sha256
from tcig.methods.base import Context, NoOptions
from tcig.methods.references import Empty, Paste, Real
from tcig.methods.registry import find_row, load_method
from tcig.models.weights import identity_of
from tcig.profiles import load_profile
from tcig.run.spec import choose, prepare

PHOTOGRAPH = "val2017/1.png"
CAT, DOG, BACKGROUND = (64, 0, 0), (64, 0, 128), (0, 0, 0)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def real(tmp_path, box_layout):
    """The row `real` of a photograph of these pixels, at a size."""
    (tmp_path / "val2017").mkdir()

    def draw(pixels, size):
        Image.fromarray(pixels).save(tmp_path / PHOTOGRAPH)
        layout = box_layout(min(pixels.shape[:2]), image=PHOTOGRAPH, cat=(0, 1, 0, 1))
        (image,) = Real(Context(size, tmp_path), NoOptions()).generate([layout], [0])
        return image

    return draw


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (8, 11, slice(0, 8), slice(1, 9)),  # a margin of 3: 1 to the left, 2 to the right
        (13, 8, slice(2, 10), slice(0, 8)),
        (8, 8, slice(0, 8), slice(0, 8)),
    ],
)
@pytest.mark.parametrize("size", [8, 5, 16])
def test_real_is_the_centre_square_resized_by_lanczos(real, height, width, rows, columns, size):
    pixels = noise(height, width)
    square = Image.fromarray(np.ascontiguousarray(pixels[rows, columns]))
    expected = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
    image = real(pixels, size)
    assert (image.mode, image.size) == ("RGB", (size, size))
    assert (np.asarray(image) == expected).all()
    if size == 8:
        assert (np.asarray(image) == pixels[rows, columns]).all()


def test_real_of_a_grey_photograph_is_rgb(real):
    pixels = noise(6, 6)[..., 0]
    assert (np.asarray(real(pixels, 6)) == pixels[..., None]).all()


def test_paste_is_the_class_map_in_voc_colours_the_smaller_object_on_top(box_layout):
    layout = box_layout(4, dog=(0, 2, 0, 2), cat=(0, 3, 0, 4))
    (image,) = Paste(Context(8), NoOptions()).generate([layout], [0])
    assert (image.mode, image.size) == ("RGB", (8, 8))
    expected = np.zeros((8, 8, 3), np.uint8)
    expected[:6], expected[:4, :4] = CAT, DOG
    assert (np.asarray(image) == expected).all()
    assert image.getpixel((0, 7)) == BACKGROUND


def test_empty_is_grey_and_no_colour_of_the_palette(box_layout):
    images = Empty(Context(8), NoOptions()).generate([box_layout(4, cat=(0, 1, 0, 1))] * 3, [0] * 3)
    for image in images:
        assert (image.mode, image.size) == ("RGB", (8, 8))
        assert image.getcolors() == [(64, (127, 127, 127))]


@pytest.mark.parametrize("name", ["real", "paste", "empty"])
def test_references_draw_a_layout_alike_whatever_stands_beside_it(name, box_layout):
    row, entry = find_row(name)
    assert row == name
    kind, _ = load_method(entry)
    layouts = [
        box_layout(128, image="val2017/000000000001.png", cat=(0, 9, 0, 9)),
        box_layout(128, image="val2017/000000000002.png", dog=(5, 90, 7, 80)),
    ]
    method = kind(Context(32, EMOJI), kind.Options())
    both = [image.tobytes() for image in method.generate(layouts, [1, 2])]
    turned = method.generate(layouts[::-1], [2, 1])
    alone = [
        method.generate([layout], [seed])[0] for layout, seed in zip(layouts, (1, 2), strict=True)
    ]
    assert both == [image.tobytes() for image in alone]
    assert both == [image.tobytes() for image in turned][::-1]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("rael", r"unknown method 'rael' \(did you mean real\?\); available: real, paste, empty"),
        ("qqqq", "unknown method 'qqqq'; available: real, paste.*, or path/to/file.py:Class"),
        ("", "unknown method ''"),
    ],
)
def test_unknown_names(name, match):
    with pytest.raises(InputError, match=match):
        find_row(name)


GOOD = """
from dataclasses import dataclass
from tcig.methods.base import Method

@dataclass(frozen=True)
class Settings:
    steps: int = 1

class Mine(Method):
    Options = Settings
    def generate(self, layouts, seeds, callback=None):
        return []
"""


def test_a_marked_option_names_weights_once(tmp_path):
    """For fetching and for the run's record, only where it is used."""
    path = tmp_path / "mine.py"
    marks = """from typing import Annotated
from tcig.methods.base import Weights
"""
    options = """    steps: int = 1
    models: Annotated[tuple[str, ...], Weights("model")] = ("mini:clip", "mini:vqgan")

    def uses(self, option):
        return self.steps > 0
"""
    path.write_text(marks + GOOD.replace("    steps: int = 1\n", options))
    for steps, names in ((1, ("mini:clip", "mini:vqgan")), (0, ())):
        settings = {"steps": steps}
        assert choose(f"{path}:Mine", load_profile("mini"), settings).sources == names
        spec, _ = prepare(f"{path}:Mine", load_profile("mini"), None, "0" * 64, settings)
        assert spec.weights == {f"model {name}": identity_of(name) for name in names}


def test_files_of_the_same_name_do_not_mix(tmp_path):
    kinds = []
    for folder, steps in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "mine.py"
        path.write_text(GOOD.replace("= 1", f"= {steps}"))
        kinds.append(load_method(find_row(f"{path}:Mine")[1])[0])
    assert [kind.Options().steps for kind in kinds] == [3, 4]


def test_what_a_file_imports_of_its_folder_is_part_of_its_code(tmp_path):
    path, helper = tmp_path / "mine.py", tmp_path / "my_helper_one.py"
    helper.write_text("def steps():\n    from my_parts.inner import deep\n    return deep.STEPS\n")
    part = tmp_path / "my_parts" / "inner"
    part.mkdir(parents=True)  # my_parts has no __init__.py
    (part / "__init__.py").write_text("from . import beside\n")
    (part / "beside.py").write_text("")
    (part / "deep.py").write_text("from .beside import *\nSTEPS = 7\n")
    for name in ("numpy", "tcig"):  # a folder of that name is no module
        (tmp_path / name).mkdir()
    path.write_text(f"import json, numpy\nfrom my_helper_one import steps\n{GOOD}")
    alone = tmp_path / "alone.py"
    alone.write_text(GOOD)

    def code(path):
        return load_method(find_row(f"{path}:Mine")[1])[1]

    assert code(alone) == sha256(alone)
    before = code(path)
    assert before == code(path)
    for changed in (part / "deep.py", part / "__init__.py", part / "beside.py", helper):
        changed.write_text(changed.read_text() + "# changed\n")
        assert code(path) != before
        before = code(path)
    (tmp_path / "unused.py").write_text("")
    assert code(path) == before


@pytest.mark.parametrize("lazily", [False, True])
def test_a_helper_that_another_of_its_name_hides_is_refused(tmp_path, lazily):
    helper = f"my_helper_three_{lazily}"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{helper}.py").write_text("")
        path = tmp_path / folder / "mine.py"
        text = f"def later():\n    import {helper}\n" if lazily else f"import {helper}\n"
        path.write_text(text + GOOD)
        if folder == "one":
            load_method(find_row(f"{path}:Mine")[1])
    with pytest.raises(
        InputError, match=rf"imports {helper}, which would be .*one/.*two/.*: rename"
    ):
        load_method(find_row(f"{path}:Mine")[1])


@pytest.mark.parametrize(
    ("text", "name", "match"),
    [
        (None, "Mine", "no file .*mine.py"),
        (GOOD, "Yours", "no class Yours .*; there are Mine"),
        (GOOD, "Settings", "no class Settings that is a tcig.methods.base.Method"),
        (GOOD, "dataclass", "no class dataclass"),
        (GOOD, "", r"names no class: give it as .*mine\.py:Class"),
        ("def broken(:\n", "Mine", "mine.py.*invalid syntax"),
        ("import no_such_module_at_all\n", "Mine", "mine.py.*no_such_module_at_all"),
        ("1 / 0\n", "Mine", "mine.py.*division by zero .line 1 of mine.py."),
        (GOOD.replace("generate", "draw"), "Mine", "Mine.*generate"),
        (GOOD, "Method", "Method"),
        (GOOD.replace("Mine", "real"), "real", "row real of its own"),
        (
            GOOD + "    def __init__(self, context, options):\n        [][1]\n",
            "Mine",
            "set up.*range .line 14 of mine.py.",
        ),
        (
            GOOD + "    def __init__(self, options):\n        pass\n",
            "Mine",
            r"Mine: its __init__ must take \(self, context, options\)",
        ),
        ("raise SystemExit(3)\n", "Mine", "cannot be loaded"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, text, name, match):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        prepare(f"{path}:{name}", load_profile("mini"), None, "0" * 64)
    assert "\n" not in str(caught.value)
    assert "  " not in str(caught.value)
