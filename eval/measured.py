"""What `tcig quality` leaves in `FOLDER/quality/`, and reading it back.

`quality.json` says what was measured with what, and has the distances between sets; `rows.jsonl`
has each sample's figures, `features.safetensors` its features and those of the photographs. A row
is the commit point: features without one are not used.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from safetensors import SafetensorError
from typing_extensions import TypedDict

from tcig.data.errors import InputError
from tcig.data.files import read_file, write_whole
from tcig.data.records import Count, LayoutId, read_records

SCHEMA = 1
PAUSE = 30
"""Seconds between two writings: what a kill may cost; ours."""
Pair = tuple[str, int]
"""Layout and sample."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Judged(_Record):
    """Whose label maps and instances were compared."""

    identity: str
    score_size: int


class Figure(_Record):
    """A distance between the images and the photographs."""

    value: float
    std: float | None
    """Over subsets; None of a single one."""
    n: int
    """Images."""
    photographs: int


class QualityRecord(TypedDict):
    """A line of `rows.jsonl`: what was measured of a sample."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    layout: LayoutId
    sample: Count
    image_sha256: str
    clip_caption: FiniteFloat
    clip_regions: Annotated[list[FiniteFloat], Field(min_length=1)]
    """Of each region."""
    judges: dict[str, dict[str, FiniteFloat | None]]
    """Judge -> metric -> value, see `tcig.eval.agreement`."""


QUALITY_RECORD = TypeAdapter(QualityRecord)


class Quality(_Record):
    """`quality.json`: rows under another `key` are dropped."""

    schema_version: Literal[SCHEMA] = SCHEMA
    scorer: str
    """Source of the CLIP that scored."""
    scorer_identity: str
    prefix: str
    features: str
    """Source of what KID and FID look at."""
    features_identity: str
    manifest: str
    """SHA-256 of the manifest."""
    image_size: int
    resized: bool
    judges: dict[str, Judged]
    samples: tuple[Pair, ...]
    """Every image measured."""
    compared: bool
    """Whether with photographs."""
    figures: dict[str, Figure] | None = None
    """By name; None until all is measured."""
    refused: dict[str, str] = {}
    """Why a distance is not given."""
    diversity: dict[str, float | None] = {}
    """By layout; None of one sample."""

    @property
    def key(self) -> tuple:
        """What a stored row depends on, its image and its judges aside."""
        networks = self.scorer_identity, self.prefix, self.features_identity
        return self.schema_version, *networks, self.manifest, self.image_size, self.resized

    @property
    def networks(self) -> tuple[str, ...]:
        """Whose features are kept of each image; KID and FID are on the last one's."""
        own = self.features_identity != self.scorer_identity
        return ("scorer", "features") if own else ("scorer",)

    @property
    def asked(self) -> "Quality":
        """Without what was found."""
        return self.model_copy(update={"figures": None, "refused": {}, "diversity": {}})


@dataclass
class Kept:
    """What is measured so far, of a folder's `quality`."""

    place: Path
    rows: dict[Pair, dict]
    features: dict[str, np.ndarray]
    """By `of_image` or `of_photograph`, (D,) float32."""
    written: float = field(default_factory=time.monotonic)

    def save(self) -> None:
        """Writes both files, each whole, the rows last."""
        write_whole(self.place / "features.safetensors", safetensors.numpy.save(self.features))
        self.save_rows()

    def save_rows(self) -> None:
        """Writes the rows alone."""
        lines = "".join(json.dumps(row) + "\n" for row in self.rows.values())
        write_whole(self.place / "rows.jsonl", lines)
        self.written = time.monotonic()

    def save_in_time(self) -> None:
        """Writes both after `PAUSE`."""
        if time.monotonic() - self.written >= PAUSE:
            self.save()


def of_image(network: str, pair: Pair) -> str:
    """Name of an image's features, `network` one of `Quality.networks`."""
    return f"{network} {pair[0]}-{pair[1]}"


def of_photograph(layout: str) -> str:
    """Name of a photograph's features."""
    return f"photograph {layout}"


def read_record(place: Path) -> Quality | None:
    """`quality.json`, None where there is none that can be read."""
    try:
        return Quality.model_validate_json(read_file(place / "quality.json"))
    except (InputError, ValidationError):
        return None


def load_kept(place: Path, quality: Quality, hashes: Mapping[Pair, str]) -> Kept:
    """What was measured earlier under the same key, of the same images, by the same judges.

    Args:
        place: the folder.
        quality: what is to be measured.
        hashes: SHA-256 of each image; rows of images that it does not name stay.
    """
    before, kept = read_record(place), Kept(place, {}, {})
    if before is None or before.key != quality.key:
        return kept
    try:
        kept.features = safetensors.numpy.load(read_file(place / "features.safetensors"))
    except (InputError, SafetensorError, ValueError, KeyError):
        return kept
    for pair, row in _rows(place).items():
        seen = all(of_image(network, pair) in kept.features for network in quality.networks)
        if seen and row["image_sha256"] == hashes.get(pair, row["image_sha256"]):
            judges = quality.judges
            same = [n for n in row["judges"] if n in judges and before.judges.get(n) == judges[n]]
            kept.rows[pair] = row | {"judges": {name: row["judges"][name] for name in same}}
    return kept


def _rows(place: Path) -> dict[Pair, QualityRecord]:
    records = read_records(place / "rows.jsonl", QUALITY_RECORD)
    return {(row["layout"], row["sample"]): row for row in records}


class Values(NamedTuple):
    """A metric's values with the layout of each, (N,): resample by layout for intervals."""

    layouts: np.ndarray
    values: np.ndarray
    """NaN where it is not defined."""


class Measured(NamedTuple):
    """A folder's quality."""

    quality: Quality
    images: dict[Pair, str]
    """SHA-256 of each image."""
    own: dict[str, Values]
    """Metric -> values: `clip_caption` and `clip_region` of each sample, `diversity` of each
    layout."""
    judged: dict[str, dict[str, Values]]
    """Judge -> metric -> values of each sample."""


def read_quality(folder: Path) -> Measured | None:
    """What was measured of a folder of images, None if nothing was.

    Raises:
        InputError: it is unfinished, or of another version.
    """
    place = folder / "quality"
    if not place.is_dir():
        return None
    quality, rows = read_record(place), _rows(place)
    if (
        quality is None
        or quality.figures is None
        or not set(quality.samples) <= set(rows)
        or any(not quality.judges.keys() <= rows[pair]["judges"].keys() for pair in quality.samples)
    ):
        raise InputError(f"{place} is unfinished or of another version: run `tcig quality` again.")
    chosen = [rows[pair] for pair in quality.samples]
    layouts = np.array([row["layout"] for row in chosen])
    own = {
        "clip_caption": Values(layouts, np.array([row["clip_caption"] for row in chosen])),
        "clip_region": Values(layouts, np.array([np.mean(row["clip_regions"]) for row in chosen])),
        "diversity": Values(np.array(list(quality.diversity)), _array(quality.diversity.values())),
    }
    judged = {}
    for judge in quality.judges:
        found = [row["judges"][judge] for row in chosen]
        names = dict.fromkeys(name for each in found for name in each)
        judged[judge] = {
            name: Values(layouts, _array([each.get(name) for each in found])) for name in names
        }
    images = {pair: rows[pair]["image_sha256"] for pair in quality.samples}
    return Measured(quality, images, own, judged)


def _array(values: Iterable[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values])
