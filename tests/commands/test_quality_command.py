"""`tcig quality` with the shipped models on the embedded data."""

import io

import pandas as pd
import pytest
from PIL import Image

from tcig.data.emoji import FOLDER as EMOJI
from tcig.eval.quality_records import read_quality

LAYOUTS = 10


@pytest.fixture
def runs(tcig, quick, tmp_path):
    """Photographs, grey images and the truth in flat colours, scored."""
    rows = ("real", "empty", "paste")
    arguments = ("--profile", quick, "--limit", LAYOUTS, "--out", tmp_path / "runs")
    status, printed = tcig("run", "--methods", *rows, *arguments)
    assert status == 0
    return dict(zip(rows, printed.out.split(), strict=True))


@pytest.fixture
def quality(tcig, tmp_path):
    def call(*arguments):
        manifest = tmp_path / "runs" / "layouts-quick.jsonl"
        return tcig("quality", "--layouts", manifest, *arguments)

    return call


def test_photographs_are_better_than_nothing(tcig, runs, quality, tmp_path):
    status, printed = tcig("table", tmp_path / "runs", "--quality")
    assert (status, "run `tcig quality` first" in printed.err) == (2, True)
    status, printed = quality(*runs.values(), "--profile", "mini")
    assert (status, printed.err) == (0, "")
    assert printed.out.split() == [f"{folder}/quality" for folder in runs.values()]
    text = tcig("table", tmp_path / "runs", "--format", "csv")[1].out
    frame = pd.read_csv(io.StringIO(text)).drop_duplicates("row").set_index("row")
    real, empty, paste = (frame.loc[row] for row in runs)
    assert real["clip_caption"] > 1.5 > 0.8 > max(empty["clip_caption"], paste["clip_caption"])
    assert real["clip_region"] > 1.3 > 1 > max(empty["clip_region"], paste["clip_region"])
    assert abs(real["kid_clip"]) < 0.2
    assert min(empty["kid_clip"], paste["kid_clip"]) > 0.8
    assert (paste["boundary_iou"], empty["boundary_iou"]) == (1, 0)
    assert real["kid_clip_n"] == real["clip_caption_n"] == LAYOUTS
    assert not real["clip_guided"]
    shown = tcig("table", tmp_path / "runs", "--quality")[1].out.splitlines()[0]
    assert "clip_caption" in shown
    assert "boundary_iou" in shown
    assert "iou_region" not in shown
    assert "fid" not in shown


def test_a_run_goes_by_its_own_profile_and_one_without_scorer_is_refused(runs, quality):
    status, printed = quality(runs["real"])
    assert status == 2
    assert "its profile, quick, names no scorer" in printed.err
    assert read_quality(EMOJI) is None


def test_any_folder_of_images_is_measured(runs, quality, tmp_path, tcig):
    folder = tmp_path / "mine"
    folder.mkdir()
    for n, path in enumerate(sorted((tmp_path / "runs").glob("real-*/*.png"))[:4]):
        Image.open(path).save(folder / path.name)
        Image.open(path).resize((64, 64)).rotate(90 * n).save(
            folder / path.name.replace("-0.", "-1.")
        )
    status, printed = quality(folder)
    assert (status, printed.out) == (2, "")
    assert "is missing: generate it" in printed.err
    for layout in {path.name.split("-")[0] for path in (tmp_path / "runs").glob("real-*/*.png")}:
        for sample in (0, 1):
            path = folder / f"{layout}-{sample}.png"
            if not path.exists():
                Image.new("RGB", (64, 64), (200, 30 * sample, 9)).save(path)
    status, printed = quality(folder, "--limit", LAYOUTS)
    assert status == 0
    found = read_quality(folder)
    assert len(found.images) == 2 * LAYOUTS
    assert found.values["diversity"].values.max() > 0.01


def test_folders_and_layouts_are_needed(tcig, quality, tmp_path, runs):
    status, printed = quality()
    assert (status, "give a folder of images" in printed.err) == (2, True)
    status, printed = quality(tmp_path / "nowhere")
    assert (status, "nowhere is not a folder of images" in printed.err) == (2, True)
    status, printed = tcig("quality", runs["real"], "--layouts", tmp_path / "gone.jsonl")
    assert status == 2
    status, printed = quality(runs["real"], "--profile", "mini", "--coco", tmp_path / "nowhere")
    assert (status, "--download" in printed.err) == (2, True)
    assert printed.err.count("\n") == 1
