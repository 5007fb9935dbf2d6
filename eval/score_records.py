"""The scores of a folder of images: `FOLDER/scores/JUDGE/`, a store of `tcig.data.records`.

`score.json` is the header, `rows.jsonl` has the pixel counts of each sample, and `labels/` has the
label maps (palette PNG): every reduction and overlay derives from these without the judge.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NotRequired

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from tcig.data.files import InputError
from tcig.data.layout import LayoutId
from tcig.data.pictures import whole_png
from tcig.data.records import Count, Pair, RecordStore, read_header, read_records
from tcig.data.voc import LABELS
from tcig.eval.iou import Samples

SCHEMA = 1
SYNC = 1.0
"""Seconds of work that a crash of the machine may take; a crash of the process takes none."""
COUNTS = {"none": "confusion", "dropped": "confusion_ignoring_dropped"}
"""Value of `--ignore` -> the counts in a record."""
Kind = Literal["built-in", "plug-in", "label maps"]
"""Where a judge comes from: tcig, a class from outside, a folder of label maps made elsewhere."""
Label = Annotated[int, Field(ge=0, lt=len(LABELS))]


class InstanceRecord(TypedDict):
    """An object that a judge found: its class, its confidence 0..1, its mask as RLE."""

    label: str
    score: FiniteFloat
    mask: dict


class ScoreRecord(TypedDict):
    """A line of `rows.jsonl`: the pixel counts of a sample."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    layout: LayoutId
    sample: Count
    classes: list[Label]
    """Classes of the layout."""
    confusion: list[tuple[Label, Label, Count]]
    """True class, predicted class, pixels; only the counts above 0."""
    confusion_ignoring_dropped: list[tuple[Label, Label, Count]]
    """The same without the pixels of dropped objects."""
    image_sha256: str
    instances: NotRequired[list[InstanceRecord]]
    """The most confident first."""
    metrics: NotRequired[dict[str, FiniteFloat | None]]
    """How the judge agrees with the layout, by `tcig quality`: `boundary_iou`, and of judges that
    know instances `recall_iou` and `recall_iou_dense`."""


SCORE_RECORD = TypeAdapter(ScoreRecord)


class Score(BaseModel):
    """The content of `score.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[SCHEMA] = SCHEMA
    row: str
    judge: str
    identity: str
    """The judge's weights and settings."""
    kind: Kind = "built-in"
    manifest: str
    """SHA-256 of the manifest."""
    score_size: int
    """Side at which class maps and label maps are compared, pixels."""
    image_size: int
    resized: bool
    failed: int
    """Samples that the run recorded as failed."""
    samples: tuple[Pair, ...]
    """Layout id and sample index of every image scored."""
    finished: bool = True

    @property
    def key(self) -> tuple:
        """What a record depends on, its image aside."""
        judge = self.judge, self.identity, self.kind
        return self.schema_version, *judge, self.manifest, *self.sizes, self.resized

    @property
    def sizes(self) -> tuple[int, int]:
        """Sides of the images and of the comparison, pixels."""
        return self.image_size, self.score_size


def label_path(folder: Path, layout: str, sample: int) -> Path:
    """Returns the path of a sample's label map in the folder of a judge's scores."""
    return folder / "labels" / f"{layout}-{sample}.png"


def counts_all_pixels(record: ScoreRecord, score: Score) -> bool:
    """Returns whether a record has as many pixels as the comparison: a damaged one may not."""
    return sum(pixels for _, _, pixels in record["confusion"]) == score.score_size**2


def open_scores(folder: Path, score: Score) -> RecordStore[Score, ScoreRecord]:
    """Returns the store of a judge's scores of a folder of images, not yet entered."""
    place = folder / "scores" / score.judge

    def is_whole(record: ScoreRecord) -> bool:
        labels = label_path(place, record["layout"], record["sample"])
        return counts_all_pixels(record, score) and whole_png(labels)

    return RecordStore(place / "score.json", score, SCORE_RECORD, is_whole, sync_every=SYNC)


def sparse(counts: np.ndarray) -> list[list[int]]:
    """Returns the non-zero entries as [true class, predicted class, pixels]."""
    truth, predicted = np.nonzero(counts)
    return np.stack([truth, predicted, counts[truth, predicted]], 1).tolist()


def dense(entries: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the confusion matrix, (21, 21) int64, of the `confusion` of a record."""
    counts = np.zeros((len(LABELS),) * 2, np.int64)
    for truth, predicted, pixels in entries:
        counts[truth, predicted] = pixels
    return counts


def samples_of(records: Sequence[ScoreRecord], ignore: str) -> Samples:
    """Returns the counts of records, `ignore` one of `COUNTS`."""
    counts = [dense(record[COUNTS[ignore]]) for record in records]
    return Samples.of(counts, [record["classes"] for record in records])


def read_scores(folder: Path) -> Iterator[tuple[Score, list[ScoreRecord]]]:
    """Yields every judge's score of a folder of images, with the records of its samples.

    Raises:
        InputError: a score is unfinished, or of another version.
    """
    for path in sorted(folder.glob("scores/*/score.json")):
        score = read_header(path, Score)
        if score is None:
            raise InputError(
                f"{path} is not a score of this version: run `tcig score` on {folder} again."
            )
        records = {
            (record["layout"], record["sample"]): record
            for record in read_records(path.parent / "rows.jsonl", SCORE_RECORD)
            if counts_all_pixels(record, score)
        }
        missing = [pair for pair in score.samples if pair not in records]
        if missing or not score.finished:
            raise InputError(
                f"{path.parent} lacks {len(missing)} of {len(score.samples)} samples: scoring was "
                "interrupted, and the same command resumes it."
            )
        yield score, [records[pair] for pair in score.samples]
