"""What `tcig quality` leaves in `FOLDER/quality/`, a store of `tcig.data.records`, and reading it.

`quality.json` is the header, with the distances between sets of images; `features/` has the
features of each sample, from which these derive. What it measures of a judge's label maps is a part
of the records of the scores.
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

from tcig.data.files import InputError, read_file
from tcig.data.layout import LayoutId
from tcig.data.records import Count, Pair, read_header, read_records

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


QUALITY_RECORD = TypeAdapter(QualityRecord)


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
    values: dict[str, MetricValues]
    """`clip_caption` and `clip_region` of each sample, `diversity` of each layout."""


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
    layouts = np.array([layout for layout, _ in quality.samples])
    regions = [np.mean(record["clip_regions"]) for record in chosen]
    diversity = quality.diversity
    values = {
        "clip_caption": MetricValues(layouts, to_array(each["clip_caption"] for each in chosen)),
        "clip_region": MetricValues(layouts, to_array(regions)),
        "diversity": MetricValues(np.array(list(diversity)), to_array(diversity.values())),
    }
    images = {pair: records[pair]["image_sha256"] for pair in quality.samples}
    return FolderQuality(quality, images, values)


def to_array(values: Iterable[float | None]) -> np.ndarray:
    """Returns values as an array, NaN for None."""
    return np.array([math.nan if value is None else value for value in values], float)
