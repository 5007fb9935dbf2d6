"""Counts and reductions against plain loops over label maps, torchmetrics and pycocotools."""

import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchmetrics import JaccardIndex
from torchmetrics.functional.segmentation import mean_iou

from tcig.eval.iou import (
    NAMES,
    Samples,
    class_iou,
    confusion,
    dataset_iou,
    foreground_iou,
    image_iou,
    reduce,
)

SEEDS = range(8)


def draw(seed, known_only=False):
    """Random truths, predictions and classes; some classes have no pixel, some are not found."""
    rng = np.random.default_rng(seed)
    truths, predictions, classes = [], [], []
    for _ in range(rng.integers(1, 7)):
        chosen = rng.choice(np.arange(1, 21), rng.integers(1, 5), replace=False)
        truth = np.zeros((13, 13), np.uint8)
        for index in chosen[: None if known_only else rng.integers(1, len(chosen) + 1)]:
            top, left = rng.integers(0, 9, 2)
            truth[top : top + rng.integers(2, 9), left : left + rng.integers(2, 9)] = index
        others = [0, *chosen] if known_only else [0, *chosen, *rng.integers(1, 21, 3)]
        noise = rng.choice(others, truth.shape)
        predicted = np.where(rng.random(truth.shape) < rng.random(), truth, noise).astype(np.uint8)
        truths.append(truth)
        predictions.append(predicted)
        classes.append(tuple(int(c) for c in sorted(chosen) if not known_only or c in truth))
    return truths, predictions, classes


def counted(truths, predictions, classes):
    return Samples.of([confusion(t, p) for t, p in zip(truths, predictions, strict=True)], classes)


def jaccard(a, b):
    union = np.sum(a | b)
    return np.sum(a & b) / union if union else math.nan


def plain(name, truths, predictions, classes):
    """The reduction from the label maps: mean, population std, n."""
    ground = name.endswith("_with_background")
    if "dataset" in name:
        truths, predictions = [np.concatenate(truths)], [np.concatenate(predictions)]
        classes = [set().union(*classes)]
    values = []
    for truth, predicted, own in zip(truths, predictions, classes, strict=True):
        named = [0, *own] if ground else [*own]
        ious = [jaccard(truth == c, predicted == c) for c in named if (truth == c).any()]
        if "foreground" in name:
            a, b = np.isin(truth, list(own)), np.isin(predicted, list(own))
            values.append((jaccard(a, b) + jaccard(~a, ~b)) / 2 if ground else jaccard(a, b))
        else:
            values += [sum(ious) / len(ious)] if "image" in name else ious
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / len(values)), len(values)


@pytest.mark.parametrize("seed", SEEDS)
def test_confusion_is_a_double_loop(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 21, (2, 9, 7)).astype(np.uint8)
    ignored = rng.random((9, 7)) < 0.3
    for skip in (None, ignored):
        expected = np.zeros((21, 21), np.int64)
        for y in range(9):
            for x in range(7):
                if skip is None or not skip[y, x]:
                    expected[truth[y, x], predicted[y, x]] += 1
        counts = confusion(truth, predicted, skip)
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4), np.uint8), np.full((4, 4), 21, np.uint8)),
        (np.full((4, 4), -1), np.zeros((4, 4), np.int64)),
    ],
)
def test_confusion_refuses_other_shapes_and_labels(truth, predicted):
    with pytest.raises(ValueError, match=r"labels are 0 to 20|truth is"):
        confusion(truth, predicted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_reductions_are_plain_loops(name, seed):
    maps = draw(seed)
    mean, std, n = reduce(counted(*maps), name)
    expected = plain(name, *maps)
    assert (mean, std) == pytest.approx(expected[:2], abs=1e-12)
    assert n == expected[2]
    assert 0 <= mean <= 1


# Per image: class 1 is right in 1 of 2 pixels, class 2 in 1 of 3; the second image is perfect.
TRUTHS = [np.array([[1, 1], [2, 0]]), np.array([[3, 3], [0, 0]])]
PREDICTIONS = [np.array([[1, 2], [2, 2]]), np.array([[3, 3], [0, 0]])]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("iou_image", [5 / 12, 1]),
        ("iou_image_with_background", [5 / 18, 1]),
        ("iou_region", [1 / 2, 1 / 3, 1]),
        ("iou_region_with_background", [0, 1 / 2, 1 / 3, 1, 1]),
        ("iou_dataset", [1 / 2, 1 / 3, 1]),
        ("iou_dataset_with_background", [2 / 3, 1 / 2, 1 / 3, 1]),
        ("iou_foreground", [3 / 4, 1]),
        ("iou_foreground_with_background", [3 / 8, 1]),
    ],
)
def test_reductions_by_hand(name, values):
    found = reduce(counted(TRUTHS, PREDICTIONS, [(1, 2), (3,)]), name)
    assert found == pytest.approx((np.mean(values), np.std(values), len(values)), abs=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_class_iou_is_pycocotools_per_class(seed):
    truths, predictions, classes = maps = draw(seed)
    found = class_iou(counted(*maps))
    for row, truth, predicted, own in zip(found, truths, predictions, classes, strict=True):
        for index in own:
            if (truth == index).any():
                a, b = (coco_mask.encode(np.asfortranarray(m == index)) for m in (predicted, truth))
                assert row[index] == pytest.approx(coco_mask.iou([a], [b], [0])[0, 0], abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_torchmetrics_agrees_where_the_definitions_coincide(seed):
    maps = draw(seed)
    truth, predicted = (torch.from_numpy(np.stack(each)).long() for each in maps[:2])
    samples = counted(*maps)
    own = class_iou(samples, background=True)
    theirs = mean_iou(
        predicted, truth, 21, include_background=True, per_class=True, input_format="index"
    )
    there = ~np.isnan(own)
    np.testing.assert_allclose(own[there], theirs.numpy()[there], atol=1e-6)
    pooled = JaccardIndex(task="multiclass", num_classes=21, average="none")(predicted, truth)
    own = dataset_iou(samples, background=True)
    there = ~np.isnan(own)
    np.testing.assert_allclose(own[there], pooled.numpy()[there], atol=1e-6)


@pytest.mark.parametrize("function", [class_iou, image_iou, foreground_iou])
@pytest.mark.parametrize("background", [False, True])
def test_a_sample_is_reduced_alone_as_among_others(function, background):
    for seed in SEEDS:
        maps = draw(seed)
        together = function(counted(*maps), background)
        alone = [
            function(counted(*([each] for each in one)), background)
            for one in zip(*maps, strict=True)
        ]
        np.testing.assert_array_equal(np.concatenate(alone), together)


def test_a_wholly_covered_class_is_left_out():
    samples = counted([np.array([[1, 1, 0]])], [np.array([[1, 0, 2]])], [(1, 2)])
    iou = class_iou(samples)[0]
    assert iou[1] == 0.5
    assert np.isnan(np.delete(iou, 1)).all()
    assert reduce(samples, "iou_image") == (0.5, 0, 1)
    assert reduce(samples, "iou_region") == (0.5, 0, 1)
    assert reduce(samples, "iou_dataset") == (0.5, 0, 1)
    assert reduce(samples, "iou_foreground") == pytest.approx((1 / 3, 0, 1))


def test_nothing_to_reduce_is_nan_and_counts_none():
    samples = Samples.of([np.zeros((21, 21), np.int64)], [(1,)])
    for name in NAMES:
        mean, std, n = reduce(samples, name)
        assert math.isnan(mean)
        assert math.isnan(std)
        assert n == 0


@pytest.mark.parametrize("name", ["iou_image", "iou_foreground"])
def test_a_background_without_a_pixel_in_the_truth_is_left_out(name):
    """As for any class that cannot be drawn: the mean is of what remains."""
    truth = np.array([[1, 1], [2, 2]])
    perfect = counted([truth], [truth], [(1, 2)])
    assert reduce(perfect, f"{name}_with_background") == (1, 0, 1)
    partial = counted([truth], [np.array([[1, 1], [2, 0]])], [(1, 2)])
    assert reduce(partial, f"{name}_with_background") == reduce(partial, name)
