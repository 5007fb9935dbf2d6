"""`tcig draw`: files, seeds and refusals."""

import numpy as np
import pytest
from PIL import Image, ImageDraw


@pytest.fixture
def mask(tmp_path):
    image = Image.new("RGB", (90, 90), "white")
    ImageDraw.Draw(image).ellipse((10, 10, 70, 60), "red")
    path = tmp_path / "mask.png"
    image.save(path)
    return path


@pytest.fixture
def draw(tcig, quick, mask, tmp_path):
    def call(*extra):
        settings = ("--profile", quick, "--mask", mask, "--out", tmp_path / "out" / "cat.png")
        return tcig("draw", "--prompt", "a cat", "--legend", "red=cat", *settings, *extra)

    return call


def drawn(folder):
    return {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}


def test_samples_stages_and_outputs_are_numbered_and_differ(draw, tmp_path):
    status, printed = draw("--samples", 2, "--outputs", 2)
    assert status == 0
    names = [f"cat-{n}{end}.png" for n in (0, 1) for end in ("-stage1", "-0", "-1")]
    assert printed.out.splitlines() == [str(tmp_path / "out" / name) for name in names]
    files = drawn(tmp_path / "out")
    assert sorted(files) == sorted(names)
    assert len({image.tobytes() for image in files.values()}) == len(names)
    assert draw()[1].out.split() == [str(tmp_path / "out" / f"cat{x}.png") for x in ("-stage1", "")]


def test_a_sample_has_its_seed_whatever_else_is_drawn(draw, tmp_path):
    draw("--samples", 2, "--method", "multidiffusion")
    both = drawn(tmp_path / "out")
    draw("--seed", 1, "--method", "multidiffusion")
    alone = drawn(tmp_path / "out")["cat.png"].astype(int)
    assert np.abs(alone - both["cat-1.png"]).max() <= 2
    assert np.abs(alone - both["cat-0.png"]).max() > 20


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--method", "multidiffusion", "--outputs", 2), "multidiffusion has no two stages"),
        (("--out", "cat.jpg"), "images are PNG"),
        (("--set", "strength=1"), "no option 'strength'"),
        (("--method", "tcg"), "did you mean tcig"),
        (("--legend", "blue=cat"), "colours that the legend lacks: #ff0000"),
        (("--prompt", "half \udcff"), "not UTF-8"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(draw, tmp_path, extra, said):
    status, printed = draw(*extra)
    assert status == 2
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.glob("out/*.png"))
