"""The one store of records (JSON lines under a header, resumed after any kill), and runs' records.

A run, the scores of a judge and the quality metrics each keep a folder of this form:

- `NAME.json`, the header, says what the records depend on. Records under another `key` are dropped.
- `rows.jsonl` has one record a sample. The files of a sample (its image, its label map) are written
  first and its record last: a sample with a record is done, and all else is done again.

A kill tears a line, a crash of the machine leaves zeros, another version writes other fields: a
line that does not fit the schema is left out, and what it recorded is computed again.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import IO, Annotated, Any, Generic, NotRequired, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from tcig.data.files import InputError, Shard, read_file, sole_writer, write_whole
from tcig.data.layout import TASK, LayoutId, first_problem
from tcig.data.masks import TRUE

SCHEMA = 4
"""Version of a run's record; its number is part of the hash that names the run's folder."""
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Pair = tuple[str, int]
"""Layout id and sample index."""

Record = TypeVar("Record", bound=Mapping)
Header = TypeVar("Header", bound=BaseModel)


def read_records(path: Path, schema: TypeAdapter[Record]) -> list[Record]:
    """Returns the lines of a file that fit the schema, in order; none of a missing file."""
    try:
        lines = read_file(path).split(b"\n")
    except InputError:
        return []
    records = []
    for line in lines:
        try:
            schema.validate_json(line)
        except ValidationError:
            continue
        records.append(json.loads(line))  # with its fields in their order
    return records


def record_files(folder: Path) -> list[Path]:
    """Returns the files of records in a folder: `rows.jsonl` and those of shards."""
    return sorted(folder.glob("rows.jsonl")) + sorted(folder.glob("rows.*-of-*.jsonl"))


def read_header(path: Path, kind: type[Header]) -> Header | None:
    """Returns the header in a file, None if it is missing, damaged or of another version."""
    try:
        return kind.model_validate_json(read_file(path))
    except (InputError, ValidationError):
        return None


class RecordStore(Generic[Header, Record]):
    """A folder of records, written by one process, or by one for each shard; a context manager."""

    def __init__(
        self,
        path: Path,
        header: Header,
        schema: TypeAdapter[Record],
        is_whole: Callable[[Record], bool],
        *,
        shard: Shard | None = None,
        sync_every: float = 0.0,
    ):
        """Names the store; entering it opens or creates the folder.

        Args:
            path: the header's file, in the folder of the store.
            header: says what the records depend on, by its property `key`.
            schema: of a record, which has `layout` and `sample`.
            is_whole: whether the files of a record are there; if not, the sample is done again.
            shard: writes only this shard's file of records; reads the others'.
            sync_every: seconds of records that a crash of the machine may take; 0 takes none. A
                crash of the process takes none in any case.
        """
        self.path, self.folder, self.header = path, path.parent, header
        self.rows = self.folder / f"rows{shard.suffix if shard else ''}.jsonl"
        self.done: dict[Pair, str | None] = {}
        """Samples that have a record, with the SHA-256 of the image that it is about, if known."""
        self._schema, self._is_whole, self._shard = schema, is_whole, shard
        self._sync_every, self._synced = sync_every, time.monotonic()
        self._file: IO[bytes] | None = None
        self._resources = ExitStack()

    def __enter__(self):
        """Locks the folder, mends what a kill left, and drops records under another key.

        Raises:
            InputError: another process writes to the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as resources:
            resources.enter_context(sole_writer(self.folder, self._shard))
            self._mend()  # before the header says that records are its own
            self.save_header(self.header)
            self._file = resources.enter_context(self.rows.open("ab"))
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._resources.close()
        self._file = None

    def _keeps_records(self) -> bool:
        """Returns whether the records in the folder are of the header's key."""
        stored = read_header(self.path, type(self.header))
        return stored is not None and stored.key == self.header.key

    def _mend(self) -> None:
        """Rewrites the file with the last record of each whole sample; merges those of shards."""
        files = record_files(self.folder)
        own = [path for path in files if self._shard is None or path == self.rows]
        self.done, kept = {}, {}
        for path in files if self._keeps_records() else ():
            for record in read_records(path, self._schema):
                if record.get("error") is None and self._is_whole(record):
                    pair = record["layout"], record["sample"]
                    self.done[pair] = record.get("image_sha256")
                    if path in own:
                        kept[pair] = record
        content = b"".join(json.dumps(record).encode() + b"\n" for record in kept.values())
        if own and (own != [self.rows] or content != self.rows.read_bytes()):
            write_whole(self.rows, content)
        for path in own:
            if path != self.rows:
                path.unlink()
        if self._shard is None:  # else they may belong to another shard
            for pattern in (".*.part", ".lock.*-of-*"):
                for path in self.folder.glob(pattern):
                    path.unlink()

    def save_header(self, header: Header) -> None:
        """Writes the header, after all records before it are on disk."""
        if self._file:
            os.fsync(self._file.fileno())
        write_whole(self.path, json.dumps(header.model_dump(), indent=2) + "\n")
        self.header = header

    def add(self, record: Record, files: Mapping[Path, bytes] = MappingProxyType({})) -> None:
        """Commits a sample: its files, then its record; with an `error` it counts as not done.

        Raises:
            OSError: they cannot be written; the error names the file.
        """
        for path, content in files.items():
            write_whole(path, content, durable=not self._sync_every)
        try:
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
            if time.monotonic() >= self._synced + self._sync_every:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:  # a full disk names no file
            raise OSError(error.errno, error.strerror, str(self.rows)) from None
        if record.get("error") is None:
            self.done[record["layout"], record["sample"]] = record.get("image_sha256")


class RunSpec(BaseModel, frozen=True):
    """All that the images of a run depend on; its hash names the run's folder.

    How many layouts and samples were asked for is not part of it. Fields that earlier versions did
    not record are None.
    """

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
    """How the method saw the masks, see `tcig.data.masks`."""
    seeds: str = TASK
    """Version of the seeds, see `tcig.data.layout`."""

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


class Asked(BaseModel, frozen=True):
    """How much of a manifest a run was asked for: `limit` None means all layouts."""

    limit: int | None = None
    samples: int | None = Field(default=None, ge=1)


class RunRecord(BaseModel, frozen=True):
    """The content of `run.json`."""

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
        raise InputError(
            f"{path} is not a run's record ({first_problem(error)}): remove it or run again."
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
