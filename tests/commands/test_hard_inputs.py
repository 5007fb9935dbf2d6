"""Inputs that nobody thought of, through the commands: one sentence, or the right image."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

W, H = 96, 128


@pytest.fixture
def coco(tmp_path):
    """A COCO folder with one photograph: a red cat in the upper left, a blue dog lower right."""

    def polygon(x, y, w, h):
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]

    def build(stored=None, width=W, height=H, captions=True):
        folder = tmp_path / "coco"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "annotations").mkdir(parents=True)
        (folder / "val2017").mkdir()
        shapes = {17: (8, 20, 36, 40), 18: (50, 66, 36, 40)}
        annotations = [
            {
                "id": n,
                "image_id": 1,
                "category_id": category,
                "iscrowd": 0,
                "area": 1440,
                "segmentation": polygon(*shape),
            }
            for n, (category, shape) in enumerate(shapes.items(), 1)
        ]
        image = {"id": 1, "file_name": "1.png", "width": width, "height": height}
        categories = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
        content = {"images": [image], "annotations": annotations, "categories": categories}
        (folder / "annotations/instances_val2017.json").write_text(json.dumps(content))
        if captions:
            said = [{"id": 1, "image_id": 1, "caption": "a cat and a dog"}]
            content = {"images": [image], "annotations": said}
            (folder / "annotations/captions_val2017.json").write_text(json.dumps(content))
        if stored:
            stored(folder / "val2017" / "1.png")
        return folder

    return build


def photograph():
    """As it is seen."""
    image = Image.new("RGB", (W, H), "grey")
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 20, 43, 59), "red")
    draw.rectangle((50, 66, 85, 105), "blue")
    return image


@pytest.fixture
def real(tcig, coco, quick, tmp_path):
    """Runs `real` on a photograph stored so; its image."""

    def run(stored, **more):
        folder = coco(stored, **more)
        manifest = tmp_path / "layouts.jsonl"
        caption = [] if more.get("captions", True) else ["--caption", "None"]
        assert tcig("layouts", "--coco", folder, "--out", manifest, *caption)[0] == 0
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        arguments = ["--profile", quick, "--layouts", manifest, "--coco", folder]
        arguments += ["--no-score", "--out", tmp_path / "runs"]
        status, printed = tcig("run", "--methods", "real", *arguments)
        images = [np.asarray(Image.open(path)) for path in tmp_path.glob("runs/*/1-0.png")]
        return status, printed, images

    return run


@pytest.mark.parametrize(
    ("form", "orientation", "turn"),
    [
        ("JPEG", 1, None),
        ("PNG", 3, None),
        ("JPEG", 5, Image.Transpose.TRANSPOSE),
        ("PNG", 6, Image.Transpose.ROTATE_90),
        ("JPEG", 7, Image.Transpose.TRANSVERSE),
        ("JPEG", 8, Image.Transpose.ROTATE_270),
    ],
)
def test_a_photograph_is_turned_only_where_that_fits_its_annotation(real, form, orientation, turn):
    """EXIF's orientations 5 to 8 exchange the sides; the others fit as they are stored."""

    def stored(path):
        image, exif = photograph(), Image.Exif()
        exif[0x0112] = orientation
        image = image if turn is None else image.transpose(turn)
        image.save(path, form, exif=exif, quality=95)

    status, printed, (image,) = real(stored)
    assert status == 0, printed.err
    expected = np.asarray(photograph().crop((0, 16, W, 112)).resize((64, 64))).astype(int)
    assert np.abs(image - expected).mean() < 6


@pytest.mark.parametrize("size", [(H, W), (W + 1, H)])
def test_a_photograph_of_other_sides_is_a_failed_sample(real, size):
    status, printed, images = real(lambda path: photograph().resize(size).save(path))
    assert status == 1
    assert not images
    assert f"{size[0]}x{size[1]}" in printed.err
    assert f"{W}x{H}" in printed.err


def test_a_photograph_that_is_a_pipe_or_no_picture_is_a_failed_sample(real):
    for stored in (os.mkfifo, lambda path: path.write_bytes(b"x" * 99), lambda path: path.touch()):
        status, printed, images = real(stored)
        assert (status, images) == (1, [])
        assert "1.png cannot be read" in printed.err


def test_without_captions_only_rows_that_need_none_are_run(real, tcig, quick, tmp_path):
    status, printed, (image,) = real(lambda path: photograph().save(path), captions=False)
    assert status == 0, printed.err
    assert image.shape == (64, 64, 3)
    arguments = ["--profile", quick, "--layouts", tmp_path / "layouts.jsonl", "--no-score"]
    status, printed = tcig("run", "--methods", "paste", "text-only", *arguments)
    assert status == 2
    assert "text-only needs captions" in printed.err
    status, printed = tcig("sweep", "--row", "text-only", "--vary", "steps=1", *arguments[:4])
    assert status == 2
    assert "needs captions" in printed.err


def edit_annotations(folder, edit):
    path = folder / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    edit(*content["annotations"], content["annotations"])
    path.write_text(json.dumps(content))


@pytest.fixture
def calibrate(tcig, coco, quick, tmp_path):
    """Calibrates on the photograph with edited annotations: the message and the table."""

    def run(edit, *more):
        folder = coco(lambda path: photograph().save(path), captions=False)
        edit_annotations(folder, edit)
        arguments = ["--coco", folder, "--profile", quick, "--out", tmp_path / "out", *more]
        status, printed = tcig("calibrate", *arguments)
        assert status == 0, printed.err
        frame = pd.read_csv(tmp_path / "out" / "calibration.csv")
        shutil.rmtree(tmp_path / "out")
        return printed.err, frame

    return run


def test_calibrate_says_which_reading_leaves_nothing(calibrate):
    def add_small(cat, _, annotations):
        shape = [[1, 1, 3, 1, 3, 3, 1, 3]]
        annotations.append(cat | {"id": 9, "area": 4, "segmentation": shape})

    said, frame = calibrate(add_small)
    assert "the reading images leaves no layouts" in said
    assert set(frame["reading"]) == {"masks", "masks, people dropped"}
    for name in ("mean", "std"):
        assert (frame[f"{name}_distance"] <= frame["distance"] + 1e-12).all()


@pytest.mark.parametrize(("sliver", "left_out"), [(0.4, 0), (0.9, 1)])
def test_calibrate_leaves_slivers_out_and_counts_them(calibrate, sliver, left_out):
    """About half of the cat is visible below the dog."""

    def move_below(cat, *_):
        cat["segmentation"], cat["area"] = [[40, 50, 90, 50, 90, 110, 40, 110]], 3000

    _, frame = calibrate(move_below, "--sliver", sliver)
    assert set(frame["slivers"]) == {left_out}
    regions = frame[(frame["reduction"] == "iou_region") & (frame["reading"] == "masks")]
    assert set(regions["n"]) == {2 - left_out}


def test_calibrate_without_a_photograph_is_one_sentence(tcig, coco, quick, tmp_path):
    folder = coco(lambda path: path.write_bytes(b"nothing"))
    arguments = ["--coco", folder, "--profile", quick, "--out", tmp_path / "out"]
    status, printed = tcig("calibrate", *arguments)
    assert status == 2
    assert "no photograph could be scored" in printed.err
    assert "Traceback" not in printed.err


@pytest.fixture
def scored(tcig, quick, tmp_path):
    """Runs of `paste` and `empty`, scored."""
    out = tmp_path / "runs"
    arguments = ["--profile", quick, "--limit", 2, "--out", out]
    assert tcig("run", "--methods", "paste", "empty", *arguments)[0] == 0
    return out


def test_two_runs_of_a_row_are_not_chosen_between(tcig, scored, quick, tmp_path):
    (folder,) = scored.glob("paste-*")
    shutil.copytree(folder, scored / "paste-other")
    status, printed = tcig("figures", scored, "--profile", quick, "--out", tmp_path / "f")
    assert status == 2
    assert "both runs of paste" in printed.err


def test_scores_of_another_schema_and_other_weights_are_told_apart(tcig, scored):
    paths = sorted(scored.glob("*/scores/colours/score.json"))
    record = json.loads(paths[0].read_text())
    paths[0].write_text(json.dumps(record | {"schema_version": 99}))
    status, printed = tcig("table", scored)
    assert status == 2
    assert "is not a score of this version" in printed.err
    for number, path in enumerate(paths):
        path.write_text(json.dumps(record | {"identity": f"0123456789ab{number}"}))
    status, printed = tcig("table", scored)
    assert status == 2
    assert "differ in identity" in printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["figures", "RUNS", "--count", "-1"], "--count must be at least 1"),
        (["report", "RUNS", "--out", "."], "is a folder"),
        (["calibrate", "--coco", "c", "--sliver", "1.5"], "share from 0 to 1"),
        (
            ["sweep", "--row", "si", "--vary", "guidance=1", "--limit", "-3"],
            "--limit must be at least 1",
        ),
        (["calibrate", "--coco", "c", "--limit", "0"], "--limit must be at least 1"),
        (["quality", "RUNS", "--layouts", "x", "--limit", "0"], "--limit must be at least 1"),
        (["run", "--methods", "empty", "--profile", "/dev/zero.toml"], "no profile"),
        (["compare", "/dev/zero", "/dev/zero"], "not a regular file"),
        (["layouts", "--export", "e", "--layouts", "/dev/zero"], "not a regular file"),
        (["draw", "--prompt", "x", "--mask", "/dev/zero", "--out", "o.png"], "not a regular file"),
    ],
)
def test_arguments_that_cannot_be(tcig, scored, arguments, said):
    status, printed = tcig(*(str(scored) if each == "RUNS" else each for each in arguments))
    assert status == 2
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_an_ascii_terminal_and_names_that_are_no_unicode(scored, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [sys.executable, "-m", "tcig.cli"]
    done = subprocess.run([*command, "table", scored], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"1.000 \\xb1 0.000" in done.stdout
    odd = os.fsencode(tmp_path) + b"/odd-\xff"
    done = subprocess.run([*command, "table", odd], capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith(b"tcig: error: argument")
    assert b"Traceback" not in done.stderr


def test_a_device_that_is_not_there_is_one_sentence(tcig, quick, scored, tmp_path, monkeypatch):
    own = tmp_path / "own.toml"
    own.write_text(quick.read_text() + '[compute]\non = "mps"\n')
    for arguments in (
        ["run", "--methods", "text-only"],
        ["check", "text-only"],
        ["sweep", "--row", "text-only", "--vary", "steps=1"],
    ):
        status, printed = tcig(*arguments, "--profile", own)
        assert status == 2
        assert "the device mps was asked for, and torch finds none" in printed.err
    monkeypatch.setenv("TCIG_DEVICE", "cuda")
    scoring = [next(scored.glob("paste-*")), "--layouts", next(scored.glob("*.jsonl"))]
    status, printed = tcig("score", *scoring, "--judge", "miniature")
    assert status == 2
    assert "the device cuda was asked for" in printed.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("base = 3", "base must be the name of a profile"),
        ("size = 1000000000", "size"),
        ("judges = [3]", "judges"),
        ("[methods.text-only]\nguidnce = 3", "no option 'guidnce' (did you mean guidance?)"),
    ],
)
def test_profiles_that_cannot_be(tcig, tmp_path, line, said):
    path = tmp_path / "own.toml"
    path.write_text(line if line.startswith("base") else f'base = "smoke"\n{line}\n')
    for arguments in (["run", "--check", "--methods", "text-only"], ["plan"]):
        status, printed = tcig(*arguments, "--profile", path)
        assert status == 2
        assert said in printed.err
