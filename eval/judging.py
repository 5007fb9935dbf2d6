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
    found = []
    for shown, seen in zip(batch, judge.segment(images), strict=True):
        labels = resize_nearest(seen.labels, sizes.score)
        row = _row(shown.layout, shown.sample, labels, seen)
        found.append(Seen(row, encode_label_map(labels)))
    return found


def _row(layout: Layout, sample: int, labels: np.ndarray, found: Segmentation) -> dict:
    size = len(labels)
    truth, ignored = layout.class_map(size), layout.dropped_map(size) > 0
    counts = confusion(truth, labels)
    iou = class_iou(Samples.of([counts], [layout.classes]))[0]
    row = {
        "layout": layout.id,
        "sample": sample,
        "classes": list(layout.classes),
        "confusion": sparse(counts),
        "confusion_ignoring_dropped": sparse(confusion(truth, labels, ignored)),
        "counts": {LABELS[c]: _counts(counts, c) for c in (0, *layout.classes)},
        "iou": {LABELS[c]: None if np.isnan(iou[c]) else round(iou[c], 6) for c in layout.classes},
    }
    if found.instances is not None:
        row["instances"] = [asdict(instance) for instance in found.instances]
    return row


def _counts(counts: np.ndarray, index: int) -> dict[str, int]:
    return {
        "intersection": int(counts[index, index]),
        "truth": int(counts[index].sum()),
        "predicted": int(counts[:, index].sum()),
    }
