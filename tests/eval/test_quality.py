"""The definitions against brute force, closed forms and properties."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.ndimage import binary_erosion
from torch.nn import functional as F
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from tcig.data.files import InputError
from tcig.data.masks import resize_nearest
from tcig.eval import quality
from tcig.eval.quality import (
    boundary,
    boundary_iou,
    bounding_square,
    clip_score,
    diversity,
    fid,
    kid,
    on_grid,
    recall_iou,
)


def box(size, top, bottom, left, right):
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask


def blobs(seed, shape=(24, 24)):
    """A mask of a few random rectangles, some of them cut by the border."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 5)):
        top, left = rng.integers(-4, shape[0]), rng.integers(-4, shape[1])
        mask[max(top, 0) : top + rng.integers(1, 15), max(left, 0) : left + rng.integers(1, 15)] = 1
    mask[rng.integers(shape[0]), rng.integers(shape[1])] = True
    return mask


def test_clip_score_by_angle():
    angles = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0, 120.0, 180.0]))
    images = torch.stack([angles.cos(), angles.sin()], 1)
    texts = torch.tensor([[1.0, 0.0]]).expand(5, 2)
    found = clip_score(images, texts)
    torch.testing.assert_close(found, torch.tensor([2.5, 1.25, 0, 0, 0]), atol=1e-6, rtol=0)


@given(st.integers(0, 10**6), st.sampled_from([24, 64, 100, 7]))
@settings(max_examples=60, deadline=None)
def test_the_square_about_a_region_is_the_least_that_holds_it(seed, size):
    mask = blobs(seed)
    left, top, right, bottom = bounding_square(mask, size)
    assert 0 <= left < right <= size
    assert 0 <= top < bottom <= size
    assert right - left == bottom - top
    rows, columns = np.nonzero(mask)
    scale = size / len(mask)
    assert left <= columns.min() * scale
    assert right >= (columns.max() + 1) * scale
    assert top <= rows.min() * scale
    assert bottom >= (rows.max() + 1) * scale
    spans = [
        math.ceil((v.max() + 1) * size / len(mask)) - math.floor(v.min() * size / len(mask))
        for v in (rows, columns)
    ]
    assert right - left == max(spans)


def test_the_square_is_about_the_centre_and_stays_within_the_canvas():
    assert bounding_square(box(64, 30, 34, 10, 50), 64) == (10, 12, 50, 52)
    assert bounding_square(box(64, 0, 4, 10, 50), 64) == (10, 0, 50, 40)
    assert bounding_square(box(64, 10, 50, 60, 64), 128) == (48, 20, 128, 100)
    assert bounding_square(box(64, 0, 64, 31, 33), 64) == (0, 0, 64, 64)


@pytest.mark.parametrize("shape", [(24, 24), (80, 80), (24, 60)])
@pytest.mark.parametrize("seed", range(6))
def test_a_boundary_is_what_lies_near_the_outside(seed, shape):
    mask = blobs(seed, shape)
    d = max(1, round(0.02 * math.hypot(*shape)))
    expected = np.zeros(shape, bool)
    for y, x in np.argwhere(mask):
        near = itertools.product(range(y - d, y + d + 1), range(x - d, x + d + 1))
        expected[y, x] = any(
            not (0 <= v < shape[0] and 0 <= u < shape[1]) or not mask[v, u] for v, u in near
        )
    np.testing.assert_array_equal(boundary(mask), expected)
    eroded = binary_erosion(mask, np.ones((3, 3)), iterations=d, border_value=0)
    np.testing.assert_array_equal(boundary(mask), mask & ~eroded)


def test_boundary_iou_sees_what_iou_does_not():
    truth = box(100, 20, 60, 20, 60) * 8  # within 2% of the diagonal: 3 pixels
    assert boundary_iou(truth, truth, [8]) == 1
    inner = box(100, 23, 57, 23, 57) * 8
    assert 34**2 / 40**2 > 0.7
    assert boundary_iou(truth, inner, [8]) == 0
    moved = box(100, 20, 60, 21, 61) * 8
    ring = 40**2 - 34**2
    common = sum(
        boundary(truth > 0)[y, x] and boundary(moved > 0)[y, x] for y, x in np.ndindex(100, 100)
    )
    assert boundary_iou(truth, moved, [8]) == common / (2 * ring - common)


def test_boundary_iou_is_the_mean_over_a_layouts_classes():
    truth = box(100, 0, 40, 0, 40) * 8 + box(100, 60, 90, 60, 90) * 12
    labels = box(100, 0, 40, 0, 40) * 8 + box(100, 60, 90, 0, 30) * 15
    assert boundary_iou(truth, labels, [8]) == 1
    assert boundary_iou(truth, labels, [12]) == 0  # not found
    assert boundary_iou(truth, labels, [8, 12]) == 0.5
    assert boundary_iou(truth, labels, [8, 12, 20]) == 0.5  # wholly covered: no pixel to draw
    assert math.isnan(boundary_iou(truth, labels, [20]))


def test_masks_grow_where_they_are_not_thresholded():
    mask = box(128, 40, 80, 40, 80)
    faithful, mended = on_grid(mask, False), on_grid(mask, True)
    np.testing.assert_array_equal(mended, box(64, 20, 40, 20, 40))
    assert not (mended & ~faithful).any()
    grown = np.argwhere(faithful)
    assert grown.min(0).tolist() == [19, 19]  # the cubic reaches one output pixel further
    assert grown.max(0).tolist() == [40, 40]


def straightforward(objects, detections, threshold):
    """The rule in floats, as the issue describes it."""
    taken, values = set(), []
    for label, mask in objects:
        free = [n for n, (other, _) in enumerate(detections) if other == label and n not in taken]
        if not free:
            values.append(0.0)
            continue
        taken.add(free[0])
        given = torch.from_numpy(detections[free[0]][1].astype(np.float32))[None, None]
        seen = F.interpolate(given, (64, 64), mode="bicubic")[0, 0].numpy()
        seen = seen if threshold is None else seen > threshold
        true = resize_nearest(mask, 64)
        union = np.logical_or(true, seen).sum()
        values.append(np.logical_and(true, seen).sum() / union)
    return np.mean(values)


@pytest.mark.parametrize("seed", range(8))
def test_recall_of_random_detections(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(["cat", "dog", "bus"], 8)
    objects = [(labels[n], blobs(seed * 10 + n, (128, 128))) for n in range(3)]
    detections = [(labels[n], blobs(seed * 10 + n + 1, (96, 96))) for n in range(3, 8)]
    assert recall_iou(objects, detections) == straightforward(objects, detections, 0.5)
    assert recall_iou(objects, detections, False) == straightforward(objects, detections, None)


def test_recall_takes_the_first_unused_of_a_class_in_order():
    one, two = box(64, 0, 20, 0, 20), box(64, 40, 60, 40, 60)
    cats = [("cat", one), ("cat", two)]
    assert recall_iou(cats, cats) == 1
    assert recall_iou(cats, cats[::-1]) == 0  # no matching by overlap
    assert recall_iou(cats, cats[:1]) == 0.5
    assert recall_iou(cats, [("dog", one), *cats, ("cat", one), ("bus", two)]) == 1  # extras free
    assert recall_iou(cats, [("dog", one), ("dog", two)]) == recall_iou(cats, []) == 0
    assert math.isnan(recall_iou([], cats))


def test_diversity_by_angle():
    east, north, west = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    assert diversity(torch.stack([east, east])) == 0
    assert diversity(torch.stack([east, north])) == 1
    assert diversity(torch.stack([east, west])) == 2
    assert diversity(torch.stack([east, north, west])) == pytest.approx((1 + 2 + 1) / 3)
    assert math.isnan(diversity(east[None]))


def vectors(seed, count, dimensions=6, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=generator) + shift


def kernel(x, y, gamma=None):
    gamma = 1 / len(x) if gamma is None else gamma
    return float(gamma * (x.double() @ y.double()) + 1) ** 3


def test_kid_of_constant_sets_is_the_kernels_distance():
    a, b = vectors(1, 1), vectors(2, 1)
    for gamma in (None, 1.0):
        expected = kernel(a[0], a[0], gamma) + kernel(b[0], b[0], gamma)
        expected -= 2 * kernel(a[0], b[0], gamma)
        value, std = kid(a.expand(20, 6), [n // 2 for n in range(20)], b.expand(10, 6), gamma)
        assert value == pytest.approx(expected)
        assert std == pytest.approx(0, abs=1e-9)


def across(images, photographs):
    """The unbiased estimate over all pairs of different layouts, by loops."""
    pairs = list(itertools.permutations(range(len(images)), 2))
    within = sum(
        kernel(images[i], images[j]) + kernel(photographs[i], photographs[j]) for i, j in pairs
    )
    return (within - 2 * sum(kernel(images[i], photographs[j]) for i, j in pairs)) / len(pairs)


def test_kid_is_the_mean_over_layouts_apart(monkeypatch):
    monkeypatch.setattr(quality, "SUBSETS", 1500)
    photographs = vectors(3, 9)
    images = photographs + 0.5 * vectors(4, 9) + 0.3
    value, std = kid(images, range(9), photographs, None)
    assert std > 0
    assert value == pytest.approx(across(images, photographs), abs=4 * std / 1500**0.5)
    order = [5, 2, 8, 0, 1, 7, 3, 6, 4]  # as samples are stored: not by layout
    assert kid(images[order], order, photographs, None) == pytest.approx((value, std))


def test_kid_of_photographs_against_themselves_is_near_zero():
    photographs = F.normalize(vectors(5, 60, 16), dim=-1)
    assert abs(kid(photographs, range(60), photographs, 1.0)[0]) < 0.05
    same = torch.ones(60, 16) / 4
    assert kid(same, range(60), photographs, 1.0)[0] > 1
    mixed = kid_features_to_metric(
        photographs, photographs, kid_subset_size=60, kid_kernel_poly_gamma=1.0, verbose=False
    )
    assert mixed[KEY_METRIC_KID_MEAN] < -0.2  # why the layouts are kept apart


def test_kid_of_three_layouts_is_refused():
    with pytest.raises(InputError, match=r"^KID needs four layouts or more.*here are 3\.$"):
        kid(vectors(1, 6), [0, 1, 2] * 2, vectors(2, 3), None)


def test_fid_of_moments():
    one, two = vectors(7, 2000), vectors(8, 2100) @ torch.diag(torch.arange(1.0, 7)) + 0.5
    means = [each.double().mean(0).numpy() for each in (one, two)]
    covariances = [np.cov(each.double().numpy().T) for each in (one, two)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert fid(one, two) == pytest.approx(expected, rel=1e-6)
    assert fid(one, one) == pytest.approx(0, abs=1e-6)
    assert fid(one, one + 2) == pytest.approx(6 * 2**2, rel=1e-6)


@pytest.mark.parametrize("counts", [(1999, 3000), (3000, 1999)])
def test_fid_below_2000_images_is_refused(counts):
    with pytest.raises(InputError, match=r"^FID is not given below 2,000 .* here are 1,999: "):
        fid(*(vectors(9, count) for count in counts))
