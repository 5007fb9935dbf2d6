"""What a judge sees in a batch of images, counted against their layouts."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tcig.data.layout import Layout
from tcig.data.masks import encode_label_map, resize_nearest
from tcig.data.voc import LABELS
from tcig.eval.images import open_image
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.eval.judges import Segmentation, StagedJudge
from tcig.eval.label_maps import LabelMaps
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


def judged(judge: StagedJudge, sizes: Sizes, batch: Sequence[Shown]) -> list[Seen]:
    """Segments a batch of images and counts each against its layout.

    Raises:
        InputError: an image cannot be read, see `open_image`.
    """
    return counted(sizes, batch, judge.read(judge.look(prepared(judge, sizes, batch))))


def prepared(judge: StagedJudge, sizes: Sizes, batch: Sequence[Shown]) -> Any:
    """A batch as a judge looks at it: the images, or the label maps that were made of them.

    Raises:
        InputError: one cannot be read, see `open_image` and `LabelMaps`.
    """
    if isinstance(judge, LabelMaps):
        return judge.maps([(each.layout.id, each.sample) for each in batch], sizes.image)
    images = [open_image(each.path, sizes.image, sizes.resize, each.content) for each in batch]
    return judge.prepare(images)


def counted(sizes: Sizes, batch: Sequence[Shown], segmented: Sequence[Segmentation]) -> list[Seen]:
    """What a judge saw in the images of a batch, against their layouts."""
    layouts = [shown.layout for shown in batch]
    maps = np.stack([resize_nearest(seen.labels, sizes.score) for seen in segmented])
    truths = np.stack([layout.class_map(sizes.score) for layout in layouts])
    counts = confusion(truths, maps)
    rows = _rows(batch, counts)
    for row, layout, truth, labels in zip(rows, layouts, truths, maps, strict=True):
        if layout.dropped:
            ignored = layout.dropped_map(sizes.score) > 0
            row["confusion_ignoring_dropped"] = sparse(confusion(truth, labels, ignored))
    for row, seen in zip(rows, segmented, strict=True):
        if seen.instances is not None:
            row["instances"] = [asdict(instance) for instance in seen.instances]
    return [Seen(row, encode_label_map(labels)) for row, labels in zip(rows, maps, strict=True)]


def _rows(batch: Sequence[Shown], counts: np.ndarray) -> list[dict]:
    """As if nothing were ignored; `counts` (N, 21, 21)."""
    classes = [shown.layout.classes for shown in batch]
    ious = class_iou(Samples.of(counts, classes)).round(6).tolist()
    intersections = np.einsum("nii->ni", counts).tolist()
    truths, predictions = counts.sum(2).tolist(), counts.sum(1).tolist()
    rows = []
    for n, (shown, indices) in enumerate(zip(batch, classes, strict=True)):
        pixels = sparse(counts[n])
        rows.append(
            {
                "layout": shown.layout.id,
                "sample": shown.sample,
                "classes": list(indices),
                "confusion": pixels,
                "confusion_ignoring_dropped": pixels,
                "counts": {
                    LABELS[c]: {
                        "intersection": intersections[n][c],
                        "truth": truths[n][c],
                        "predicted": predictions[n][c],
                    }
                    for c in (0, *indices)
                },
                "iou": {LABELS[c]: None if isnan(ious[n][c]) else ious[n][c] for c in indices},
            }
        )
    return rows
