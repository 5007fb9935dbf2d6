"""Scores a folder of images: segments each again and counts it against its layout.

What is kept: `tcig.eval.stored`; beside it `sheet.png`, a look at the first samples.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tcig.data.files import sha256, sole_writer, write_whole
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest, save_label_map
from tcig.data.voc import LABELS
from tcig.eval.images import find_images, open_image
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.eval.judges import Judge, Segmentation
from tcig.eval.sheet import write_sheet
from tcig.eval.stored import Score, label_path, sparse, stored_rows
from tcig.models.devices import set_tf32

BATCH = 16
SHEET = 8
"""Samples on the contact sheet."""


class Sizes(NamedTuple):
    """Sides in pixels: of the images, and of the label maps when they are compared."""

    image: int
    score: int
    resize: bool = False
    """Whether images of another size are resized instead of refused."""


def score_folder(
    folder: Path,
    layouts: Sequence[Layout],
    manifest: str,
    judge: tuple[str, Judge],
    sizes: Sizes,
    row: str | None = None,
    limit: int | None = None,
) -> Path:
    """Scores a folder's images; rows of the same image, judge and manifest are kept.

    Args:
        folder: the images; `folder/scores/JUDGE` is written.
        layouts: of the manifest.
        manifest: its SHA-256.
        judge: its name and itself.
        sizes: of the images and of the comparison.
        row: the row's name in the table, instead of the run's method or the folder's name.
        limit: score the first so many layouts, instead of those that the run was asked for.

    Returns:
        The folder of the scores.

    Raises:
        InputError: an image is missing, cannot be read or has another size, or another process
            scores the folder; what was scored before is kept.
    """
    found = find_images(folder, layouts, manifest, limit)
    hashes = {
        (layout.id, sample): sha256(folder / f"{layout.id}-{sample}.png")
        for layout, sample in found.pairs
    }
    name, network = judge
    score = Score(
        row=row or found.row,
        judge=name,
        identity=network.identity,
        manifest=manifest,
        image_size=sizes.image,
        score_size=sizes.score,
        resized=sizes.resize,
        failed=found.failed,
        samples=tuple(hashes),
    )
    set_tf32(False)  # whatever the profile allows the networks that draw
    place = folder / "scores" / name
    (place / "labels").mkdir(parents=True, exist_ok=True)
    with sole_writer(place):
        rows = {
            pair: kept
            for pair, kept in stored_rows(place, score).items()
            if kept["image_sha256"] == hashes.get(pair, kept["image_sha256"])
            and label_path(place, *pair).exists()
        }
        pending = [pair for pair in found.pairs if (pair[0].id, pair[1]) not in rows]
        for layout, sample in pending:  # before the judge spends hours on the others
            open_image(folder / f"{layout.id}-{sample}.png", sizes.image, sizes.resize)
        kept_lines = "".join(json.dumps(kept) + "\n" for kept in rows.values())
        write_whole(place / "rows.jsonl", kept_lines)
        write_whole(place / "score.json", score.model_dump_json(indent=2) + "\n")
        with (
            (place / "rows.jsonl").open("a", encoding="utf-8") as file,
            tqdm(total=len(pending), desc=f"{score.row}, judge {name}", disable=None) as bar,
        ):
            for first in range(0, len(pending), BATCH):
                batch = pending[first : first + BATCH]
                for record in _judged(folder, place, batch, network, sizes):
                    record["image_sha256"] = hashes[record["layout"], record["sample"]]
                    file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
                bar.update(len(batch))
        _sheet(folder, place, found.pairs[:SHEET], stored_rows(place, score))
    return place


def _judged(
    folder: Path, place: Path, batch: list[tuple[Layout, int]], judge: Judge, sizes: Sizes
) -> Iterator[dict]:
    """Segments a batch, stores its label maps, and gives its rows."""
    paths = [folder / f"{layout.id}-{sample}.png" for layout, sample in batch]
    images = [open_image(path, sizes.image, sizes.resize) for path in paths]
    for (layout, sample), seen in zip(batch, judge.segment(images), strict=True):
        labels = resize_nearest(seen.labels, sizes.score)
        save_label_map(labels, label_path(place, layout.id, sample))
        yield _row(layout, sample, labels, seen)


def _sheet(folder: Path, place: Path, pairs: list[tuple[Layout, int]], rows: dict) -> None:
    samples = [
        (
            layout,
            folder / f"{layout.id}-{sample}.png",
            label_path(place, layout.id, sample),
            rows[layout.id, sample]["iou"],
        )
        for layout, sample in pairs
    ]
    write_sheet(place / "sheet.png", samples)


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
