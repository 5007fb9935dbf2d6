"""Measuring a folder: what is found and stored, reused, measured again, and survives a stop."""

import json
import math
import shutil

import numpy as np
import pytest
import safetensors.numpy
import torch
from looking import Looking, looked, read
from PIL import Image

from tcig.data.files import sha256, sole_writer
from tcig.data.masks import encode, load_label_map
from tcig.data.photographs import open_photograph
from tcig.eval import measure as measure_module
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.eval.judges import Instance, Segmentation, StagedJudge
from tcig.eval.measured import Kept, read_quality
from tcig.eval.quality import boundary_iou, bounding_square, kid, recall_iou
from tcig.eval.score import Sizes, score_images

CROPS = 15
"""Regions of the six layouts."""


def rows_of(folder):
    lines = (folder / "quality" / "rows.jsonl").read_text().splitlines()
    return {(row["layout"], row["sample"]): row for row in map(json.loads, lines)}


def stored(folder):
    """All that a measuring leaves, whatever the order of rows and features."""
    features = safetensors.numpy.load_file(folder / "quality" / "features.safetensors")
    record = (folder / "quality" / "quality.json").read_bytes()
    return rows_of(folder), {n: v.tobytes() for n, v in features.items()}, record


def opened(folder, layout, sample=0):
    return Image.open(folder / f"{layout.id}-{sample}.png").convert("RGB")


def test_clip_scores_are_those_of_the_caption_and_of_each_region(paint, measure, layouts):
    folder, scorer = paint("damaged"), Looking()
    found, _ = measure(folder, scorer, prefix="A photo depicts ")
    rows = rows_of(folder)
    assert list(rows) == [(layout.id, 0) for layout in layouts] == list(found.samples)
    for layout in layouts:
        image, row = opened(folder, layout), rows[layout.id, 0]
        caption = read(f"A photo depicts {layout.caption}")
        expected = 2.5 * max(float(looked(image) @ caption), 0)
        assert row["clip_caption"] == pytest.approx(expected, abs=2e-6)
        regions = [
            2.5 * max(float(looked(crop) @ read(f"A photo depicts {region.prompt}")), 0)
            for region in layout.regions
            for crop in [image.crop(bounding_square(region.pixels, 32))]
        ]
        assert row["clip_regions"] == pytest.approx(regions, abs=2e-6)
        assert row["image_sha256"] == sha256(folder / f"{layout.id}-0.png")
    assert len(scorer.read) == len(set(scorer.read)) == 6 + 10  # each text once
    values = read_quality(folder).own["clip_region"]
    means = [np.mean(rows[layout.id, 0]["clip_regions"]) for layout in layouts]
    np.testing.assert_allclose(values.values, means)
    assert values.layouts.tolist() == [layout.id for layout in layouts]


def test_label_maps_are_compared_as_they_were_stored(paint, score, measure, layouts):
    folder = paint("damaged")
    place, _ = score(folder)
    measure(folder)
    for layout in layouts:
        labels = load_label_map(place / "labels" / f"{layout.id}-0.png")
        truth = layout.class_map(32)
        found = rows_of(folder)[layout.id, 0]["judges"]
        expected = boundary_iou(truth, labels, layout.classes)
        assert found == {"colours": {"boundary_iou": pytest.approx(expected, abs=1e-6)}}
        counts = Samples.of([confusion(truth, labels)], [layout.classes])
        assert expected < np.nanmean(class_iou(counts))  # noise hurts thin boundaries more
    values = read_quality(folder).judged["colours"]["boundary_iou"].values
    assert values.shape == (6,)
    truth = paint("truth", name="truth")
    score(truth)
    measure(truth)
    assert read_quality(truth).judged["colours"]["boundary_iou"].values.tolist() == [1] * 6


CATS = np.zeros((2, 96, 96), bool)
CATS[0, 10:50, 10:50] = CATS[1, 60:90, 60:90] = True


class Finding(StagedJudge):
    """Two cats, at its own output size, the second of them where layout 2.b has its second."""

    identity = "finding"

    def look(self, images):
        labels = (CATS.any(0) * 8).astype(np.uint8)
        instances = tuple(Instance("cat", 0.9 - n / 9, encode(m)) for n, m in enumerate(CATS))
        return [Segmentation(labels, instances) for _ in images]


def test_instances_are_taken_in_order(paint, score, measure, layouts):
    folder = paint()
    score(folder, Finding())
    measure(folder)
    for layout in layouts:
        objects = [(region.label, region.pixels) for region in layout.regions]
        found = rows_of(folder)[layout.id, 0]["judges"]["colours"]
        for name, mended in (("recall_iou", True), ("recall_iou_dense", False)):
            expected = recall_iou(objects, [("cat", mask) for mask in CATS], mended)
            assert found[name] == pytest.approx(expected, abs=1e-6)
    found = read_quality(folder).judged["colours"]
    assert set(found) == {"boundary_iou", "recall_iou", "recall_iou_dense"}
    assert found["recall_iou"].values.max() > 0


def test_a_semantic_judge_has_no_recall(paint, score, measure):
    folder = paint()
    score(folder)
    measure(folder)
    assert set(read_quality(folder).judged["colours"]) == {"boundary_iou"}


@pytest.mark.parametrize("own", [False, True])
def test_kid_is_on_the_features_of_images_and_photographs(
    paint, measure, layouts, photographs, own
):
    folder = paint("damaged", samples=2)
    features = Looking("inception", suffix="") if own else None
    found, _ = measure(folder, features=features)
    images = torch.stack([looked(opened(folder, each, n)) for each in layouts for n in (0, 1)])
    real = torch.stack([looked(open_photograph(each, photographs, 32)) for each in layouts])
    scale = 3 if own else 1
    owners = [n // 2 for n in range(12)]
    expected = kid(scale * images, owners, scale * real, None if own else 1.0)
    name = "kid" if own else "kid_clip"
    assert set(found.figures) == {name}
    figure = found.figures[name]
    assert (figure.value, figure.std) == pytest.approx(expected)
    assert (figure.n, figure.photographs) == (12, 6)
    refused = {"fid": found.refused["fid"]} if own else {}
    assert found.refused == refused
    assert all("2,000 images on both sides, here are 6" in text for text in refused.values())


def test_diversity_is_of_the_samples_of_a_layout(paint, measure, layouts):
    folder = paint("damaged", samples=3)
    measure(folder)
    found = read_quality(folder).own["diversity"]
    assert found.layouts.tolist() == [layout.id for layout in layouts]
    for layout, value in zip(layouts, found.values, strict=True):
        a, b, c = (looked(opened(folder, layout, n)) for n in range(3))
        assert value == pytest.approx(1 - float(a @ b + a @ c + b @ c) / 3, abs=2e-6)
    alone = paint("damaged", name="alone")
    measure(alone)
    assert np.isnan(read_quality(alone).own["diversity"].values).all()


def test_without_photographs_only_the_distance_is_left_out(paint, measure):
    folder = paint("damaged")
    found, asked = measure(folder, coco=None)
    assert asked == 6 + CROPS
    assert found.figures == {}
    assert found.refused == {"kid_clip": "the photographs are needed: give --coco FOLDER."}
    found, asked = measure(folder)
    assert asked == 6  # the photographs alone
    assert set(found.figures) == {"kid_clip"}


def test_nothing_is_measured_twice(paint, score, measure):
    folder = paint("damaged")
    score(folder)
    found, asked = measure(folder)
    assert asked == 6 + CROPS + 6
    before = stored(folder)
    assert measure(folder) == (found, 0)
    assert stored(folder) == before
    assert measure(folder, limit=2)[1] == 0
    assert len(read_quality(folder).images) == 2
    assert measure(folder) == (found, 0)


def repaint(folder):
    Image.new("RGB", (32, 32), (9, 90, 200)).save(folder / "1-0.png")


def unrow(folder):
    path = folder / "quality" / "rows.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"layout": "1"' not in line))


def tear_rows(folder):
    path = folder / "quality" / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-9])


def tear_features(folder):
    path = folder / "quality" / "features.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def lose_features(folder):
    path = folder / "quality" / "features.safetensors"
    features = safetensors.numpy.load_file(path)
    del features["scorer 1-0"]
    safetensors.numpy.save_file(features, path)


def garble(folder):
    (folder / "quality" / "quality.json").write_bytes(b"\xff{")


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (repaint, 3),
        (unrow, 3),
        (lose_features, 3),
        (tear_rows, 5),  # the torn one alone
        (tear_features, 6 + CROPS + 6),
        (garble, 6 + CROPS + 6),
    ],
)
def test_what_changed_is_measured_again(paint, measure, change, asked):
    folder = paint("damaged")
    measure(folder)
    change(folder)
    assert measure(folder)[1] == asked
    kept = stored(folder)
    shutil.rmtree(folder / "quality")
    measure(folder)
    assert kept == stored(folder)


@pytest.mark.parametrize(
    "other",
    [
        {"scorer": Looking("another")},
        {"prefix": "A photo depicts "},
        {"features": Looking("inception", suffix="")},
    ],
)
def test_other_networks_measure_all_again(paint, measure, other):
    folder = paint("damaged")
    measure(folder)
    found, asked = measure(folder, **other)
    assert asked >= 6 + CROPS
    kept = stored(folder)
    shutil.rmtree(folder / "quality")
    assert measure(folder, **other)[0] == found
    assert kept == stored(folder)


def test_another_judgement_is_compared_without_the_networks(paint, score, measure):
    folder = paint()
    score(folder)
    measure(folder)
    score(folder, Finding())
    assert measure(folder)[1] == 0
    assert "recall_iou" in read_quality(folder).judged["colours"]
    shutil.rmtree(folder / "scores")
    assert measure(folder)[1] == 0
    assert read_quality(folder).judged == {}
    assert rows_of(folder)["1", 0]["judges"] == {}


@pytest.mark.parametrize("after", [0, 7, 12, 19])
@pytest.mark.parametrize("own", [False, True])
def test_an_interrupted_measuring_goes_on(paint, score, measure, monkeypatch, refused, after, own):
    monkeypatch.setattr(measure_module, "BATCH", 2)
    networks = {"features": Looking("inception", suffix="")} if own else {}
    whole, folder = paint("damaged", name="whole/mine"), paint("damaged")
    for each in (whole, folder):
        score(each)
    expected = measure(whole, **networks)[0]
    failing = Looking(fails_after=after)
    with pytest.raises(RuntimeError, match="out of memory"):
        measure(folder, failing, features=networks.get("features", failing))
    with refused(folder / "quality", "unfinished"):
        read_quality(folder)
    found, asked = measure(folder, **networks)
    assert found == expected
    assert asked + failing.asked >= 6 + CROPS
    done = failing.asked * 6 // (6 + CROPS) // 2 * 2  # whole batches before the stop
    assert asked <= (6 + CROPS) * (1 - done / 6) + 6 + 2 * 3
    assert stored(folder) == stored(whole)


@pytest.mark.parametrize("count", range(1, 6))
def test_a_kill_between_any_two_writings_loses_little(paint, score, measure, monkeypatch, count):
    """From the named writing on nothing is written, as after a kill."""
    monkeypatch.setattr(measure_module, "BATCH", 2)
    monkeypatch.setattr("tcig.eval.measured.PAUSE", 0)
    whole, folder = paint("damaged", name="whole/mine"), paint("damaged")
    for each in (whole, folder):
        score(each)
    measure(whole)
    save, calls = Kept.save, []

    def dying(kept):
        calls.append(kept)
        if len(calls) >= count:
            raise SystemExit
        save(kept)

    with monkeypatch.context() as patched:
        patched.setattr(Kept, "save", dying)
        with pytest.raises(SystemExit):
            measure(folder)
    _, asked = measure(folder)
    assert (asked == 6 + CROPS + 6) == (count <= 2)
    assert stored(folder) == stored(whole)


def test_a_disk_that_fills_between_features_and_rows(paint, measure, monkeypatch):
    whole, folder = paint("damaged", name="whole/mine"), paint("damaged")
    measure(whole)
    measure(folder)
    repaint(whole)
    repaint(folder)
    measure(whole)
    save_rows, calls = Kept.save_rows, []

    def full(kept):
        calls.append(kept)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        save_rows(kept)

    with monkeypatch.context() as patched:
        patched.setattr(Kept, "save_rows", full)
        with pytest.raises(OSError, match="No space"):
            measure(folder)
    assert measure(folder)[1] == 3
    assert stored(folder) == stored(whole)


def test_unusable_images_are_refused_before_anything_is_looked_at(paint, measure, refused):
    folder, scorer = paint("damaged"), Looking()
    (folder / "6-0.png").write_bytes(b"no image")
    with refused(folder / "6-0.png"):
        measure(folder, scorer)
    (folder / "6-0.png").unlink()
    with refused(folder / "6-0.png", "is missing"):
        measure(folder, scorer)
    Image.new("RGB", (31, 31)).save(folder / "6-0.png")
    with refused(folder / "6-0.png", "31x31"):
        measure(folder, scorer)
    assert scorer.asked == 0


def test_scores_of_other_images_are_refused(paint, score, measure, refused):
    folder = paint("damaged")
    score(folder)
    repaint(folder)
    with refused(folder / "scores" / "colours", "not of the images", "tcig score"):
        measure(folder)
    score(folder)
    measure(folder)
    score(folder, limit=3)
    with refused(folder / "scores" / "colours", "not of the images"):
        measure(folder)
    measure(folder, limit=3)


def test_a_label_map_that_is_gone_or_of_another_size_is_named(paint, score, measure, refused):
    folder = paint("damaged")
    place, _ = score(folder)
    path = place / "labels" / "6-0.png"
    content = path.read_bytes()
    path.unlink()
    with refused(path):
        measure(folder)
    path.write_bytes(content)
    Image.open(path).resize((16, 16)).save(path)
    with refused(path, "is not 32x32"):
        measure(folder)


def test_a_photograph_that_is_missing_is_named_and_the_rest_kept(
    paint, measure, photographs, refused
):
    folder = paint("damaged")
    (photographs / "val2017" / "5.png").unlink()
    with refused(photographs / "val2017" / "5.png", "--download"):
        measure(folder)
    assert len(rows_of(folder)) == 6
    with refused(folder / "quality", "unfinished"):
        read_quality(folder)
    assert measure(folder, coco=None)[1] == 0


def test_a_folder_that_another_process_measures_is_refused(paint, measure, refused):
    folder = paint("damaged")
    measure(folder)
    with sole_writer(folder / "quality"), refused(folder / "quality", "another process"):
        measure(folder)


def test_a_folder_that_was_not_measured_is_none(paint):
    assert read_quality(paint()) is None


def test_a_layout_without_a_pixel_to_compare_is_nan(paint, measure, score, monkeypatch):
    folder = paint()
    score(folder)
    monkeypatch.setattr("tcig.eval.agreement.boundary_iou", lambda *maps: math.nan)
    measure(folder)
    assert rows_of(folder)["1", 0]["judges"]["colours"] == {"boundary_iou": None}
    assert np.isnan(read_quality(folder).judged["colours"]["boundary_iou"].values).all()


def test_two_judges_stand_apart(paint, score, measure, layouts, manifest):
    folder = paint()
    score(folder)
    score_images(folder, layouts, manifest, ("finding", Finding()), Sizes(32, 48))
    found, _ = measure(folder)
    assert {name: each.score_size for name, each in found.judges.items()} == {
        "colours": 32,
        "finding": 48,
    }
    judged = read_quality(folder).judged
    assert judged["colours"]["boundary_iou"].values.tolist() == [1] * 6
    assert judged["finding"]["boundary_iou"].values.max() < 1
