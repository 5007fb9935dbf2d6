"""Measuring a folder: what is found and stored, reused, measured again, and survives a stop."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from looking import Looking, looked, read
from PIL import Image

from tcig.data.files import sha256, sole_writer
from tcig.data.layout import open_photograph
from tcig.data.masks import encode, load_label_map
from tcig.eval import images as images_module
from tcig.eval.estimates import result_of
from tcig.eval.images import Sizes
from tcig.eval.judges import Instance, Judge, Segmentation
from tcig.eval.quality import boundary_iou, bounding_square, kid, recall_iou
from tcig.eval.quality_records import read_quality
from tcig.eval.score import score_images

CROPS = 15
"""Regions of the six layouts."""


def records_of(folder, place="quality"):
    lines = (folder / place / "rows.jsonl").read_text().splitlines()
    return {(record["layout"], record["sample"]): record for record in map(json.loads, lines)}


def metrics_of(folder, judge="colours"):
    records = records_of(folder, f"scores/{judge}")
    return {layout: record.get("metrics") for (layout, _), record in records.items()}


def stored(folder):
    """All that a measuring leaves, whatever the order."""
    place = folder / "quality"
    files = {path.name: path.read_bytes() for path in place.glob("features/*")}
    judges = [metrics_of(folder, path.parent.name) for path in folder.glob("scores/*/score.json")]
    return records_of(folder), files, (place / "quality.json").read_bytes(), judges


def opened(folder, layout, sample=0):
    return Image.open(folder / f"{layout.id}-{sample}.png").convert("RGB")


def test_clip_scores_are_those_of_the_caption_and_of_each_region(paint, measure, layouts):
    folder, scorer = paint("damaged"), Looking()
    found, _ = measure(folder, scorer, prefix="A photo depicts ")
    records = records_of(folder)
    assert list(records) == [(layout.id, 0) for layout in layouts] == list(found.samples)
    for layout in layouts:
        image, record = opened(folder, layout), records[layout.id, 0]
        caption = read(f"A photo depicts {layout.caption}")
        expected = 2.5 * max(float(looked(image) @ caption), 0)
        assert record["clip_caption"] == pytest.approx(expected, abs=2e-6)
        regions = [
            2.5 * max(float(looked(crop) @ read(f"A photo depicts {region.prompt}")), 0)
            for region in layout.regions
            for crop in [image.crop(bounding_square(region.pixels, 32))]
        ]
        assert record["clip_regions"] == pytest.approx(regions, abs=2e-6)
        assert record["image_sha256"] == sha256(folder / f"{layout.id}-0.png")
    assert len(scorer.read) == len(set(scorer.read)) == 6 + 10  # each text once
    values = read_quality(folder).values["clip_region"]
    means = [np.mean(records[layout.id, 0]["clip_regions"]) for layout in layouts]
    np.testing.assert_allclose(values.values, means)
    assert values.layouts.tolist() == [layout.id for layout in layouts]


CATS = np.zeros((2, 96, 96), bool)
CATS[0, 10:50, 10:50] = CATS[1, 60:90, 60:90] = True


class Finding(Judge):
    """Two cats, at its own output size, the second of them where layout 2.b has its second."""

    kind, identity = "built-in", "finding"

    def segment(self, images):
        labels = (CATS.any(0) * 8).astype(np.uint8)
        instances = tuple(Instance("cat", 0.9 - n / 9, encode(m)) for n, m in enumerate(CATS))
        return [Segmentation(labels, instances) for _ in images]


def test_label_maps_and_instances_are_compared_judge_by_judge(
    paint, score, measure, layouts, manifest
):
    folder = paint("damaged")
    place, _ = score(folder)
    score_images(folder, layouts, manifest, ("finding", Finding()), Sizes(32, 48))
    measure(folder)
    for layout in layouts:
        labels = load_label_map(place / "labels" / f"{layout.id}-0.png")
        expected = boundary_iou(layout.class_map(32), labels, layout.classes)
        found = metrics_of(folder)[layout.id]
        assert found == {"boundary_iou": pytest.approx(expected, abs=1e-6)}, "no instances"
        objects = [(region.label, region.pixels) for region in layout.regions]
        found = metrics_of(folder, "finding")[layout.id]
        for name, mended in (("recall_iou", True), ("recall_iou_dense", False)):
            expected = recall_iou(objects, [("cat", mask) for mask in CATS], mended)
            assert found[name] == pytest.approx(expected, abs=1e-6)
    assert max(each["recall_iou"] for each in metrics_of(folder, "finding").values()) > 0
    truth = paint("truth", name="truth")
    score(truth)
    measure(truth)
    assert all(each == {"boundary_iou": 1} for each in metrics_of(truth).values())


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
    assert set(found.distances) == {name}
    distance = found.distances[name]
    assert (distance.value, distance.std) == pytest.approx(expected)
    assert (distance.n, distance.photographs) == (12, 6)
    assert set(found.refused) == ({"fid"} if own else set())
    assert all("2,000 images on both sides, here are 6" in t for t in found.refused.values())


def test_diversity_is_of_the_samples_of_a_layout(paint, measure, layouts):
    folder = paint("damaged", samples=3)
    measure(folder)
    found = read_quality(folder).values["diversity"]
    assert found.layouts.tolist() == [layout.id for layout in layouts]
    for layout, value in zip(layouts, found.values, strict=True):
        a, b, c = (looked(opened(folder, layout, n)) for n in range(3))
        assert value == pytest.approx(1 - float(a @ b + a @ c + b @ c) / 3, abs=2e-6)
    alone = paint("damaged", name="alone")
    measure(alone)
    assert np.isnan(read_quality(alone).values["diversity"].values).all()


def test_without_photographs_only_the_distance_is_left_out(paint, measure):
    folder = paint("damaged")
    found, asked = measure(folder, coco=None)
    assert asked == 6 + CROPS
    assert found.distances == {}
    assert found.refused == {"kid_clip": "the photographs are needed: give --coco FOLDER."}
    found, asked = measure(folder)
    assert asked == 6  # the photographs alone
    assert set(found.distances) == {"kid_clip"}


def test_nothing_is_measured_twice(paint, score, measure):
    folder = paint("damaged")
    score(folder)
    found, asked = measure(folder)
    assert asked == 6 + CROPS + 6
    before = stored(folder)
    assert measure(folder) == (found, 0)
    assert stored(folder) == before
    assert measure(folder, limit=4)[1] == 4, "photographs"
    assert len(read_quality(folder).images) == 4
    assert measure(folder)[0] == found


def repaint(folder):
    Image.new("RGB", (32, 32), (9, 90, 200)).save(folder / "1-0.png")


def tear_features(folder):
    path = folder / "quality" / "features" / "1-0.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def tear_records(folder):
    path = folder / "quality" / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-9])


def garble(folder):
    (folder / "quality" / "quality.json").write_bytes(b"\xff{")


@pytest.mark.parametrize(
    ("change", "asked"),
    [(repaint, 3), (tear_features, 3), (tear_records, 5), (garble, 6 + CROPS)],
)
def test_what_changed_is_measured_again(paint, measure, change, asked):
    folder = paint("damaged")
    measure(folder)
    change(folder)
    assert measure(folder)[1] == asked + 6, "and the photographs"
    measure(folder)  # which mends the records
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
    assert all("recall_iou" in each for each in metrics_of(folder).values())
    score(folder)
    assert set(metrics_of(folder).values()) == {None}


@pytest.mark.parametrize("after", [0, 7, 12, 19])
@pytest.mark.parametrize("own", [False, True])
def test_an_interrupted_measuring_is_resumed(
    paint, score, measure, monkeypatch, refused, after, own
):
    monkeypatch.setattr(images_module, "BATCH", 2)
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
    done = failing.asked * 6 // (6 + CROPS) // 2 * 2  # whole batches before the stop
    assert 6 + CROPS - failing.asked <= asked <= (6 + CROPS) * (1 - done / 6) + 6 + 2 * 3
    assert stored(folder) == stored(whole)


@pytest.mark.parametrize("damage", [b"no image", None, (31, 31)])
def test_an_unusable_image_is_named(paint, measure, refused, damage):
    folder = paint("damaged")
    path = folder / "6-0.png"
    path.unlink()
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    elif damage:
        Image.new("RGB", damage).save(path)
    with refused(path):
        measure(folder)


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


def test_a_label_map_that_is_gone_or_of_another_size_is_named(paint, score, measure, refused):
    folder = paint("damaged")
    path = score(folder)[0] / "labels" / "6-0.png"
    path.unlink()
    with refused(path):
        measure(folder)
    assert score(folder)[1] == 1
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
    with refused(folder / "quality", "unfinished"):
        read_quality(folder)
    assert measure(folder, coco=None)[1] == 0


def test_a_folder_that_another_process_measures_is_refused(paint, measure, refused):
    folder = paint("damaged")
    assert read_quality(folder) is None
    measure(folder)
    with sole_writer(folder / "quality"), refused(folder / "quality", "another process"):
        measure(folder)


def test_a_layout_without_a_pixel_to_compare_is_nan(paint, measure, score, monkeypatch):
    folder = paint()
    score(folder)
    monkeypatch.setattr("tcig.eval.measure.boundary_iou", lambda *maps: math.nan)
    measure(folder)
    assert metrics_of(folder)["1"] == {"boundary_iou": None}
    figures = result_of([folder], "none").rows[0].figures
    assert (figures["boundary_iou"].mean, figures["boundary_iou"].n) == (None, 0)
