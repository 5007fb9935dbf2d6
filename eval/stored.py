"""What a scoring leaves in `FOLDER/scores/JUDGE/`, and reading it back.

`score.json` says what judged what, `rows.jsonl` has the counts of each sample, `labels/` the label
maps (palette PNG): every reduction and overlay derives from these without the judge.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NotRequired

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from tcig.data.errors import InputError
from tcig.data.files import read_file
from tcig.data.records import Count, LayoutId, read_records
from tcig.data.voc import LABELS
from tcig.eval.iou import Samples

SCHEMA = 1
COUNTS = {"none": "confusion", "dropped": "confusion_ignoring_dropped"}
"""`--ignore` -> the counts in a row."""


Label = Annotated[int, Field(ge=0, lt=len(LABELS))]


class InstanceRecord(TypedDict):
    """An object that a judge found: its class, its confidence 0..1, its mask as RLE."""

    label: str
    score: FiniteFloat
    mask: dict


class ScoreRecord(TypedDict):
    """A line of `rows.jsonl`: the pixels of a sample, counted."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    layout: LayoutId
    sample: Count
    classes: list[Label]
    """Of the layout."""
    confusion: list[tuple[Label, Label, Count]]
    """True class, predicted class, pixels; only where there are some."""
    confusion_ignoring_dropped: list[tuple[Label, Label, Count]]
    """The same without the pixels of dropped objects."""
    iou: dict[str, FiniteFloat | None]
    """By class of the layout; None where it is wholly covered."""
    image_sha256: str
    instances: NotRequired[list[InstanceRecord]]
    """The most confident first."""


SCORE_RECORD = TypeAdapter(ScoreRecord)


class Score(BaseModel):
    """`score.json`: what a folder's rows count. Rows under another `key` are dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[SCHEMA] = SCHEMA
    row: str
    judge: str
    identity: str
    """Of the judge's weights and settings."""
    kind: Literal["built-in", "plug-in", "label maps"] = "built-in"
    """Where the judge comes from, see `tcig.eval.judges.Kind`."""
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


def label_path(place: Path, layout: str, sample: int) -> Path:
    """Where the label map of a sample is, in the folder of a judge's scores."""
    return place / "labels" / f"{layout}-{sample}.png"


def stored_rows(place: Path, score: Score) -> dict[tuple[str, int], ScoreRecord]:
    """The rows of an earlier scoring under the same key, those that fit alone."""
    try:
        if Score.model_validate_json(read_file(place / "score.json")).key != score.key:
            return {}
    except (InputError, ValidationError):
        return {}
    return {
        (row["layout"], row["sample"]): row
        for row in read_records(place / "rows.jsonl", SCORE_RECORD)
        if sum(pixels for _, _, pixels in row["confusion"]) == score.score_size**2
    }


def sparse(counts: np.ndarray) -> list[list[int]]:
    """The non-zero entries as [true class, predicted class, pixels]."""
    truth, predicted = np.nonzero(counts)
    pixels = counts[truth, predicted]
    return np.stack([truth, predicted, pixels], 1).tolist()


def dense(entries: list[list[int]]) -> np.ndarray:
    """The confusion matrix, (21, 21) int64, of `confusion` in a row."""
    counts = np.zeros((len(LABELS),) * 2, np.int64)
    for truth, predicted, pixels in entries:
        counts[truth, predicted] = pixels
    return counts


def samples_of(rows: Sequence[ScoreRecord], ignore: str) -> Samples:
    """The counts of stored rows, `ignore` one of `COUNTS`."""
    counts = [dense(row[COUNTS[ignore]]) for row in rows]
    return Samples.of(counts, [row["classes"] for row in rows])


def read_scores(folder: Path) -> Iterator[tuple[Score, list[ScoreRecord]]]:
    """Every judge's score of a folder of images, with the rows of the samples it names.

    Raises:
        InputError: a score is unfinished, or of another version.
    """
    for path in sorted(folder.glob("scores/*/score.json")):
        try:
            score = Score.model_validate_json(read_file(path))
        except ValidationError:
            raise InputError(f"{path} is no score of this version: score {folder} again.") from None
        rows = stored_rows(path.parent, score)
        missing = [pair for pair in score.samples if tuple(pair) not in rows]
        if missing:
            raise InputError(
                f"{path.parent} lacks {len(missing)} of {len(score.samples)} samples: scoring was "
                "interrupted, and the same command goes on."
            )
        yield score, [rows[tuple(pair)] for pair in score.samples]
