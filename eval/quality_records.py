"""What `tcig quality` leaves in `FOLDER/quality/`, stores of `tcig.data.records`, and reading it.

`quality.json` is the header of what networks measured, with the distances between sets of images;
`features/` has the features of each sample, from which these derive. `JUDGE/agreement.json` is the
header of how a judge's label maps and instances agree with the layouts.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter
from safetensors import SafetensorError
from typing_extensions import TypedDict

from tcig.data.errors import InputError
from tcig.data.files import read_file
from tcig.data.records import Count, LayoutId, Pair, read_header, read_records

SCHEMA = 2


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SetDistance(_Frozen):
    """A distance between the images and the photographs."""

    value: float
    std: float | None
    """Over subsets; None of a single set."""
    n: int
    """Images."""
    photographs: int


class QualityRecord(TypedDict):
    """What the networks measured of a sample."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    layout: LayoutId
    sample: Count
    image_sha256: str
    clip_caption: FiniteFloat
    clip_regions: Annotated[list[FiniteFloat], Field(min_length=1)]
    """One value a region."""


class AgreementRecord(TypedDict):
    """How a judge's view of a sample agrees with its layout."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    layout: LayoutId
    sample: Count
    image_sha256: str
    metrics: dict[str, FiniteFloat | None]
    """`boundary_iou`, and of judges that know instances `recall_iou`, `recall_iou_dense`."""


QUALITY_RECORD = TypeAdapter(QualityRecord)
AGREEMENT_RECORD = TypeAdapter(AgreementRecord)


class Quality(_Frozen):
    """The content of `quality.json`."""

    schema_version: Literal[SCHEMA] = SCHEMA
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

    @property
    def request(self) -> "Quality":
        """The header without what was measured."""
        return self.model_copy(update={"distances": None, "refused": {}, "diversity": {}})


class Agreement(_Frozen):
    """The content of `agreement.json`."""

    schema_version: Literal[SCHEMA] = SCHEMA
    judge: str
    identity: str
    score_size: int
    manifest: str
    samples: tuple[Pair, ...]
    finished: bool

    @property
    def key(self) -> tuple:
        """What a record depends on, its image aside."""
        judge = self.judge, self.identity, self.score_size
        return self.schema_version, *judge, self.manifest


class MetricValues(NamedTuple):
    """A metric's values with the layout of each, (N,): resample by layout for intervals."""

    layouts: np.ndarray
    values: np.ndarray
    """NaN where the metric is not defined."""


class FolderQuality(NamedTuple):
    """The quality of a folder of images."""

    quality: Quality
    images: dict[Pair, str]
    """SHA-256 of each image."""
    own: dict[str, MetricValues]
    """`clip_caption` and `clip_region` of each sample, `diversity` of each layout."""
    judged: dict[str, tuple[Agreement, dict[str, MetricValues]]]
    """By judge, metrics of each sample."""


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
    if quality is None or quality.distances is None:
        raise _unfinished(place)
    records = _records(place, QUALITY_RECORD, quality.samples)
    layouts = np.array([record["layout"] for record in records])
    regions = [np.mean(record["clip_regions"]) for record in records]
    diversity = quality.diversity
    own = {
        "clip_caption": MetricValues(layouts, _array(each["clip_caption"] for each in records)),
        "clip_region": MetricValues(layouts, np.array(regions)),
        "diversity": MetricValues(np.array(list(diversity)), _array(diversity.values())),
    }
    judged = {}
    for path in sorted(place.glob("*/agreement.json")):
        agreement = read_header(path, Agreement)
        if agreement is None or not agreement.finished:
            raise _unfinished(place)
        metrics = [
            record["metrics"]
            for record in _records(path.parent, AGREEMENT_RECORD, agreement.samples)
        ]
        layouts = np.array([layout for layout, _ in agreement.samples])
        names = dict.fromkeys(name for each in metrics for name in each)
        values = {
            name: MetricValues(layouts, _array(each.get(name) for each in metrics))
            for name in names
        }
        judged[agreement.judge] = agreement, values
    images = {(each["layout"], each["sample"]): each["image_sha256"] for each in records}
    return FolderQuality(quality, images, own, judged)


def _records(place: Path, schema: TypeAdapter, samples: Iterable[Pair]) -> list:
    records = {
        (each["layout"], each["sample"]): each
        for each in read_records(place / "rows.jsonl", schema)
    }
    if not set(samples) <= records.keys():
        raise _unfinished(place)
    return [records[pair] for pair in samples]


def _unfinished(place: Path) -> InputError:
    return InputError(f"{place} is unfinished or of another version: run `tcig quality` again.")


def _array(values: Iterable[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], float)
