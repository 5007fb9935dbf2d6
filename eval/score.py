"""Scores a folder of images: segments each again and counts it against its layout.

Kept in `FOLDER/scores/JUDGE/`, from which every reduction and overlay derives without the judge:
`score.json` (what judged what), `rows.jsonl` (one row a sample), `labels/` (palette PNG); beside
them `sheet.png`, a look at the first samples.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from tcig.data.errors import InputError
from tcig.data.files import sha256, write_whole
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest, save_label_map
from tcig.data.voc import LABELS
from tcig.eval.images import find_images, open_image
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.eval.judges import Judge, Segmentation
from tcig.eval.sheet import write_sheet

SCHEMA = 1
BATCH = 16
SHEET = 8
"""Samples on the contact sheet."""


class Sizes(NamedTuple):
    """Sides in pixels: of the images, and of the label maps when they are compared."""

    image: int
    score: int
    resize: bool = False
    """Whether images of another size are resized instead of refused."""


class Score(BaseModel):
    """`score.json`: what a folder's rows count. Rows under another `key` are dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    row: str
    judge: str
    identity: str
    """Of the judge's weights and settings."""
    manifest: str
    """SHA-256 of the manifest."""
    score_size: int
    """Side at which truth and label maps are compared."""
    image_size: int
    resized: bool
    failed: int
    """Samples that the run recorded as failed."""
    samples: tuple[tuple[str, int], ...]
    """(layout, sample) of every image scored."""

    @property
    def key(self) -> tuple:
        """What a stored row depends on, its image aside."""
        return (
            self.schema_version,
            self.judge,
            self.identity,
            self.manifest,
            self.score_size,
            self.image_size,
            self.resized,
        )


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
        InputError: an image is missing, cannot be read or has another size; what was scored
            before is kept.
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
    place = folder / "scores" / name
    rows = {
        pair: kept
        for pair, kept in _stored_rows(place, score).items()
        if kept["image_sha256"] == hashes.get(pair, kept["image_sha256"])
        and _label_path(place, *pair).exists()
    }
    pending = [pair for pair in found.pairs if (pair[0].id, pair[1]) not in rows]
    for layout, sample in pending:  # before the judge spends hours on the others
        open_image(folder / f"{layout.id}-{sample}.png", sizes.image, sizes.resize)
    (place / "labels").mkdir(parents=True, exist_ok=True)
    write_whole(place / "rows.jsonl", "".join(json.dumps(kept) + "\n" for kept in rows.values()))
    write_whole(place / "score.json", score.model_dump_json(indent=2) + "\n")
    with (
        (place / "rows.jsonl").open("a", encoding="utf-8") as file,
        tqdm(
            total=len(pending), desc=f"{score.row}, judge {name}", unit="image", disable=None
        ) as bar,
    ):
        for first in range(0, len(pending), BATCH):
            batch = pending[first : first + BATCH]
            paths = [folder / f"{layout.id}-{sample}.png" for layout, sample in batch]
            images = [open_image(path, sizes.image, sizes.resize) for path in paths]
            for (layout, sample), seen in zip(batch, network.segment(images), strict=True):
                labels = resize_nearest(seen.labels, sizes.score)
                save_label_map(labels, _label_path(place, layout.id, sample))
                record = _row(layout, sample, labels, seen, hashes[layout.id, sample])
                file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
            bar.update(len(batch))
    stored = _stored_rows(place, score)
    first = found.pairs[:SHEET]
    write_sheet(
        place / "sheet.png",
        [
            (
                layout,
                folder / f"{layout.id}-{sample}.png",
                _label_path(place, layout.id, sample),
                stored[layout.id, sample]["iou"],
            )
            for layout, sample in first
        ],
    )
    return place


def _label_path(place: Path, layout: str, sample: int) -> Path:
    return place / "labels" / f"{layout}-{sample}.png"


def _stored_rows(place: Path, score: Score) -> dict[tuple[str, int], dict]:
    """The rows of an earlier scoring under the same key; a torn last line is left out."""
    try:
        before = Score.model_validate_json((place / "score.json").read_bytes())
        lines = (place / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    if before.key != score.key:
        return {}
    rows = {}
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        rows[row["layout"], row["sample"]] = row
    return rows


def _row(layout: Layout, sample: int, labels: np.ndarray, found: Segmentation, image: str) -> dict:
    size = len(labels)
    truth, ignored = layout.class_map(size), layout.dropped_map(size) > 0
    counts = confusion(truth, labels)
    iou = class_iou(Samples.of([counts], [layout.classes]))[0]
    row = {
        "layout": layout.id,
        "sample": sample,
        "image_sha256": image,
        "classes": list(layout.classes),
        "confusion": _sparse(counts),
        "confusion_ignoring_dropped": _sparse(confusion(truth, labels, ignored)),
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


def _sparse(counts: np.ndarray) -> list[list[int]]:
    """The non-zero entries as [true class, predicted class, pixels]."""
    return [[int(t), int(p), int(counts[t, p])] for t, p in np.argwhere(counts)]


def dense(entries: list[list[int]]) -> np.ndarray:
    """The confusion matrix, (21, 21) int64, of `confusion` in a row."""
    counts = np.zeros((len(LABELS),) * 2, np.int64)
    for truth, predicted, pixels in entries:
        counts[truth, predicted] = pixels
    return counts


def read_scores(folder: Path) -> Iterator[tuple[Score, list[dict]]]:
    """Every judge's score of a folder of images, with the rows of the samples it names.

    Raises:
        InputError: a score is unfinished, or of another version.
    """
    for path in sorted(folder.glob("scores/*/score.json")):
        try:
            score = Score.model_validate_json(path.read_bytes())
        except ValidationError:
            raise InputError(f"{path} is no score of this version: score {folder} again.") from None
        rows = _stored_rows(path.parent, score)
        missing = [pair for pair in score.samples if tuple(pair) not in rows]
        if missing:
            raise InputError(
                f"{path.parent} lacks {len(missing)} of {len(score.samples)} samples: scoring was "
                "interrupted, and the same command goes on."
            )
        yield score, [rows[tuple(pair)] for pair in score.samples]
