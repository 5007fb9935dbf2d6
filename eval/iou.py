"""Integer counts first, then named reductions.

The counts of a sample are its confusion matrix: `confusion[t, p]` pixels are of class t in the
truth and of class p to the judge, classes 0 (background) to 20. Every IoU below derives from it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tcig.data.voc import NUM_LABELS


def confusion(truth: np.ndarray, predicted: np.ndarray, ignored: np.ndarray | None = None):
    """Counts pixels by true and predicted class.

    Args:
        truth: label maps, (..., H, W) integers 0..20.
        predicted: label maps of the same shape.
        ignored: bool of the same shape, pixels that count neither way.

    Returns:
        (..., 21, 21) int64, rows truth, columns prediction.

    Raises:
        ValueError: shapes differ, or a label is outside 0..20.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {predicted.shape}")
    if max(truth.max(), predicted.max()) >= NUM_LABELS or min(truth.min(), predicted.min()) < 0:
        raise ValueError("labels are 0 to 20")
    *many, height, width = truth.shape
    first = np.arange(math.prod(many)) * NUM_LABELS**2
    pairs = truth.reshape(-1, height * width) * np.int64(NUM_LABELS) + first[:, None]
    pairs += predicted.reshape(pairs.shape)
    if ignored is not None:
        pairs = pairs[~ignored.reshape(pairs.shape)]
    counts = np.bincount(pairs.ravel(), minlength=len(first) * NUM_LABELS**2)
    return counts.reshape(*many, NUM_LABELS, NUM_LABELS)


class Samples(NamedTuple):
    """Counts of many samples: `confusion` (N, 21, 21), `drawn` (N, 21) bool, the layouts' classes.

    `drawn` never includes the background.
    """

    confusion: np.ndarray
    drawn: np.ndarray

    @classmethod
    def of(cls, confusions: Sequence[np.ndarray], classes: Sequence[Sequence[int]]) -> "Samples":
        """From a confusion matrix and the indices of the layout's classes for each sample."""
        drawn = np.zeros((len(classes), NUM_LABELS), bool)
        for row, indices in zip(drawn, classes, strict=True):
            row[list(indices)] = True
        return cls(np.stack(confusions), drawn)


class Reduction(NamedTuple):
    """`mean` and `std` over `n` values; std divides by n (NumPy's default, ddof 0)."""

    mean: float
    std: float
    n: int


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


class ClassCounts(NamedTuple):
    """Pixels of each sample and class, (N, 21) integers, and whether the class counts, bool.

    A class counts where the layout has it and it has a pixel in the truth.
    """

    intersection: np.ndarray
    union: np.ndarray
    counted: np.ndarray


def class_counts(samples: Samples, background: bool = False) -> ClassCounts:
    """Counts all 21 classes, also those a layout lacks; class 0 counts only with `background`."""
    truth = samples.confusion.sum(2)
    intersection = np.einsum("nii->ni", samples.confusion)
    counted = samples.drawn & (truth > 0)
    if background:
        counted[:, 0] = truth[:, 0] > 0
    return ClassCounts(intersection, truth + samples.confusion.sum(1) - intersection, counted)


def class_iou(samples: Samples, background: bool = False) -> np.ndarray:
    """Returns the IoU of each sample and class of its layout, (N, 21), NaN elsewhere.

    A class of the layout that has no pixel in the truth (wholly covered, or wholly ignored) is
    NaN too: it cannot be drawn. One that the judge does not find is 0.
    """
    intersection, union, counted = class_counts(samples, background)
    return np.where(counted, _ratio(intersection, union), np.nan)


def image_iou(samples: Samples, background: bool = False) -> np.ndarray:
    """Returns the mean over each layout's classes, (N,); NaN where none of them has a pixel."""
    iou = class_iou(samples, background)
    counted = ~np.isnan(iou)
    return _ratio(np.nansum(iou, 1), counted.sum(1))


def dataset_iou(samples: Samples, background: bool = False) -> np.ndarray:
    """Returns the IoU of pooled counts per class, (21,); NaN for classes that no layout has.

    As in mmsegmentation, predictions of a class count as errors in every sample, also where the
    layout lacks that class.
    """
    pooled = samples.confusion.sum(0)
    drawn = samples.drawn.any(0)
    return class_iou(Samples(pooled[None], drawn[None]), background)[0]


def foreground_iou(samples: Samples, background: bool = False) -> np.ndarray:
    """Returns the IoU of all regions as one mask with all pixels of the layout's classes, (N,).

    With background: the mean of that IoU and of the IoU of the two complements, where the truth has
    background. NaN where it has no foreground.
    """
    right = samples.drawn.astype(np.int64)
    found = np.einsum("ntp,np->nt", samples.confusion, right)
    truth = samples.confusion[:, 1:].sum((1, 2))
    intersection, predicted = found[:, 1:].sum(1), found.sum(1)
    union = truth + predicted - intersection
    foreground = np.where(truth > 0, _ratio(intersection, union), np.nan)
    if not background:
        return foreground
    total = samples.confusion.sum((1, 2))
    complement = _ratio(total - union, total - intersection)
    return np.where(total > truth, (foreground + complement) / 2, foreground)


REDUCTIONS = {
    "iou_image": image_iou,
    "iou_region": class_iou,
    "iou_dataset": dataset_iou,
    "iou_foreground": foreground_iou,
}
"""Reduction -> the values that it takes mean and std of: one per sample (`iou_image`,
`iou_foreground`), per sample and class (`iou_region`), per class (`iou_dataset`)."""
NAMES = tuple(name + suffix for name in REDUCTIONS for suffix in ("", "_with_background"))


def values_of(samples: Samples, name: str) -> np.ndarray:
    """Returns the values that the reduction `name`, one of `NAMES`, takes mean and std of."""
    plain = name.removesuffix("_with_background")
    return REDUCTIONS[plain](samples, background=plain != name)


def summary(values: np.ndarray) -> Reduction:
    """Returns the reduction of the values that are not NaN; mean and std are NaN without any."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Reduction(float("nan"), float("nan"), 0)
    return Reduction(float(values.mean()), float(values.std()), len(values))


def reduce(samples: Samples, name: str) -> Reduction:
    """Returns the reduction `name`, one of `NAMES`."""
    return summary(values_of(samples, name))
