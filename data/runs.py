"""The record of a run: what its images depend on, what was asked for, and how each sample went.

`tcig run` writes it; scoring, tables and reports read it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NotRequired

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from tcig.data.errors import InputError
from tcig.data.files import read_file
from tcig.data.imperfect import TRUE
from tcig.data.records import Count, LayoutId, Pair, Seconds, read_records, record_files
from tcig.data.seeds import TASK

SCHEMA = 4


class RunSpec(BaseModel):
    """All that the images of a run depend on; its hash names the run's folder.

    How many layouts and samples were asked for is not part of it. Fields that earlier versions did
    not record are None.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    manifest: str
    """SHA-256 of the manifest."""
    weights: dict[str, str] = {}
    """Identities of the method's weights by part."""
    version: int | None = None
    """The method's own."""
    code: str | None = None
    """SHA-256 of the code of a method from outside, see `tcig.models.plugins`."""
    options: dict[str, Any] = {}
    profile: str | None = None
    size: int | None = None
    batch: int | None = None
    """The most samples in a call: rounding, which stage 1 amplifies, depends on it."""
    device: str | None = None
    """Kind of device: cuda, mps or cpu."""
    arithmetic: str | None = None
    """See `tcig.models.devices.Compute`."""
    masks: str = TRUE
    """How the method saw the masks, see `tcig.data.imperfect`."""
    seeds: str = TASK
    """Version of the seeds, see `tcig.data.seeds`."""

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON."""
        fields = self.model_dump() | {"schema_version": SCHEMA}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def folder(self) -> str:
        """Name of the run's folder: method and hash."""
        return f"{self.method}-{self.hash[:8]}"

    @property
    def row(self) -> str:
        """Name of the row in the table."""
        return self.method if self.masks == TRUE else f"{self.method} ({self.masks})"


class Asked(BaseModel):
    """How much of a manifest a run was asked for: `limit` None means all layouts."""

    model_config = ConfigDict(frozen=True)

    limit: int | None = None
    samples: int | None = Field(default=None, ge=1)


class RunRecord(BaseModel):
    """The content of `run.json`."""

    model_config = ConfigDict(frozen=True)

    spec: RunSpec
    asked: Asked
    profile: dict[str, Any]
    """All settings of the profile, for those who score the images."""

    @property
    def key(self) -> str:
        """What the samples depend on."""
        return self.spec.hash


class SampleRecord(TypedDict):
    """A line of a run's `rows.jsonl`: how a sample was generated, or why it failed."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    layout: LayoutId
    sample: Count
    error: str | None
    seed: NotRequired[Count]
    seconds: NotRequired[Seconds | None]
    """Duration of the call, divided by its samples."""
    batch: NotRequired[Count]
    """Samples in the call."""
    peak_mib: NotRequired[Count | None]
    peak_device_mib: NotRequired[Count | None]
    versions: NotRequired[dict[str, str]]
    device: NotRequired[str | None]


SAMPLE_RECORD = TypeAdapter(SampleRecord)


def read_run(folder: Path) -> RunRecord | None:
    """Reads the record of a run's folder; None for any other folder.

    Raises:
        InputError: its `run.json` is not a run's record.
    """
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return RunRecord.model_validate_json(read_file(path), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"{path} is not a run's record ({place}: {problem['msg']}): remove it or run again."
        ) from None


def run_rows(folder: Path) -> list[SampleRecord]:
    """Reads the records of a run and of its shards, one a sample; none of any other folder.

    A sample that one file has as failed and another as generated is generated.
    """
    rows: dict[Pair, SampleRecord] = {}
    for path in record_files(folder):
        for row in read_records(path, SAMPLE_RECORD):
            pair = row["layout"], row["sample"]
            if row["error"] is None or pair not in rows:
                rows[pair] = row
    return list(rows.values())
