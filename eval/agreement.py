"""What a judge saw, compared with the layouts beyond the confusion matrix: contours, instances."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.masks import check_runs, decode, load_label_map
from tcig.eval.quality import boundary_iou, recall_iou
from tcig.eval.stored import Score, label_path, read_scores


class Seen(NamedTuple):
    """A judge's scores of a folder of images."""

    place: Path
    score: Score
    rows: dict[tuple[str, int], dict]
    """By layout and sample."""


def read_judges(
    folder: Path, hashes: Mapping[tuple[str, int], str], manifest: str
) -> dict[str, Seen]:
    """All judges' scores of a folder, by name.

    Args:
        folder: the images.
        hashes: SHA-256 of those that are to be compared.
        manifest: SHA-256 of the manifest.

    Raises:
        InputError: a judge scored other images or for another manifest.
    """
    judges = {}
    for score, rows in read_scores(folder):
        found = {(row["layout"], row["sample"]): row for row in rows}
        scored = {pair: row["image_sha256"] for pair, row in found.items()}
        place = folder / "scores" / score.judge
        if score.manifest != manifest or not hashes.items() <= scored.items():
            raise InputError(
                f"{place} is not of the images and the manifest that are to be measured: run `tcig "
                "score` again."
            )
        judges[score.judge] = Seen(place, score, found)
    return judges


def agreement(layout: Layout, sample: int, seen: Seen) -> dict[str, float | None]:
    """Boundary IoU, and of a judge that knows instances DenseDiffusion's IoU both ways.

    Returns:
        `boundary_iou`, `recall_iou`, `recall_iou_dense`; None where there is nothing to compare.

    Raises:
        InputError: the label map cannot be read or has another size.
    """
    size, path = seen.score.score_size, label_path(seen.place, layout.id, sample)
    labels = load_label_map(path)
    if labels.shape != (size, size):
        raise InputError(f"{path} is not {size}x{size}, as scored: run `tcig score` again.")
    found = {"boundary_iou": boundary_iou(layout.class_map(size), labels, layout.classes)}
    instances = seen.rows[layout.id, sample].get("instances")
    if instances is not None:
        objects = [(region.label, region.pixels) for region in layout.regions]
        detections = [(each["label"], _mask(seen.place, each["mask"])) for each in instances]
        found["recall_iou"] = recall_iou(objects, detections)
        found["recall_iou_dense"] = recall_iou(objects, detections, mended=False)
    return {name: None if math.isnan(v) else round(v, 6) for name, v in found.items()}


def _mask(place: Path, rle: dict) -> np.ndarray:
    """An instance's mask; a damaged one would be read beyond its end."""
    try:
        check_runs(rle)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{place / 'rows.jsonl'} has a damaged mask ({error}): remove {place} and score again."
        ) from None
    return decode(rle)
