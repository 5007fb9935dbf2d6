"""What a judge sees in a batch of images, counted against their layouts."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tcig.data.layout import Layout
from tcig.data.masks import encode_label_map, resize_nearest
from tcig.data.voc import LABELS
from tcig.eval.images import open_image
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.eval.judges import Judge, Segmentation
from tcig.eval.stored import sparse


class Sizes(NamedTuple):
    """Sides in pixels: of the images, and of the label maps when they are compared."""

    image: int
    score: int
    resize: bool = False
    """Whether images of another size are resized instead of refused."""


class Shown(NamedTuple):
    """An image for a judge."""

    layout: Layout
    sample: int
    path: Path
    content: bytes | None = None
    """Of the file, where whoever judges may not reach it."""


class Seen(NamedTuple):
    """What a judge saw in it."""

    row: dict
    labels: bytes
    """The label map, a palette PNG."""


def judged(judge: Judge, sizes: Sizes, batch: Sequence[Shown]) -> list[Seen]:
    """Segments a batch of images and counts each against its layout.

    Raises:
        InputError: an image cannot be read, see `open_image`.
    """
    images = [open_image(each.path, sizes.image, sizes.resize, each.content) for each in batch]
    segmented = judge.segment(images)
    maps = [resize_nearest(seen.labels, sizes.score) for seen in segmented]
    layouts = [shown.layout for shown in batch]
    counts = [_confusions(layout, labels) for layout, labels in zip(layouts, maps, strict=True)]
    classes = [layout.classes for layout in layouts]
    ious = class_iou(Samples.of([both[0] for both in counts], classes))
    rows = map(_row, batch, segmented, counts, ious)
    return [Seen(row, encode_label_map(labels)) for row, labels in zip(rows, maps, strict=True)]


def _confusions(layout: Layout, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With all pixels, and without those of dropped objects."""
    truth = layout.class_map(len(labels))
    counts = confusion(truth, labels)
    if not layout.dropped:
        return counts, counts
    return counts, confusion(truth, labels, layout.dropped_map(len(labels)) > 0)


def _row(
    shown: Shown, seen: Segmentation, counts: tuple[np.ndarray, np.ndarray], iou: np.ndarray
) -> dict:
    classes, (all_pixels, ignoring) = shown.layout.classes, counts
    row = {
        "layout": shown.layout.id,
        "sample": shown.sample,
        "classes": list(classes),
        "confusion": sparse(all_pixels),
        "confusion_ignoring_dropped": sparse(ignoring),
        "counts": {LABELS[c]: _counts(all_pixels, c) for c in (0, *classes)},
        "iou": {LABELS[c]: None if np.isnan(iou[c]) else round(iou[c], 6) for c in classes},
    }
    if seen.instances is not None:
        row["instances"] = [asdict(instance) for instance in seen.instances]
    return row


def _counts(counts: np.ndarray, index: int) -> dict[str, int]:
    return {
        "intersection": int(counts[index, index]),
        "truth": int(counts[index].sum()),
        "predicted": int(counts[:, index].sum()),
    }
