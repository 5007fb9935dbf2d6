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
SMALL = {"id": 9, "area": 4, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}
BELOW = [[40, 50, 90, 50, 90, 110, 40, 110]]


@pytest.fixture
def coco(tmp_path):
    """Makes a COCO folder of one photograph: a red cat upper left, a blue dog lower right."""

    def annotation(n, category, x, y, w=36, h=40):
        corners = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        own = {"id": n, "image_id": 1, "category_id": category, "iscrowd": 0, "area": w * h}
        return own | {"segmentation": corners}

    def build(store, captions=True, edit=lambda cat, dog: [cat, dog]):
        folder = tmp_path / "coco"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "annotations").mkdir(parents=True)
        (folder / "val2017").mkdir()
        images = [{"id": 1, "file_name": "1.png", "width": W, "height": H}]
        objects = edit(annotation(1, 17, 8, 20), annotation(2, 18, 50, 66))
        categories = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
        content = {"images": images, "annotations": objects, "categories": categories}
        (folder / "annotations/instances_val2017.json").write_text(json.dumps(content))
        if captions:
            content["annotations"] = [{"id": 1, "image_id": 1, "caption": "a cat and a dog"}]
            (folder / "annotations/captions_val2017.json").write_text(json.dumps(content))
        store(folder / "val2017" / "1.png")
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
    """Runs `real` on a photograph stored so: status, what was printed, and its image."""

    def run(store, captions=True):
        folder, manifest = coco(store, captions), tmp_path / "layouts.jsonl"
        caption = [] if captions else ["--caption", "None"]
        assert tcig("layouts", "--coco", folder, "--out", manifest, *caption)[0] == 0
        arguments = ["--profile", quick, "--layouts", manifest, "--coco", folder, "--no-score"]
        status, printed = tcig("run", "--methods", "real", *arguments, "--out", tmp_path / "runs")
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


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (lambda path: photograph().resize((H, W)).save(path), f"{H}x{W}"),
        (lambda path: photograph().resize((W + 1, H)).save(path), f"{W + 1}x{H}"),
        (os.mkfifo, "1.png cannot be read"),
        (lambda path: path.write_bytes(b"x" * 99), "1.png cannot be read"),
        (lambda path: path.touch(), "1.png cannot be read"),
    ],
)
def test_a_photograph_of_other_sides_or_none_is_a_failed_sample(real, store, said):
    status, printed, images = real(store)
    assert (status, images) == (1, [])
    assert said in printed.err


def test_without_captions_only_rows_that_need_none_are_run(real, refuse, quick, tmp_path):
    status, printed, (image,) = real(lambda path: photograph().save(path), captions=False)
    assert status == 0, printed.err
    assert image.shape == (64, 64, 3)
    arguments = ["--profile", quick, "--layouts", tmp_path / "layouts.jsonl", "--no-score"]
    refuse("text-only needs captions", "run", "--methods", "paste", "text-only", *arguments)


@pytest.mark.parametrize(
    ("edit", "sliver", "left_out", "readings"),
    [
        (lambda cat, dog: [cat, dog, cat | SMALL], 0, 0, 2),
        # about half of the cat is visible below the dog
        (lambda cat, dog: [cat | {"segmentation": BELOW, "area": 3000}, dog], 0.4, 0, 4),
        (lambda cat, dog: [cat | {"segmentation": BELOW, "area": 3000}, dog], 0.9, 1, 4),
    ],
)
def test_calibrate_says_what_readings_and_slivers_leave_out(
    tcig, coco, quick, tmp_path, edit, sliver, left_out, readings
):
    folder, out = coco(lambda path: photograph().save(path), False, edit), tmp_path / "out"
    arguments = ["--coco", folder, "--profile", quick, "--out", out, "--sliver", sliver]
    status, printed = tcig("calibrate", *arguments)
    assert status == 0
    frame = pd.read_csv(out / "calibration.csv")
    assert len(set(frame["reading"])) == readings
    assert ("the reading images leaves no layouts" in printed.err) == (readings == 2)
    for name in ("mean", "std"):
        assert (frame[f"{name}_distance"] <= frame["distance"] + 1e-12).all()
    assert set(frame["slivers"]) == {left_out}
    regions = frame[(frame["reduction"] == "iou_region") & (frame["reading"] == "masks")]
    assert set(regions["n"]) == {2 - left_out}


def test_calibrate_without_a_photograph_is_one_sentence(tcig, coco, quick, tmp_path):
    folder = coco(lambda path: path.write_bytes(b"nothing"))
    arguments = ["--coco", folder, "--profile", quick, "--out", tmp_path / "out"]
    status, printed = tcig("calibrate", *arguments)
    assert status == 2
    assert "no photograph could be scored" in printed.err


@pytest.fixture
def scored(tcig, quick, tmp_path):
    """Runs of `paste` and `empty`, scored."""
    out = tmp_path / "runs"
    arguments = ["--profile", quick, "--limit", 2, "--out", out]
    assert tcig("run", "--methods", "paste", "empty", *arguments)[0] == 0
    return out


def test_scores_of_another_schema_are_refused(refuse, scored):
    path = next(scored.glob("*/scores/colours/score.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    refuse("is not a score of this version", "table", scored)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["figures", "RUNS", "--count", "-1"], "--count must be at least 1"),
        (["figures", "RUNS", "--profile", "QUICK"], "both runs of paste"),
        (["report", "RUNS", "--out", "."], "is a folder"),
        (["calibrate", "--coco", "c", "--sliver", "1.5"], "share from 0 to 1"),
        (["run", "--methods", "empty", "--profile", "/dev/zero.toml"], "no profile"),
        (["compare", "/dev/zero", "/dev/zero"], "not a regular file"),
        (["layouts", "--export", "e", "--layouts", "/dev/zero"], "not a regular file"),
        (["draw", "--prompt", "x", "--mask", "/dev/zero", "--out", "o.png"], "not a regular file"),
    ],
)
def test_arguments_that_cannot_be(refuse, quick, scored, arguments, said):
    shutil.copytree(next(scored.glob("paste-*")), scored / "paste-other")
    names = {"RUNS": scored, "QUICK": quick}
    refuse(said, *(names.get(each, each) for each in arguments))


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


def test_a_device_that_is_not_there_is_one_sentence(refuse, quick, scored, tmp_path, monkeypatch):
    own = tmp_path / "own.toml"
    own.write_text(quick.read_text() + '[compute]\non = "mps"\n')
    for arguments in (
        ["run", "--methods", "text-only"],
        ["check", "text-only"],
        ["sweep", "--row", "text-only", "--vary", "steps=1"],
    ):
        said = "the device mps was asked for, and torch finds none"
        refuse(said, *arguments, "--profile", own)
    monkeypatch.setenv("TCIG_DEVICE", "cuda")
    scoring = [next(scored.glob("paste-*")), "--layouts", next(scored.glob("*.jsonl"))]
    refuse("the device cuda was asked for", "score", *scoring, "--judge", "miniature")
