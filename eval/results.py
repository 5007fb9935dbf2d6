"""A result: every row's figures, the values that they are of, and where they come from.

One JSON file, whose schema `results/schema.json` holds. It is enough to compare two results by a
paired test without either's images.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tcig.data.errors import InputError
from tcig.data.files import read_json
from tcig.eval.images import RunRecord, run_rows
from tcig.eval.iou import NAMES, REDUCTIONS, reduce
from tcig.eval.provenance import Provenance, provenance
from tcig.eval.quality_table import DEFINITIONS, quality_columns
from tcig.eval.rows import Ignore, Independence, Row, read_rows
from tcig.eval.statistics import by_layout, interval, parts

SCHEMA = 1
VALUED = ("iou_image", "iou_foreground")
"""Reductions whose values, one per sample, a result keeps."""
DIGITS = 6


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Record):
    """Mean and standard deviation (divided by n) of n values; the 95% interval of the mean."""

    mean: float | None
    std: float | None
    n: int
    low: float | None
    high: float | None


class Judged(_Record):
    """Under what a row was judged."""

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
    """How a run's images were drawn: its spec, and what its rows say of the machine."""

    spec: RunRecord.Spec
    packages: dict[str, str]
    """Versions, of the last image."""
    devices: list[str]
    seconds: float | None
    """Mean over the images."""
    peak_mib: int | None
    peak_device_mib: int | None


class ResultRow(_Record):
    """A row under one judge."""

    row: str
    judged: Judged
    drawn: Drawn | None
    """None for a folder of images from elsewhere."""
    failed: int
    figures: dict[str, Figure]
    """By reduction, all of `tcig.eval.iou.NAMES`, and what `tcig quality` measured."""
    samples: list[tuple[str, int]]
    """(layout, sample) of each value."""
    values: dict[str, list[float | None]]
    """By reduction of `VALUED`; None where there is none."""

    @model_validator(mode="after")
    def _whole(self) -> "ResultRow":
        for name in VALUED:
            if len(self.values.get(name, ())) != len(self.samples):
                raise ValueError(f"{name} has not one value for each sample")
        return self

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is lined up by."""
        return self.row, self.judged.judge, self.judged.ignore

    def value_of(self, name: str) -> np.ndarray:
        """The values of a reduction, NaN where there is none."""
        return np.array([np.nan if v is None else v for v in self.values[name]], float)

    @property
    def layouts(self) -> list[str]:
        """Of each value."""
        return [layout for layout, _ in self.samples]


class Result(_Record):
    """All of a comparison."""

    schema_version: int = SCHEMA
    made: Provenance
    manifest: str
    """SHA-256 of the manifest."""
    rows: list[ResultRow]

    def to_frame(self) -> pd.DataFrame:
        """A record per row and judge, in the columns of `table.csv`.

        `row`, `judge`, `ignore`, `n` (samples), `failed`; of each figure NAME its mean as `NAME`,
        `NAME_std`, `NAME_n`, and the 95% interval as `NAME_low` and `NAME_high`.
        """
        records = []
        for row in self.rows:
            record = {"row": row.row, "judge": row.judged.judge, "ignore": row.judged.ignore}
            record |= {"n": len(row.samples), "failed": row.failed}
            for name, figure in row.figures.items():
                ends = figure.model_dump()
                record |= {name: ends.pop("mean")} | {f"{name}_{k}": v for k, v in ends.items()}
            records.append(record)
        return pd.DataFrame(records)


def result_of(folders: Sequence[Path], ignore: Ignore, command: Sequence[str]) -> Result:
    """The result of scored folders; see `tcig.eval.rows.read_rows` for what is refused."""
    rows = read_rows(folders, ignore)
    found = [_row(row) for row in rows]
    return Result(made=provenance(command), manifest=rows[0].score.manifest, rows=found)


def dump(result: Result) -> str:
    """As JSON, a row a line."""
    head = result.model_dump(mode="json", exclude={"rows"})
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    rows = ",\n".join(row.model_dump_json() for row in result.rows)
    return "{" + ",\n".join(parts) + ',\n"rows": [\n' + rows + "\n]}\n"


def read_result(path: Path) -> Result:
    """A result from its file, `result.json`.

    Raises:
        InputError: it is none, or of another version.
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
        raise InputError(f"{path} is no result ({place}: {problem['msg']}).") from None


def _row(row: Row) -> ResultRow:
    score = row.score
    conditions = ("judge", "identity", "image_size", "score_size", "resized")
    judged = {name: getattr(score, name) for name in conditions}
    values = {name: REDUCTIONS[name](row.samples) for name in VALUED}
    return ResultRow(
        row=row.name,
        judged=Judged(
            **judged, ignore=row.ignore, guided=row.guided, independence=row.independence
        ),
        drawn=drawn_of(row),
        failed=score.failed,
        figures={name: _figure(row, name) for name in NAMES} | _quality(row),
        samples=list(score.samples),
        values={name: [rounded(v) for v in found] for name, found in values.items()},
    )


def _figure(row: Row, name: str) -> Figure:
    mean, std, n = reduce(row.samples, name)
    low, high = interval(by_layout(parts(row.samples, name), row.layouts))
    numbers = {"mean": mean, "std": std, "low": low, "high": high}
    return Figure(n=n, **{key: rounded(value) for key, value in numbers.items()})


def _quality(row: Row) -> dict[str, Figure]:
    columns = quality_columns(row)
    found = {}
    for name in DEFINITIONS:
        if name in columns:
            ends = {"mean": "", "std": "_std", "low": "_low", "high": "_high"}
            numbers = {key: rounded(columns[name + end]) for key, end in ends.items()}
            found[name] = Figure(n=columns[f"{name}_n"], **numbers)
    return found


def rounded(value: float) -> float | None:
    """To `DIGITS`; JSON has no NaN."""
    return None if np.isnan(value) else round(float(value), DIGITS)


def drawn_of(row: Row) -> Drawn | None:
    """How a row's images were drawn; None for a folder of images from elsewhere."""
    if row.run is None:
        return None
    rows = [each for each in run_rows(row.folder) if not each["error"]]

    def most(name: str) -> int | None:
        return max((each[name] for each in rows if each.get(name) is not None), default=None)

    seconds = [each["seconds"] for each in rows if each.get("seconds") is not None]
    return Drawn(
        spec=row.run.spec,
        packages=rows[-1].get("versions", {}) if rows else {},
        devices=sorted({each["device"] for each in rows if each.get("device")}),
        seconds=round(float(np.mean(seconds)), 4) if seconds else None,
        peak_mib=most("peak_mib"),
        peak_device_mib=most("peak_device_mib"),
    )
