"""What scoring and `tcig quality` leave beside a folder's images: stores of `tcig.data.records`.

- `FOLDER/scores/JUDGE/`: `score.json` is the header, `rows.jsonl` has the pixel counts of each
  sample, and `labels/` has the label maps (palette PNG): every reduction and overlay derives from
  these without the judge.
- `FOLDER/quality/`: `quality.json` is the header, with the distances between sets of images;
  `features/` has the features of each sample, from which these derive. What `tcig quality` measures
  of a judge's label maps is a part of the records of the scores.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, NotRequired

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter
from safetensors import SafetensorError
from typing_extensions import TypedDict

from tcig.data.files import InputError, read_file
from tcig.data.layout import LayoutId
from tcig.data.pictures import whole_png
from tcig.data.records import Count, Pair, RecordStore, read_header, read_records
from tcig.data.voc import LABELS
from tcig.eval.iou import Samples

SCORE_SCHEMA, QUALITY_SCHEMA = 1, 2
SYNC = 1.0
"""Seconds of work that a crash of the machine may take; a crash of the process takes none."""
COUNTS = {"none": "confusion", "dropped": "confusion_ignoring_dropped"}
"""Value of `--ignore` -> the counts in a record."""
Kind = Literal["built-in", "plug-in", "label maps"]
"""Where a judge comes from: tcig, a class from outside, a folder of label maps made elsewhere."""
Label = Annotated[int, Field(ge=0, lt=len(LABELS))]


class Instance(TypedDict):
    """One object that an instance judge found: class, confidence 0..1, mask as RLE."""

    label: str
    score: FiniteFloat
    mask: dict


class ScoreRecord(TypedDict):
    """A line of a judge's `rows.jsonl`: the pixel counts of a sample."""

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
    instances: NotRequired[list[Instance]]
    """The most confident first."""
    metrics: NotRequired[dict[str, FiniteFloat | None]]
    """How the judge agrees with the layout, by `tcig quality`: `boundary_iou`, and of judges that
    know instances `recall_iou` and `recall_iou_dense`."""


class QualityRecord(TypedDict):
    """What the networks of the quality metrics measured of a sample."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    layout: LayoutId
    sample: Count
    image_sha256: str
    clip_caption: FiniteFloat
    clip_regions: Annotated[list[FiniteFloat], Field(min_length=1)]
    """One value a region."""


SCORE_RECORD, QUALITY_RECORD = TypeAdapter(ScoreRecord), TypeAdapter(QualityRecord)


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Header):
    """The content of `score.json`."""

    schema_version: Literal[SCORE_SCHEMA] = SCORE_SCHEMA
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
        judge, sizes = (self.judge, self.identity, self.kind), (self.image_size, self.score_size)
        return self.schema_version, *judge, self.manifest, *sizes, self.resized


class SetDistance(_Header):
    """A distance between the images and the photographs."""

    value: float
    std: float | None
    """Over subsets; None of a single set."""
    n: int
    """Images."""
    photographs: int


class Quality(_Header):
    """The content of `quality.json`."""

    schema_version: Literal[QUALITY_SCHEMA] = QUALITY_SCHEMA
    scorer: str
    """Source of the CLIP that scores."""
    scorer_identity: str
    prefix: str
    features: str
    """Source of the network whose features KID and FID compare."""
    features_identity: str
    manifest: str
    """SHA-256 of the manifest."""
    image_size: int
    resized: bool
    samples: tuple[Pair, ...]
    """Every image measured."""
    compared: bool
    """Whether the images were compared with photographs."""
    distances: dict[str, SetDistance] | None = None
    """By name; None until all is measured."""
    refused: dict[str, str] = {}
    """Why a distance is not given."""
    diversity: dict[str, float | None] = {}
    """By layout; None of one sample."""

    @property
    def key(self) -> tuple:
        """What a record depends on, its image aside."""
        networks = self.scorer_identity, self.prefix, self.features_identity
        return self.schema_version, *networks, self.manifest, self.image_size, self.resized

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the features of each sample; KID and FID are on the last one's."""
        own = self.features_identity != self.scorer_identity
        return ("scorer", "features") if own else ("scorer",)


class MetricValues(NamedTuple):
    """A metric's values, (N,), NaN where it is not defined, and the layout of each."""

    values: np.ndarray
    layouts: list[str]


class FolderQuality(NamedTuple):
    """The quality of a folder of images."""

    quality: Quality
    images: dict[Pair, str]
    """SHA-256 of each image."""
    values: dict[str, MetricValues]
    """`clip_caption` and `clip_region` of each sample, `diversity` of each layout."""


def label_path(folder: Path, layout: str, sample: int) -> Path:
    """Returns the path of a sample's label map in the folder of a judge's scores."""
    return folder / "labels" / f"{layout}-{sample}.png"


def _counts_all_pixels(record: ScoreRecord, score: Score) -> bool:
    """Returns whether a record has as many pixels as the comparison: a damaged one may not."""
    return sum(pixels for _, _, pixels in record["confusion"]) == score.score_size**2


def open_scores(folder: Path, score: Score) -> RecordStore[Score, ScoreRecord]:
    """Returns the store of a judge's scores of a folder of images, not yet entered."""
    place = folder / "scores" / score.judge

    def is_whole(record: ScoreRecord) -> bool:
        labels = label_path(place, record["layout"], record["sample"])
        return _counts_all_pixels(record, score) and whole_png(labels)

    return RecordStore(place / "score.json", score, SCORE_RECORD, is_whole, sync_every=SYNC)


def open_quality(folder: Path, request: Quality) -> RecordStore[Quality, QualityRecord]:
    """Returns the store of the quality of a folder of images, not yet entered."""

    def is_whole(record: QualityRecord) -> bool:
        pair = record["layout"], record["sample"]
        return read_features(folder, pair, request.networks) is not None

    path = folder / "quality" / "quality.json"
    return RecordStore(path, request, QUALITY_RECORD, is_whole, sync_every=SYNC)


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
            if _counts_all_pixels(record, score)
        }
        missing = [pair for pair in score.samples if pair not in records]
        if missing or not score.finished:
            raise InputError(
                f"{path.parent} lacks {len(missing)} of {len(score.samples)} samples: scoring was "
                "interrupted, and the same command resumes it."
            )
        yield score, [records[pair] for pair in score.samples]


def features_path(folder: Path, pair: Pair) -> Path:
    """Returns the path of a sample's features in a folder of images."""
    return folder / "quality" / "features" / f"{pair[0]}-{pair[1]}.safetensors"


def read_features(folder: Path, pair: Pair, networks: Iterable[str]) -> dict | None:
    """Reads a sample's features, (D,) float32 by network; None where a network's are missing."""
    try:
        found = safetensors.numpy.load(read_file(features_path(folder, pair)))
    except (InputError, SafetensorError, ValueError, KeyError):
        return None
    return found if set(networks) <= found.keys() else None


def read_quality(folder: Path) -> FolderQuality | None:
    """Reads what was measured of a folder of images, None if nothing was.

    Raises:
        InputError: it is unfinished, or of another version.
    """
    place = folder / "quality"
    if not place.is_dir():
        return None
    quality = read_header(place / "quality.json", Quality)
    every = read_records(place / "rows.jsonl", QUALITY_RECORD)
    records = {(record["layout"], record["sample"]): record for record in every}
    if quality is None or quality.distances is None or not set(quality.samples) <= records.keys():
        raise InputError(f"{place} is unfinished or of another version: run `tcig quality` again.")
    chosen = [records[pair] for pair in quality.samples]
    layouts = [layout for layout, _ in quality.samples]
    diversity = np.array(list(quality.diversity.values()), float)  # None becomes NaN
    values = {
        "clip_caption": np.array([record["clip_caption"] for record in chosen]),
        "clip_region": np.array([np.mean(record["clip_regions"]) for record in chosen]),
    }
    metrics = {name: MetricValues(each, layouts) for name, each in values.items()}
    metrics["diversity"] = MetricValues(diversity, list(quality.diversity))
    images = {pair: records[pair]["image_sha256"] for pair in quality.samples}
    return FolderQuality(quality, images, metrics)
