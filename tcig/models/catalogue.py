"""The table of all weights that the profiles need: `catalogue.toml`."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["diffusers", "vqgan", "clip", "deeplabv3", "mask2former", "inception"]


class Entry(BaseModel):
    """One model's files, as the catalogue has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Its hub id, or, of files that have addresses instead, a name of our own."""
    kind: Kind
    what: str = ""
    size: int | None = None
    """Bytes to fetch, about."""
    licence: str = "unknown"
    preprocessing: str = ""
    gated: bool = False
    """Whether the licence must be accepted on the hub first."""
    revision: str | None = None
    """Commit or branch of the hub, where it is not the newest of the main one that is wanted."""
    urls: dict[str, str] = {}
    """File -> address; a hub id has none."""
    sha256: dict[str, str] = {}
    """File -> hash or its first digits, where a source gives it."""
    without: tuple[str, ...] = ()
    """Folders of the hub's that are not needed."""
    codes: int | None = Field(None, gt=0)
    """Of a VQGAN's codebook."""
    mirrors: tuple[str, ...] = ()
    """Hub ids under which the same weights are known."""
    renamed: dict[str, dict[str, str]] = {}
    """Mirror -> file -> path in that repository, where it differs."""


@cache
def catalogue() -> dict[str, Entry]:
    """All entries by name, in the order of the file."""
    text = Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8")
    return {name: Entry(name=name, **entry) for name, entry in tomllib.loads(text).items()}


def entry_of(name: str) -> Entry:
    """The catalogue's entry, or for any other hub id one of diffusers': a pipeline or a network."""
    return catalogue().get(name) or Entry(name=name, kind="diffusers")
