"""The quality metrics: each definition is a function of arrays, with its source.

The networks whose features go in are in `tcig.eval.features`, what is kept is
in `tcig.eval.quality_records`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import minimum_filter
from torch import Tensor
from torch.nn import functional as F
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from tcig.data.files import InputError
from tcig.data.masks import resize_nearest

CLIP_WEIGHT = 2.5
"""Hessel et al. 2021, arXiv 2104.08718; `get_clip_score` of their code."""
DILATION = 0.02
"""Of the image's diagonal: Cheng et al. 2021, arXiv 2103.16562, `mask_to_boundary` of its code."""
GRID = 64
"""Side at which DenseDiffusion compares masks (eval_iou.ipynb)."""
SUBSETS, SUBSET = 100, 1000
"""KID's subsets and the most images on a side of one: torch-fidelity's defaults."""
FID_IMAGES = 2000
"""Fewest images for FID (our choice): about the 2,048 dimensions of its features. With fewer their
covariance has far from full rank, and FID's bias grows (Binkowski et al. 2018)."""


def clip_score(images: Tensor, texts: Tensor) -> Tensor:
    """CLIPScore: 2.5 max(cos, 0), pair by pair (Hessel et al. 2021).

    Args:
        images: unit vectors, (N, D).
        texts: unit vectors, (N, D).

    Returns:
        (N,), 0 to 2.5.
    """
    return CLIP_WEIGHT * (images * texts).sum(-1).clamp(min=0)


def bounding_square(mask: np.ndarray, size: int) -> tuple[int, int, int, int]:
    """Returns the square around a region that is cut out for CLIP (our choice).

    InstanceDiffusion (eval/eval_attribute_binding.py) cuts out the box, of which CLIP's own
    preprocessing then loses the ends of the longer side.

    Args:
        mask: (S, S) bool, not empty.
        size: side of the canvas.

    Returns:
        (left, top, right, bottom) in pixels of the canvas: the square of the box's longer side
        about its centre, moved into the canvas.
    """
    spans = []
    for axis in (0, 1):  # across the rows: left and right
        taken = np.flatnonzero(mask.any(axis))
        first, last = taken[0] * size // len(mask), -(-(taken[-1] + 1) * size // len(mask))
        spans.append((int(first), int(last)))
    side = max(last - first for first, last in spans)
    (left, top) = (min(max((a + b - side) // 2, 0), size - side) for a, b in spans)
    return left, top, left + side, top + side


def boundary(mask: np.ndarray) -> np.ndarray:
    """Returns the pixels of a mask near its contour (Cheng et al. 2021), (H, W) bool.

    Near is a Chebyshev distance of up to 2% of the diagonal, at least 1, to a pixel outside the
    mask or outside the image: what d erosions by 3x3 squares take away.
    """
    d = max(1, round(DILATION * math.hypot(*mask.shape)))
    return mask & ~minimum_filter(mask, 2 * d + 1, mode="constant", cval=False)


def boundary_iou(truth: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> float:
    """Returns the mean boundary IoU (Cheng et al. 2021) of a layout's classes, as in `iou_image`.

    Args:
        truth: the layout's label map, (H, W) integers.
        labels: the judge's, of the same shape.
        classes: of the layout.

    Returns:
        0 to 1: a class that is not found is 0, one without a pixel in the truth is left out; NaN
        where none is left.
    """
    values = []
    for index in classes:
        if not (truth == index).any():
            continue
        true, seen = boundary(truth == index), boundary(labels == index)
        values.append((true & seen).sum() / (true | seen).sum())
    return float(np.mean(values)) if values else math.nan


def on_grid(mask: np.ndarray, mended: bool) -> np.ndarray:
    """Resizes a detection's mask to 64 x 64 as DenseDiffusion does: bicubic, no antialiasing.

    Args:
        mask: (H, W) bool.
        mended: whether a pixel counts above one half; in its notebook any value but 0 counts, so
            that masks grow by the reach of the interpolation.

    Returns:
        (64, 64) bool.
    """
    given = torch.from_numpy(mask).float()[None, None]
    resized = F.interpolate(given, (GRID, GRID), mode="bicubic", align_corners=False)[0, 0]
    return (resized > 0.5 if mended else resized != 0).numpy()


def recall_iou(
    objects: Sequence[tuple[str, np.ndarray]],
    detections: Sequence[tuple[str, np.ndarray]],
    mended: bool = True,
) -> float:
    """DenseDiffusion's IoU, "more like Recall" (its eval_iou.ipynb and issue 16).

    Each true object in order takes the first detection of its class that no other took; without one
    it is 0. Detections that are left cost nothing. Its detector is YOLOv7-mask at a confidence of
    0.5: here the judge's own instances.

    Args:
        objects: label and mask, (S, S) bool, of each true object.
        detections: label and mask, (H, W) bool, the most confident first.
        mended: see `on_grid`.

    Returns:
        The mean over the objects, 0 to 1; NaN without objects.
    """
    left = [(label, on_grid(mask, mended)) for label, mask in detections]
    values = []
    for label, mask in objects:
        place = next((n for n, (other, _) in enumerate(left) if other == label), None)
        if place is None:
            values.append(0.0)
            continue
        true, seen = resize_nearest(mask, GRID), left.pop(place)[1]
        union = (true | seen).sum()
        values.append((true & seen).sum() / union if union else 0.0)
    return float(np.mean(values)) if values else math.nan


def diversity(images: Tensor) -> float:
    """Returns the mean of 1 - cos of CLIP's image features over pairs of a layout's samples.

    This metric is our choice: LPIPS between samples, which others use, needs weights of its own.

    Args:
        images: unit vectors, (S, D).

    Returns:
        0 to 2; NaN with one sample.
    """
    count = len(images)
    if count < 2:
        return math.nan
    first, second = torch.triu_indices(count, count, 1)
    return float(1 - (images[first] * images[second]).sum(-1).mean())


def kid(
    images: Tensor, owners: Sequence[int], photographs: Tensor, gamma: float | None
) -> tuple[float, float]:
    """KID (Binkowski et al. 2018, arXiv 1801.01401): the mean over subsets of the unbiased MMD^2
    under the kernel (gamma x.y + 1)^3, by torch-fidelity.

    The estimator takes the two sets for independent, and images of a layout are not independent of
    its photograph: photographs against themselves would be far below 0. So each subset is, ours,
    one image each of a random half of the layouts against the photographs of the others, at most
    1,000. The expectation of the estimator does not depend on their number.

    Args:
        images: features, (N, D).
        owners: the layout of each image, 0 to M - 1, each at least once.
        photographs: features, (M, D), one of each layout.
        gamma: None for 1/D, as published.

    Returns:
        Mean and standard deviation over 100 subsets.

    Raises:
        InputError: fewer than four layouts.
    """
    count = len(photographs)
    if count < 4:
        raise InputError(f"KID needs four layouts or more, two for each side: here are {count}.")
    images, photographs = images.double(), photographs.double()
    members = [np.flatnonzero(np.asarray(owners) == layout) for layout in range(count)]
    size = min(SUBSET, count // 2)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(SUBSETS):
        drawn, others = rng.permutation(count)[: 2 * size].reshape(2, size)
        found = kid_features_to_metric(
            images[[rng.choice(members[layout]) for layout in drawn]],
            photographs[others],
            kid_subsets=1,
            kid_subset_size=size,
            kid_kernel_poly_gamma=gamma,
            verbose=False,
        )
        values.append(found[KEY_METRIC_KID_MEAN])
    return float(np.mean(values)), float(np.std(values))


def fid(images: Tensor, photographs: Tensor) -> float:
    """FID (Heusel et al. 2017, arXiv 1706.08500) of features (N, D) and (M, D), by torch-fidelity.

    Raises:
        InputError: fewer than 2,000 on a side.
    """
    fewest = min(len(images), len(photographs))
    if fewest < FID_IMAGES:
        raise InputError(
            f"FID is not given below {FID_IMAGES:,} images on both sides, here are {fewest:,}: of "
            "so few it is mostly bias."
        )
    sides = [fid_features_to_statistics(each.double()) for each in (images, photographs)]
    return fid_statistics_to_metric(*sides, verbose=False)[KEY_METRIC_FID]
