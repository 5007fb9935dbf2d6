"""`tcig quality` with the shipped models on the embedded data."""

import io
import shutil

import pandas as pd
import pytest
from PIL import Image

from tcig.cli import main
from tcig.eval.records import read_quality

LAYOUTS = 10


@pytest.fixture(scope="module")
def runs(quick, tmp_path_factory):
    """Photographs, grey images and the truth in flat colours, scored: folders by row."""
    rows, out = ("real", "empty", "paste"), tmp_path_factory.mktemp("runs")
    arguments = ["--profile", str(quick), "--limit", str(LAYOUTS), "--out", str(out)]
    assert main(["run", "--methods", *rows, *arguments]) == 0
    return {row: next(out.glob(f"{row}-*")) for row in rows}


@pytest.fixture
def quality(tcig, runs):
    def call(*arguments):
        manifest = runs["real"].parent / "layouts-quick.jsonl"
        return tcig("quality", "--layouts", manifest, *arguments)

    return call


def test_photographs_are_better_than_nothing(tcig, runs, quality):
    out = runs["real"].parent
    status, printed = tcig("table", out, "--quality")
    assert (status, "run `tcig quality` first" in printed.err) == (2, True)
    status, printed = quality(*runs.values(), "--profile", "mini")
    assert (status, printed.err) == (0, "")
    assert printed.out.split() == [f"{folder}/quality" for folder in runs.values()]
    text = tcig("table", out, "--format", "csv")[1].out
    frame = pd.read_csv(io.StringIO(text)).drop_duplicates("row").set_index("row")
    real, empty, paste = (frame.loc[row] for row in runs)
    assert real["clip_caption"] > 1.5 > 0.8 > max(empty["clip_caption"], paste["clip_caption"])
    assert real["clip_region"] > 1.3 > 1 > max(empty["clip_region"], paste["clip_region"])
    assert abs(real["kid_clip"]) < 0.2
    assert min(empty["kid_clip"], paste["kid_clip"]) > 0.8
    assert (paste["boundary_iou"], empty["boundary_iou"]) == (1, 0)
    assert real["kid_clip_n"] == real["clip_caption_n"] == LAYOUTS
    assert not real["clip_guided"]
    shown = tcig("table", out, "--quality")[1].out.splitlines()[0]
    assert "clip_caption" in shown
    assert "boundary_iou" in shown
    assert "iou_region" not in shown
    assert "fid" not in shown


def test_any_folder_of_images_is_measured(runs, quality, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for n, path in enumerate(sorted(runs["real"].glob("*.png"))):
        shutil.copy(path, folder)
        turned = Image.open(path).resize((64, 64)).rotate(90 * n)
        turned.save(folder / path.name.replace("-0.", "-1."))
    assert quality(folder, "--limit", LAYOUTS)[0] == 0
    found = read_quality(folder)
    assert len(found.images) == 2 * LAYOUTS
    assert found.values["diversity"].values.max() > 0.01


def test_what_is_needed_is_said(refuse, tmp_path, runs):
    fresh = tmp_path / "fresh"
    shutil.copytree(runs["real"], fresh, ignore=shutil.ignore_patterns("quality"))
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    shutil.copy(next(runs["real"].glob("*.png")), lacking)
    for arguments, said in [
        ([], "give a folder of images"),
        ([tmp_path / "nowhere"], "nowhere is not a folder of images"),
        ([lacking], "is missing: generate it"),
        ([runs["real"]], "its profile, quick, names no scorer"),
        ([fresh, "--profile", "mini", "--coco", tmp_path / "nowhere"], "--download"),
    ]:
        manifest = runs["real"].parent / "layouts-quick.jsonl"
        refuse(said, "quality", "--layouts", manifest, *arguments)
