"""Scoring a folder: what is counted and stored, reused, judged again, and survives a stop."""

import json

import numpy as np
import pytest
import torch
from counting import SIZES, Counting
from PIL import Image

from tcig.cli import main
from tcig.data.masks import decode, encode, load_label_map, resize_nearest
from tcig.data.voc import COLOURS, LABELS
from tcig.eval.iou import NAMES, Samples, confusion, reduce
from tcig.eval.judges import ColourJudge, Instance, Segmentation, StagedJudge
from tcig.eval.score import Sizes, score_images
from tcig.eval.stored import dense, read_scores
from tcig.models.devices import set_tf32


def read(folder):
    ((score, rows),) = read_scores(folder)
    return score, rows


def samples(rows, field="confusion"):
    return Samples.of([dense(row[field]) for row in rows], [row["classes"] for row in rows])


@pytest.mark.parametrize("sizes", [SIZES, Sizes(64, 32), Sizes(64, 64)])
@pytest.mark.parametrize("name", NAMES)
def test_the_truth_in_colours_is_one(paint, score, sizes, name):
    folder = paint("truth", size=sizes.image)
    score(folder, ColourJudge(), sizes)
    mean, std, n = reduce(samples(read(folder)[1]), name)
    assert (mean, std) == (1, 0)
    assert n > 0


def test_grey_is_zero(paint, score):
    folder = paint("grey")
    score(folder, ColourJudge())
    found = samples(read(folder)[1])
    assert reduce(found, "iou_image") == (0, 0, 6)
    assert reduce(found, "iou_region") == (0, 0, 12)  # of 13 classes one is wholly covered
    assert reduce(found, "iou_dataset").mean == 0
    assert reduce(found, "iou_foreground") == (0, 0, 6)


def test_rows_and_label_maps_tell_the_same(paint, score, layouts):
    folder = paint("damaged", samples=2)
    place, asked = score(folder)
    _, rows = read(folder)
    assert asked == len(rows) == 12
    assert [(row["layout"], row["sample"]) for row in rows] == [
        (layout.id, sample) for layout in layouts for sample in range(2)
    ]
    known = {layout.id: layout for layout in layouts}
    for row in rows:
        layout, name = known[row["layout"]], f"{row['layout']}-{row['sample']}.png"
        labels, truth = load_label_map(place / "labels" / name), layout.class_map(32)
        pixels = np.asarray(Image.open(place / "labels" / name).convert("RGB"))
        np.testing.assert_array_equal(pixels, np.array(COLOURS)[labels])
        np.testing.assert_array_equal(dense(row["confusion"]), confusion(truth, labels))
        dropped = np.zeros((32, 32), bool)
        for region in layout.dropped:
            dropped |= decode(region.mask)
        np.testing.assert_array_equal(
            dense(row["confusion_ignoring_dropped"]),
            confusion(truth[~dropped][None], labels[~dropped][None]),
        )
        assert row["classes"] == list(layout.classes)
        assert list(row["counts"]) == ["background", *(LABELS[c] for c in layout.classes)]
        assert list(row["iou"]) == [LABELS[c] for c in layout.classes]
        for index in (0, *layout.classes):
            a, b = truth == index, labels == index
            assert row["counts"][LABELS[index]] == {
                "intersection": (a & b).sum(), "truth": a.sum(), "predicted": b.sum()
            }  # fmt: skip
            if index:
                iou = row["iou"][LABELS[index]]
                expected = (a & b).sum() / (a | b).sum()
                assert iou is None if not a.any() else abs(iou - expected) < 5.1e-7
        assert "instances" not in row
    assert [row["iou"]["dog"] for row in rows if row["layout"] == "5"] == [None, None]


def test_dropped_objects_count_only_where_they_are_not_ignored(paint, score, layouts):
    folder = paint("truth")
    layout = next(layout for layout in layouts if layout.id == "c_3")
    pixels = np.array(COLOURS, np.uint8)[layout.class_map(32)]
    pixels[:8] = COLOURS[15]  # the dropped person, over the train's first rows
    Image.fromarray(pixels).save(folder / "c_3-0.png")
    score(folder)
    row = next(row for row in read(folder)[1] if row["layout"] == "c_3")
    assert reduce(samples([row]), "iou_image").mean < 0.7
    ignoring = samples([row], "confusion_ignoring_dropped")
    assert reduce(ignoring, "iou_image_with_background") == (1, 0, 1)
    assert ignoring.confusion.sum() == 24 * 32


def test_the_sheet_shows_image_truth_and_label_map(paint, score, layouts):
    folder = paint("damaged")
    place, _ = score(folder)
    with Image.open(place / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    palette = np.array(COLOURS, np.uint8)
    for column, layout in enumerate(layouts):
        labels = load_label_map(place / "labels" / f"{layout.id}-0.png")
        image = Image.open(folder / f"{layout.id}-0.png").resize(
            (160, 160), Image.Resampling.LANCZOS
        )
        shown = [
            np.asarray(image),
            palette[layout.class_map(160)],
            palette[labels].repeat(5, 0).repeat(5, 1),
        ]
        for row, expected in enumerate(shown):
            cell = pixels[row * 164 :, column * 164 :][:160, :160]
            np.testing.assert_array_equal(cell, expected, f"{layout.id}, row {row}")


def test_what_was_scored_is_recorded(paint, score, record_run, layouts, manifest):
    folder = paint()
    record_run(folder, method="tcig")
    (folder / f"{layouts[2].id}-0.png").unlink()
    failure = {"layout": layouts[2].id, "sample": 0, "error": "RuntimeError: no"}
    (folder / "rows.jsonl").write_text(json.dumps(failure) + "\n")
    place, _ = score(folder, Counting("two"), Sizes(32, 16))
    found, rows = read(folder)
    assert place == folder / "scores" / "colours"
    assert (found.row, found.judge, found.identity) == ("tcig", "colours", "two")
    assert (found.manifest, found.image_size, found.score_size) == (manifest, 32, 16)
    assert (found.failed, len(rows), found.resized) == (1, 5, False)
    assert {load_label_map(path).shape for path in (place / "labels").iterdir()} == {(16, 16)}
    assert set(samples(rows).confusion.sum((1, 2))) == {16 * 16}
    assert score(folder, row="mine")[0] == place
    assert read(folder)[0].row == "mine"


class Finding(StagedJudge):
    """Instances at its own output size, which is not the score's."""

    identity = "finding"

    def look(self, images):
        labels = np.zeros((80, 80), np.uint8)
        labels[10:50, 20:60] = 8
        instance = Instance("cat", 0.875, encode(labels == 8))
        return [Segmentation(labels, (instance,) if i else ()) for i, _ in enumerate(images)]


def test_instances_and_label_maps_of_another_size(paint, score):
    folder = paint()
    place, _ = score(folder, Finding())
    _, rows = read(folder)
    assert [len(row["instances"]) for row in rows] == [0, 1, 1, 1, 1, 1]
    (found,) = rows[1]["instances"]
    assert (found["label"], found["score"]) == ("cat", 0.875)
    expected = np.zeros((80, 80), np.uint8)
    expected[10:50, 20:60] = 8
    np.testing.assert_array_equal(decode(found["mask"]), expected == 8)
    for path in (place / "labels").iterdir():
        np.testing.assert_array_equal(load_label_map(path), resize_nearest(expected, 32))


def test_judges_are_kept_apart(paint, score, layouts, manifest):
    folder = paint()
    score(folder)
    score_images(folder, layouts, manifest, ("another", Counting("b")), SIZES)
    assert [found.judge for found, _ in read_scores(folder)] == ["another", "colours"]


def test_the_command_scores_a_folder(paint, manifest_file, capsys):
    folder = paint("truth", size=64)
    arguments = ["score", str(folder), "--layouts", str(manifest_file), "--judge", "colours"]
    assert main([*arguments, "--name", "my row", "--limit", "3"]) == 0
    assert capsys.readouterr().out == f"{folder / 'scores' / 'colours'}\n"
    found, rows = read(folder)
    assert (found.row, found.image_size, found.score_size) == ("my row", 64, 64)
    assert len(rows) == 3
    assert reduce(samples(rows), "iou_image") == (1, 0, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--judge", "colors"], "did you mean colours?"),
        (["--profile", "maxi"], "maxi"),
        (["--layouts", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--limit", "-1"], "--limit"),
        ([], "--resize"),
    ],
)
def test_the_command_refuses_in_one_line(paint, manifest_file, capsys, change, said):
    folder = paint("truth", size=32)
    given = {"--layouts": str(manifest_file), "--judge": "colours"}
    given |= dict(zip(change[::2], change[1::2], strict=True))
    status = main(["score", str(folder), *(word for pair in given.items() for word in pair)])
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert output.err.startswith("tcig: error: ")
    assert output.err.count("\n") == 1
    assert said in output.err
    assert not list(folder.glob("scores/*/score.json"))


def test_the_command_resizes_where_told(paint, manifest_file, capsys):
    folder = paint("truth", size=32)
    arguments = ["score", str(folder), "--layouts", str(manifest_file), "--judge", "colours"]
    assert main([*arguments, "--resize"]) == 0
    assert read(folder)[0].resized


def test_the_command_takes_a_runs_own_profile(paint, manifest_file, record_run, capsys):
    folder = paint("truth")
    record_run(folder, score_size=16)
    arguments = ["score", str(folder), "--layouts", str(manifest_file)]
    assert main(arguments) == 0
    found, _ = read(folder)
    assert (found.judge, found.image_size, found.score_size) == ("colours", 32, 16)
    capsys.readouterr()
    assert main([*arguments, "--profile", "mini", "--judge", "colours"]) == 2
    assert "64x64" in capsys.readouterr().err


def test_the_command_refuses_a_runs_damaged_profile(paint, manifest_file, record_run, capsys):
    folder = paint("truth")
    record_run(folder, score_size=-1)
    assert main(["score", str(folder), "--layouts", str(manifest_file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_judge_judges_in_plain_float32_whatever_drew_the_images(paint, score):
    set_tf32(True)
    score(paint())
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
