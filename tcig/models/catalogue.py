"""Reads the catalogue of all weights that the profiles need: `catalogue.toml`."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Entry(BaseModel):
    """One model of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Hub id, or a name of our own for files that have addresses."""
    kind: Literal["diffusers", "vqgan", "clip", "deeplabv3", "mask2former", "inception"]
    what: str = ""
    size: int | None = None
    """Approximate size of the download in bytes."""
    licence: str = "unknown"
    preprocessing: str = ""
    gated: bool = False
    """Whether the licence must be accepted on the hub first."""
    revision: str | None = None
    """Commit or branch of the hub; None: the newest of the main branch."""
    urls: dict[str, str] = {}
    """File to address; empty for a hub id."""
    sha256: dict[str, str] = {}
    """File to hash, or to its first digits, where a source states them."""
    without: tuple[str, ...] = ()
    """Parts of the pipeline that are not needed."""
    codes: int | None = Field(None, gt=0)
    """Size of a VQGAN's codebook."""
    mirrors: tuple[str, ...] = ()
    """Other hub ids of the same weights."""
    renamed: dict[str, dict[str, str]] = {}
    """Mirror to file to path in that repository, where it differs."""


@cache
def catalogue() -> dict[str, Entry]:
    """Returns all entries by name, in the order of the file."""
    text = Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8")
    return {name: Entry(name=name, **entry) for name, entry in tomllib.loads(text).items()}


def entry_of(name: str) -> Entry:
    """Returns the catalogue's entry; any other hub id is a pipeline or network of diffusers."""
    return catalogue().get(name) or Entry(name=name, kind="diffusers")
