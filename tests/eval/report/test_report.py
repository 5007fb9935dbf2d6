"""The report's numbers are the table's, its pictures the files'; refusals are one line."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from report_runs import EVIL, SAMPLES, SIDE, Upper

from tcig.cli import main
from tcig.data.files import sha256
from tcig.data.layout import read_manifest
from tcig.data.voc import COLOURS
from tcig.eval.estimates import build_result
from tcig.eval.images import Sizes
from tcig.eval.iou import reduce
from tcig.eval.judges import ColourJudge
from tcig.eval.report.data import report_data
from tcig.eval.report.page import in_script
from tcig.eval.report.pictures import Pictures, draw_pictures, thumbnail, transparent_map
from tcig.eval.results import Estimate, Scorers
from tcig.eval.rows import read_rows
from tcig.eval.score import score_images
from tcig.eval.table import cells as table_lines

MAIN = ["iou_image", "iou_foreground", "iou_region", "iou_dataset"]


@pytest.fixture(scope="module")
def manifest_path(runs):
    return runs / "layouts.jsonl"


@pytest.fixture(scope="module")
def gathered(runs, manifest_path):
    """Rows, and what the report makes of them."""
    rows = read_rows([runs], "none")
    return rows, *report_data(rows, read_manifest(manifest_path), "none", ["tcig", "report"])


def test_the_figures_are_the_tables(gathered):
    rows, data, *_ = gathered
    result = build_result(rows)
    lines = table_lines(result, MAIN)
    for found, row, line in zip(data["rows"], result.rows, lines, strict=False):
        for name in MAIN:
            figure = found["figures"][name]
            assert (figure["mean"], figure["low"]) == (
                row.figures[name].mean,
                row.figures[name].low,
            )
            bold = "**" if name == "iou_image" and found["best"] else ""
            assert f"{bold}{figure['text']}{bold} {figure['ends']}" == line[name]
        assert (found["share"]["text"], found["leakage"]["text"]) == (
            line["of ceiling"],
            line["guide - judge"],
        )
        assert (found["n"], found["failed"]) == (len(row.samples), row.failed)
    json.dumps(data, allow_nan=False)
    assert [judge["name"] for judge in data["judges"]] == ["miniature", "guide"]
    assert [judge["guided"] for judge in data["judges"]] == [[], ["tcig"]]


def test_quality_is_the_tables_too(runs, manifest_path, tmp_path, monkeypatch):
    """Where a row was measured; the others' cells are empty."""

    estimate = Estimate(mean=1.0, std=0.25, n=18, low=0.5, high=1.5)
    names = {"scorer": "x", "features": "x", "scored_by": "a CLIP", "seen_by": "a CLIP"}
    scorers = Scorers(**names, clip_guided=False)

    def build(rows, command):
        result = build_result(rows, command)
        measured = [
            row.model_copy(
                update={"figures": row.figures | {"clip_caption": estimate}, "scorers": scorers}
            )
            for row in result.rows
            if row.row == "real"
        ]
        others = [row for row in result.rows if row.row != "real"]
        places = {row.key: row for row in measured + others}
        return result.model_copy(update={"rows": [places[row.key] for row in result.rows]})

    monkeypatch.setattr("tcig.eval.report.data.build_result", build)
    rows = read_rows([runs], "none")
    data, *_ = report_data(rows, read_manifest(manifest_path), "none", ["tcig", "report"])
    assert list(data["quality"]) == ["clip_caption"]
    assert "by a CLIP" in data["quality"]["clip_caption"]
    cells = {row["name"]: row["figures"]["clip_caption"] for row in data["rows"]}
    assert cells["real"]["text"] == "1.000 ± 0.250"
    assert cells["real"]["ends"] == "[0.500, 1.500]"
    assert (cells["tcig"]["mean"], cells["tcig"]["text"]) == (None, "")
    json.dumps(data, allow_nan=False)


def test_the_parts_of_a_row_make_its_mean(gathered):
    rows, data, *_ = gathered
    whole = {"by_class": "iou_region", "by_size": "iou_region", "by_objects": "iou_image"}
    for row, found in zip(rows, data["rows"], strict=True):
        for key, name in whole.items():
            there = [part for part in found[key] if part]
            mean, _, n = reduce(row.samples, name)
            assert sum(part["n"] for part in there) == n
            total = sum(part["mean"] * part["n"] for part in there)
            assert total / n == pytest.approx(mean, abs=1e-12)
            assert all(p["low"] <= p["mean"] <= p["high"] for p in there if p["low"] is not None)


def test_sizes_and_numbers_of_objects_are_the_layouts(gathered, layouts):
    """Against loops over the layouts' own masks and the gallery's values."""
    _, data, columns, samples = gathered
    by_size, by_objects = {}, {}
    place = [column.name for column in columns].index("tcig")
    for layout, _, cells in samples:
        said = cells[place] and cells[place].get("judged", {}).get("miniature")
        if not said:
            continue
        by_objects.setdefault(len(layout.regions), []).append(said["iou"])
        for index, iou in zip(layout.classes, said["classes"], strict=True):
            share = (layout.class_map(SIDE) == index).mean()
            if iou is not None:
                bound = sum(share >= edge for edge in (0.05, 0.1, 0.2, 0.4))
                by_size.setdefault(bound, []).append(iou)
    names = [(row["name"], row["judge"]) for row in data["rows"]]
    found = data["rows"][names.index(("tcig", "miniature"))]
    for number, part in enumerate(found["by_size"]):
        values = by_size.get(number, [])
        assert (part["n"] if part else 0) == len(values)
        if part:
            assert part["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert len(by_size) > 2
    for number, part in zip(data["objects"], found["by_objects"], strict=True):
        assert part["mean"] == pytest.approx(np.mean(by_objects[number]), abs=1e-6)


def test_the_gallery_has_every_sample_and_says_which_failed(gathered, layouts):
    _, data, columns, samples = gathered
    assert [column.folder.name for column in columns] == ["mine", "real", "tcig"]
    assert [(s.layout.id, s.sample) for s in samples] == [
        (layout.id, sample) for layout in layouts for sample in range(SAMPLES)
    ]
    assert [s.sample for s in samples if s.cells[0] is None] == [2] * len(layouts)
    failed = [(s.layout.id, s.sample, s.cells[2]) for s in samples if "error" in (s.cells[2] or {})]
    assert failed == [(layouts[1].id, 2, {"error": f"RuntimeError: {EVIL}"})]
    assert data["samples"][0]["cells"][1]["judged"]["miniature"]["iou"] > 0.5


def test_only_the_failures_of_what_was_scored_are_shown(runs, layouts, manifest_path, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "tcig", folder)
    lost = [{"layout": each.id, "sample": 0, "error": "no"} for each in layouts[2:]]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lost))
    for each in layouts[2:]:
        (folder / f"{each.id}-0.png").unlink()
    (folder / f"{layouts[1].id}-2.png").write_bytes(
        (folder / f"{layouts[1].id}-1.png").read_bytes()
    )
    manifest = sha256(manifest_path)
    shutil.rmtree(folder / "scores")
    judge = ("miniature", ColourJudge())
    score_images(folder, layouts, manifest, judge, Sizes(SIDE, SIDE), limit=3)
    rows = read_rows([folder], "none")
    _, _, samples = report_data(rows, read_manifest(manifest_path), "none", [])
    found = [s.layout.id for s in samples if "error" in s.cells[0]]
    assert found == [layouts[2].id]
    assert rows[0].score.failed == 1


def test_pictures_are_the_files(gathered, layouts, runs):
    _, _, columns, samples = gathered
    text, places = draw_pictures(columns, samples, SIDE)

    def opened(place):
        first, length = place
        return Image.open(io.BytesIO(base64.b64decode(text[first : first + length], validate=True)))

    image = opened(places["images"][0][1])
    original = Image.open(runs / "real" / f"{layouts[0].id}-0.png")
    assert (image.format, image.size) == ("WEBP", (SIDE, SIDE))
    other = Image.open(runs / "real" / f"{layouts[1].id}-0.png")
    own, others = (
        np.abs(np.asarray(image, float) - np.asarray(o)).mean() for o in (original, other)
    )
    assert own < others / 2
    for place, labels in [
        (places["masks"][0], layouts[0].class_map(SIDE)),
        (places["overlays"]["miniature"][0][1], ColourJudge().segment([original])[0].labels),
        (places["overlays"]["guide"][0][1], Upper().segment([original])[0].labels),
    ]:
        pixels = np.asarray(opened(place).convert("RGBA"))
        np.testing.assert_array_equal(pixels[..., 3] > 0, labels > 0)
        np.testing.assert_array_equal(
            pixels[labels > 0][:, :3], np.array(COLOURS, np.uint8)[labels[labels > 0]]
        )
    assert places["images"][2][0] is None  # a third sample was not asked of that folder
    assert places["masks"][0] == places["masks"][1]  # two samples of a layout, one file


def test_pictures_are_reduced_and_never_enlarged():
    image = Image.new("RGB", (64, 64), "red")
    sizes = [Image.open(io.BytesIO(thumbnail(image, side))).size for side in (16, 128)]
    assert sizes == [(16, 16), (64, 64)]
    labels = np.full((64, 64), 20, np.uint8)  # no background: nothing is transparent
    found = Image.open(io.BytesIO(transparent_map(labels, 16)))
    assert found.size == (16, 16)
    assert (np.asarray(found.convert("RGBA")) == [*COLOURS[20], 255]).all()
    pictures = Pictures()
    first, other, again = (pictures.add(each) for each in (b"a", b"bcde", b"a"))
    assert first == again == (0, 4)
    assert base64.b64decode(pictures.text[4 : 4 + other[1]]) == b"bcde"


def test_data_cannot_leave_its_script():
    text = in_script({EVIL: [EVIL]})
    assert "<" not in text
    assert json.loads(text) == {EVIL: [EVIL]}
    with pytest.raises(ValueError, match="JSON"):
        in_script(float("nan"))


def test_the_command_finds_the_manifest_or_says_so(runs, manifest_path, tmp_path, capsys):
    shutil.copytree(runs / "real", tmp_path / "other" / "real")
    out = tmp_path / "new" / "report.html"
    for arguments in ([runs], [runs / "real"], [tmp_path / "other", "--layouts", manifest_path]):
        assert main(["report", *map(str, arguments), "--out", str(out)]) == 0
        assert re.search(r"report.html: 18 samples, \d+\.\d MB", capsys.readouterr().out)
        out.unlink()
    another = tmp_path / "another.jsonl"
    another.write_text("{}")
    for arguments, said in [
        ([tmp_path / "other"], "give it as --layouts FILE"),
        ([runs, "--layouts", another], "is not the manifest of these scores"),
        ([runs, "--layouts", tmp_path / "none"], "none is no file"),
        ([runs, "--thumbnail", "4"], "--thumbnail 4: give 16 to 1024 pixels"),
        ([tmp_path], "holds no scores"),
        ([], "give a folder of scored images"),
    ]:
        assert main(["report", *map(str, arguments), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert not out.exists()
