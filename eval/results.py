"""A result: every row's estimates, the values that they are of, and where they come from.

One JSON file, whose schema `results/schema.json` holds. It is enough to compare two results by a
paired test without either's images. `tcig.eval.estimates` makes a result of scored folders, and
tables, reports and comparisons render it. What is marked as not in the file is None or empty in a
result that was read back.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from tcig.data.files import InputError, read_json
from tcig.data.records import Pair, RunSpec
from tcig.eval.provenance import Provenance
from tcig.eval.rows import HEADLINE, Ignore, Independence, is_method

SCHEMA = 1
VALUED = ("iou_image", "iou_foreground")
"""Reductions whose values, one per sample, a result keeps."""
DIGITS = 6
"""Decimals of a number in the file."""


def rounded(value: float | None) -> float | None:
    """Rounds to `DIGITS`; None for NaN, which JSON does not have."""
    return None if value is None or np.isnan(value) else round(float(value), DIGITS)


Number = Annotated[float | None, PlainSerializer(rounded, when_used="json")]
"""None where there is none; rounded in the file alone."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Record):
    """Mean and standard deviation (divided by n) of n values; the 95% interval of the mean."""

    mean: Number
    std: Number
    n: int
    low: Number
    high: Number

    def text(self, digits: int = 3) -> str:
        """Returns `mean ± std`, or `-` without a mean."""
        if self.mean is None:
            return "-"
        return f"{self.mean:.{digits}f}" + ("" if self.std is None else f" ± {self.std:.{digits}f}")

    def interval_text(self, digits: int = 3) -> str:
        """Returns `[low, high]`, or nothing without an interval."""
        return "" if self.low is None else f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"


class Judged(_Record):
    """The conditions under which a row was judged."""

    judge: str
    identity: str
    ignore: Ignore
    image_size: int
    score_size: int
    resized: bool
    guided: bool
    """Whether the judge's own network guided the images."""
    independence: Independence = "unknown"
    """Of the judge, as far as the run's record says."""


class Drawn(_Record):
    """How a run's images were generated: its spec, and what its records say of the machine."""

    spec: RunSpec
    packages: dict[str, str]
    """Versions, of the last image."""
    devices: list[str]
    seconds: float | None
    """Mean over the images."""
    peak_mib: int | None
    peak_device_mib: int | None


class Comparison(_Record):
    """How a row compares with the others of its judge; None where that is undefined."""

    ceiling_share: float | None = None
    """Mean of `iou_image` as a share of the photographs'."""
    p_best: float | None = None
    """Adjusted p of the hypothesis that the method is as good as the best one; 1 for that one."""
    leakage: tuple[float, float, float] | None = None
    """`iou_image` under a judge that guides TCIG minus that of the same images under an independent
    judge, and the ends of its 95% interval."""


class Scorers(_Record):
    """The networks that measured a row's quality."""

    scorer: str
    """Identity of the CLIP that scores."""
    features: str
    """Identity of the network of KID and FID."""
    scored_by: str
    seen_by: str
    """Their names."""
    clip_guided: bool
    """Whether the scorer is among the networks that generated the images."""


class ResultRow(_Record):
    """A row under one judge."""

    row: str
    judged: Judged
    drawn: Drawn | None
    """None for a folder of images from elsewhere."""
    failed: int
    figures: dict[str, Estimate]
    """By reduction, all of `tcig.eval.iou.NAMES`, and what `tcig quality` measured."""
    samples: list[Pair]
    """(layout, sample) of each value."""
    values: dict[str, list[Number]]
    """By reduction of `VALUED`; None where there is none."""
    suffix: SkipJsonSchema[str] = Field("", exclude=True)
    """Distinguishes rows of the same name; not in the file."""
    scorers: SkipJsonSchema[Scorers | None] = Field(None, exclude=True)
    """None without quality; not in the file."""
    stale: SkipJsonSchema[str | None] = Field(None, exclude=True)
    """Why the quality that was measured does not count; not in the file."""
    comparison: SkipJsonSchema[Comparison] = Field(Comparison(), exclude=True)
    """Not in the file."""

    @model_validator(mode="after")
    def _whole(self) -> "ResultRow":
        for name in VALUED:
            if len(self.values.get(name, ())) != len(self.samples):
                raise ValueError(f"{name} has not one value for each sample")
        return self

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies the row in two results."""
        return self.row, self.judged.judge, self.judged.ignore

    @property
    def judge(self) -> str:
        """Name of the judge."""
        return self.judged.judge

    @property
    def label(self) -> str:
        """The name, with the suffix."""
        return f"{self.row} ({self.suffix})" if self.suffix else self.row

    @property
    def is_method(self) -> bool:
        """Whether it is compared with others: it is not a ceiling, floor or oracle."""
        return is_method(self.row)

    @property
    def layouts(self) -> list[str]:
        """The layout of each value."""
        return [layout for layout, _ in self.samples]

    def value_of(self, name: str = HEADLINE) -> np.ndarray:
        """Returns the values of a reduction of `VALUED`, (N,), NaN where there is none."""
        return np.array([np.nan if v is None else v for v in self.values[name]], float)


class Result(_Record):
    """All of a comparison."""

    schema_version: int = SCHEMA
    made: Provenance
    manifest: str
    """SHA-256 of the manifest."""
    rows: list[ResultRow]

    def to_frame(self) -> pd.DataFrame:
        """Returns a record per row and judge, in the columns of `table.csv`.

        `row`, `judge`, `ignore`, `n` (samples), `failed`; of each estimate NAME its mean as `NAME`,
        `NAME_std`, `NAME_n`, and the 95% interval as `NAME_low` and `NAME_high`.
        """
        records = []
        for row in self.rows:
            record = {"row": row.row, "judge": row.judge, "ignore": row.judged.ignore}
            record |= {"n": len(row.samples), "failed": row.failed}
            for name, estimate in row.figures.items():
                record |= columns(name, estimate)
            records.append(record)
        return pd.DataFrame(records)


def columns(name: str, estimate: Estimate) -> dict[str, Any]:
    """Returns an estimate as columns: its mean as `name`, the rest as `name_std` and so on."""
    parts = estimate.model_dump()
    return {name: parts.pop("mean")} | {f"{name}_{key}": value for key, value in parts.items()}


def dump(result: Result) -> str:
    """Returns a result as JSON, a row a line."""
    head = result.model_dump(mode="json", exclude={"rows"})
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    rows = ",\n".join(row.model_dump_json() for row in result.rows)
    return "{" + ",\n".join(parts) + ',\n"rows": [\n' + rows + "\n]}\n"


def read_result(path: Path) -> Result:
    """Reads a result from its file, `result.json`.

    Raises:
        InputError: it is not a result, or of another version.
    """
    path = Path(path)
    try:
        record = read_json(path, "give a file of `tcig table --format json`")
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA:
            raise InputError(
                f"{path} is not a result of schema {SCHEMA} (but {str(version)[:40]}): make it "
                "again with `tcig table --format json`."
            )
        return Result.model_validate(record)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(f"{path} is not a result ({place}: {problem['msg']}).") from None
