"""Records that are read back: JSON lines, each checked against the schema of its kind.

A kill tears a line, a crash of the machine leaves zeros, another version writes other fields: a
line that does not fit is left out, and what it recorded is computed again.
"""

import json
from pathlib import Path
from typing import Annotated, NotRequired, TypeVar

from pydantic import ConfigDict, Field, FiniteFloat, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from tcig.data.errors import InputError
from tcig.data.files import read_file

LayoutId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]

T = TypeVar("T")


class SampleRecord(TypedDict):
    """A line of a run's `rows.jsonl`: how a sample was generated, or why it failed."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    layout: LayoutId
    sample: Count
    error: str | None
    seed: NotRequired[Count]
    seconds: NotRequired[Seconds | None]
    """Of the call, divided by its samples."""
    batch: NotRequired[Count]
    """Samples in the call."""
    peak_mib: NotRequired[Count | None]
    peak_device_mib: NotRequired[Count | None]
    versions: NotRequired[dict[str, str]]
    device: NotRequired[str | None]


SAMPLE_RECORD = TypeAdapter(SampleRecord)


def read_records(path: Path, schema: TypeAdapter[T]) -> list[T]:
    """The lines of a file that fit the schema, in their order; none of a file that is not there."""
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
