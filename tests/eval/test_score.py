"""Scoring a folder: what is counted and stored, reused, judged again, and survives a stop."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import CATS, SIZES, Counting, Finding

from tcig.cli import main
from tcig.data.masks import decode, load_label_map, resize_nearest
from tcig.data.voc import COLOURS
from tcig.eval import images as images_module
from tcig.eval.images import Sizes
from tcig.eval.iou import NAMES, confusion, reduce
from tcig.eval.judges import ColourJudge
from tcig.eval.records import dense, read_scores, samples_of
from tcig.eval.score import RemoteJudge, judge_batch, score_images
from tcig.models.devices import set_tf32


def read(folder):
    ((score, records),) = read_scores(folder)
    return score, records


def stored(folder):
    """All that a scoring leaves, in the order of the samples."""
    score, records = read(folder)
    labels = folder / "scores" / score.judge / "labels"
    return score, records, {path.name: path.read_bytes() for path in labels.iterdir()}


@pytest.mark.parametrize("sizes", [SIZES, Sizes(64, 32), Sizes(64, 64)])
def test_the_truth_in_colours_is_one_and_grey_is_zero(paint, score, sizes):
    truth, grey = (paint(what, what, size=sizes.image) for what in ("truth", "grey"))
    for folder in (truth, grey):
        score(folder, ColourJudge(), sizes)
    for name in NAMES:
        mean, std, n = reduce(samples_of(read(truth)[1], "none"), name)
        assert (mean, std) == (1, 0)
        assert n > 0
    counts = samples_of(read(grey)[1], "none")
    assert reduce(counts, "iou_image") == reduce(counts, "iou_foreground") == (0, 0, 6)
    assert reduce(counts, "iou_region") == (0, 0, 12)  # of 13 classes one is wholly covered


def test_records_and_label_maps_agree(paint, score, layouts):
    folder = paint("damaged", samples=2)
    place, asked = score(folder)
    _, records = read(folder)
    assert asked == len(records) == 12
    assert [(record["layout"], record["sample"]) for record in records] == [
        (layout.id, sample) for layout in layouts for sample in range(2)
    ]
    known = {layout.id: layout for layout in layouts}
    for record in records:
        layout, name = known[record["layout"]], f"{record['layout']}-{record['sample']}.png"
        labels, truth = load_label_map(place / "labels" / name), layout.class_map(32)
        pixels = np.asarray(Image.open(place / "labels" / name).convert("RGB"))
        np.testing.assert_array_equal(pixels, np.array(COLOURS)[labels])
        np.testing.assert_array_equal(dense(record["confusion"]), confusion(truth, labels))
        dropped = np.zeros((32, 32), bool)
        for region in layout.dropped:
            dropped |= decode(region.mask)
        np.testing.assert_array_equal(
            dense(record["confusion_ignoring_dropped"]),
            confusion(truth[~dropped][None], labels[~dropped][None]),
        )
        assert record["classes"] == list(layout.classes)
        assert "instances" not in record


def test_the_sheet_shows_image_class_map_and_label_map(paint, score, layouts):
    folder = paint("damaged")
    place, _ = score(folder)
    pixels = np.asarray(Image.open(place / "sheet.png").convert("RGB"))
    palette, side, step = np.array(COLOURS, np.uint8), 160, 163
    for column, layout in enumerate(layouts):
        labels = load_label_map(place / "labels" / f"{layout.id}-0.png")
        image = Image.open(folder / f"{layout.id}-0.png")
        cells = [
            np.asarray(image.resize((side, side), Image.Resampling.LANCZOS)),
            palette[layout.class_map(side)],
            palette[labels].repeat(5, 0).repeat(5, 1),
        ]
        for row, expected in enumerate(cells):
            cell = pixels[row * step :, column * step :][:side, :side]
            np.testing.assert_array_equal(cell, expected, f"{layout.id}, row {row}")


def test_what_was_scored_is_recorded(paint, score, record_run, layouts, manifest):
    folder = paint()
    record_run(folder, method="tcig")
    (folder / f"{layouts[2].id}-0.png").unlink()
    failure = {"layout": layouts[2].id, "sample": 0, "error": "RuntimeError: no"}
    (folder / "rows.jsonl").write_text(json.dumps(failure) + "\n")
    place, _ = score(folder, Counting("two"), Sizes(32, 16))
    found, records = read(folder)
    assert place == folder / "scores" / "colours"
    assert (found.row, found.judge, found.identity) == ("tcig", "colours", "two")
    assert (found.manifest, found.image_size, found.score_size) == (manifest, 32, 16)
    assert (found.failed, len(records), found.resized) == (1, 5, False)
    assert {load_label_map(path).shape for path in (place / "labels").iterdir()} == {(16, 16)}
    assert score(folder, row="mine")[0] == place
    assert read(folder)[0].row == "mine"


def test_instances_and_label_maps_of_another_size(paint, score):
    folder = paint()
    place, _ = score(folder, Finding())
    for record in read(folder)[1]:
        assert [each["label"] for each in record["instances"]] == ["cat", "cat"]
        for each, expected in zip(record["instances"], CATS, strict=True):
            np.testing.assert_array_equal(decode(each["mask"]), expected)
    for path in (place / "labels").iterdir():
        labels = resize_nearest((CATS.any(0) * 8).astype(np.uint8), 32)
        np.testing.assert_array_equal(load_label_map(path), labels)


def test_judges_are_kept_apart_and_judge_in_plain_float32(paint, score, layouts, manifest):
    set_tf32(True)
    folder = paint()
    score(folder)
    score_images(folder, layouts, manifest, ("another", Counting("b")), SIZES)
    assert [found.judge for found, _ in read_scores(folder)] == ["another", "colours"]
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"


def repaint(folder, place):
    Image.new("RGB", (32, 32), COLOURS[8]).save(folder / "1-0.png")


def tear_label_map(folder, place):
    path = place / "labels" / "1-0.png"
    path.write_bytes(path.read_bytes()[:-3])


def lose_pixels(folder, place):
    path = place / "rows.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[0]["confusion"] = records[0]["confusion"][1:]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize("change", [repaint, tear_label_map, lose_pixels])
def test_what_changed_is_judged_again_and_nothing_else(paint, score, change):
    folder, whole = paint("damaged"), paint("damaged", name="whole/mine")
    assert score(folder)[1] == 6
    before = stored(folder)
    assert score(folder, limit=2)[1] == score(folder, row="renamed")[1] == 0
    assert len(read(folder)[1]) == 6
    assert score(folder)[1] == 0
    assert stored(folder) == before
    change(folder, folder / "scores" / "colours")
    assert score(folder)[1] == 1
    if change is repaint:
        repaint(whole, None)
    score(whole)
    assert stored(folder) == stored(whole)


@pytest.mark.parametrize(
    "options",
    [
        {"judge": Counting("another")},
        {"sizes": Sizes(32, 16)},
        {"sizes": Sizes(48, 32, resize=True)},
        {"sizes": Sizes(32, 32, resize=True)},
        {"manifest": "e" * 64},
    ],
    ids=["identity", "score size", "image size", "resized", "manifest"],
)
def test_records_made_otherwise_are_dropped(paint, score, options):
    folder = paint()
    score(folder)
    place, asked = score(folder, **options)
    assert asked == 6
    assert len((place / "rows.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("done", range(0, 6, 2))
def test_an_interrupted_scoring_is_resumed(paint, score, monkeypatch, refused, done):
    monkeypatch.setattr(images_module, "BATCH", 2)
    whole, folder = paint("damaged", name="whole/mine"), paint("damaged")
    score(whole)
    with pytest.raises(RuntimeError, match="out of memory"):
        score(folder, Counting(fails_after=done))
    with refused(folder / "scores" / "colours", f"lacks {6 - done} of 6"):
        list(read_scores(folder))
    assert score(folder)[1] == 6 - done
    assert stored(folder) == stored(whole)


def test_images_that_changed_are_unscored_until_the_scoring_ends(paint, score, refused):
    folder = paint("damaged")
    place, _ = score(folder)
    repaint(folder, place)
    with pytest.raises(RuntimeError, match="out of memory"):
        score(folder, Counting(fails_after=0))
    with refused(place, "interrupted"):
        list(read_scores(folder))


def test_an_unusable_image_stops_the_scoring_and_the_rest_is_kept(
    paint, score, monkeypatch, refused, layouts
):
    monkeypatch.setattr(images_module, "BATCH", 1)
    folder = paint("damaged")
    bad = folder / f"{layouts[-1].id}-0.png"
    content = bad.read_bytes()
    bad.write_bytes(b"no image")
    with refused(bad):
        score(folder)
    bad.write_bytes(content)
    assert score(folder)[1] == 1


def test_a_garbled_header_is_refused_when_it_is_read(paint, score, refused):
    folder = paint()
    place, _ = score(folder)
    (place / "score.json").write_bytes(b"\xff{")
    with refused(place / "score.json"):
        list(read_scores(folder))
    assert score(folder)[1] == 6


def test_batches_judged_elsewhere_in_any_order_give_the_same(paint, score):
    here, elsewhere = paint("damaged", name="here/mine"), paint("damaged", name="elsewhere/mine")
    score(here)

    def spread(batches):
        return [judge_batch(Counting(), SIZES, batch[::-1]) for batch in list(batches)[::-1]]

    score(elsewhere, RemoteJudge("one", "built-in"), spread=spread)
    assert stored(elsewhere) == stored(here)


def run(capsys, *arguments):
    status = main(["score", *map(str, arguments)])
    return status, capsys.readouterr()


def test_the_command_scores_a_folder(paint, manifest_file, capsys):
    folder = paint("truth", size=64)
    arguments = [folder, "--layouts", manifest_file, "--judge", "colours"]
    status, printed = run(capsys, *arguments, "--name", "my row", "--limit", 3)
    assert (status, printed.out) == (0, f"{folder / 'scores' / 'colours'}\n")
    found, records = read(folder)
    assert (found.row, found.image_size, found.score_size) == ("my row", 64, 64)
    assert reduce(samples_of(records, "none"), "iou_image") == (1, 0, 3)
    small = paint("truth", name="small", size=32)
    assert run(capsys, small, *arguments[1:], "--resize")[0] == 0
    assert read(small)[0].resized


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
    given = {"--layouts": manifest_file, "--judge": "colours"}
    given |= dict(zip(change[::2], change[1::2], strict=True))
    status, printed = run(capsys, folder, *(word for pair in given.items() for word in pair))
    assert (status, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert said in printed.err


def test_the_command_takes_a_runs_own_profile(paint, manifest_file, record_run, capsys):
    folder = paint("truth")
    record_run(folder, score_size=16)
    assert run(capsys, folder, "--layouts", manifest_file)[0] == 0
    found, _ = read(folder)
    assert (found.judge, found.image_size, found.score_size) == ("colours", 32, 16)
    other = ["--profile", "mini", "--judge", "colours"]
    status, printed = run(capsys, folder, "--layouts", manifest_file, *other)
    assert status == 2
    assert "64x64" in printed.err
    record_run(folder, score_size=-1)
    status, printed = run(capsys, folder, "--layouts", manifest_file)
    assert (status, printed.err.count("\n")) == (2, 1)
