"""Region, Layout, and the manifest: a typed header and one layout a line, as JSON lines."""

import hashlib
from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from tcig.data.errors import InputError, shown
from tcig.data.files import parse_json, read_file, write_whole
from tcig.data.filters import Filter
from tcig.data.masks import area, check_runs, decode, label_map
from tcig.data.pictures import check_size
from tcig.data.records import LayoutId
from tcig.data.voc import BY_LABEL, with_article

SCHEMA = 1
"""Version of the manifest's fields; a reader refuses another."""

NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
PathBelow = Annotated[str, StringConstraints(pattern=f"^({NAME}(/{NAME})*)?$")]
"""A path that stays below its folder, or nothing."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Region(_Record):
    """One object: COCO's annotation id, COCO's word for its class, its mask on the square."""

    annotation: int
    label: Literal[tuple(BY_LABEL)]
    mask: dict

    @property
    def index(self) -> int:
        """The class's index in label maps, 1..20."""
        return BY_LABEL[self.label].index

    @property
    def prompt(self) -> str:
        """The region's prompt of the published protocol: "a {label}"."""
        return with_article(self.label)

    @property
    def pixels(self) -> np.ndarray:
        """The mask, (side, side) bool."""
        return decode(self.mask)


class Dropped(Region):
    """An object that the filter left out: never drawn, maybe ignored when scoring."""

    reason: Literal["person", "crowd", "small", "cut"]


class Layout(_Record):
    """What to draw: a caption and the masks of its objects on a square of `side` pixels.

    `id` names files; `image` is the photograph relative to the COCO folder, of which the centre
    square is meant. Regions keep COCO's order.
    """

    kind: Literal["layout"] = "layout"
    id: LayoutId
    image: PathBelow
    side: int
    caption: str
    """"" where the manifest was made without captions."""
    regions: tuple[Region, ...]
    dropped: tuple[Dropped, ...] = ()
    size: tuple[int, int] | None = Field(default=None, exclude_if=lambda size: size is None)
    """Width and height of the photograph, pixels; None: it is square."""

    @model_validator(mode="after")
    def _fits(self) -> "Layout":
        check_size(*(self.size or (self.side, self.side)))
        if self.size and min(self.size) != self.side:
            raise ValueError(f"size {self.size} has another shorter side than {self.side}")
        for region in (*self.regions, *self.dropped):
            name = f"region {region.annotation}"
            if not isinstance(region.mask.get("counts"), str):
                raise ValueError(f"{name} has no compressed RLE")
            if region.mask.get("size") != [self.side, self.side]:
                raise ValueError(f"{name} is not of the layout's side")
            try:
                check_runs(region.mask)
            except ValueError as error:
                raise ValueError(f"{name} has no readable mask: {error}") from None
            if not area(region.mask):
                raise ValueError(f"{name} is empty")
        if not self.regions:
            raise ValueError("a layout needs a region")
        return self

    @property
    def classes(self) -> tuple[int, ...]:
        """Indices of the regions' classes, 1..20, each once, ascending."""
        return tuple(sorted({region.index for region in self.regions}))

    def class_map(self, size: int) -> np.ndarray:
        """The regions as a label map, (size, size) uint8: the smaller object on top."""
        return _map(self.regions, size)

    def dropped_map(self, size: int) -> np.ndarray:
        """The dropped objects as a label map, (size, size) uint8."""
        return _map(self.dropped, size)


def _map(regions: Sequence[Region], size: int) -> np.ndarray:
    masks = [region.pixels for region in regions]
    return label_map(masks, [region.index for region in regions], size)


class SourceFile(_Record):
    """A file that the layouts were made from."""

    file: str
    sha256: str


class Counts(_Record):
    """What the filter and the square crop left."""

    images: int
    """In the instances file."""
    filtered: int
    """Images that pass the filter."""
    objects_cut: int
    """Their objects of which the crop leaves too little."""
    layouts_cut: int
    """Their layouts left with too few objects by it."""
    layouts: int


class Header(_Record):
    """A manifest's first line."""

    kind: Literal["header"] = "header"
    schema_version: Literal[SCHEMA] = SCHEMA
    filter: Filter
    sources: tuple[SourceFile, ...]
    counts: Counts


def hash_order(layouts: Sequence[Layout]) -> list[Layout]:
    """The layouts in the order of a hash of their ids: prefixes are nested, unbiased subsets."""
    return sorted(layouts, key=lambda layout: hashlib.sha256(layout.id.encode()).digest())


def write_manifest(path: Path, header: Header, layouts: Sequence[Layout]) -> None:
    """Writes the header and the layouts in hash order, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [record.model_dump_json() for record in (header, *hash_order(layouts))]
    write_whole(path, "\n".join(lines) + "\n")


def read_manifest(path: Path) -> tuple[Header, list[Layout]]:
    """Reads and checks a manifest.

    Raises:
        InputError: the file is missing; a line is not JSON or lacks something; another schema
            version; a duplicate id; no layouts; fewer than the header counts.
    """
    header, layouts, seen = None, [], set()
    content = read_file(path, "give a manifest as `tcig layouts` writes it")
    for number, line in enumerate(content.removeprefix(BOM_UTF8).split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        record = parse_json(line, place, "a manifest is JSON lines as `tcig layouts` writes them")
        try:
            if header is None:
                header = Header.model_validate(record)
                continue
            layout = Layout.model_validate(record)
        except (ValidationError, InputError) as error:
            problem = _first(error).removesuffix(".")
            raise InputError(f"{place}: {problem}; make it again with `tcig layouts`.") from None
        if layout.id in seen:
            raise InputError(f"{place}: duplicate layout id {layout.id}.")
        seen.add(layout.id)
        layouts.append(layout)
    if header is None or not layouts:
        raise InputError(f"{path} holds no layouts; make it with `tcig layouts`.")
    if len(layouts) != header.counts.layouts:
        raise InputError(
            f"{path} holds {len(layouts)} layouts, its header counts "
            f"{header.counts.layouts}: it is truncated; make it again."
        )
    return header, layouts


def _first(error: Exception) -> str:
    """The first problem, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"])) or "layout"
    value = "" if isinstance(problem["input"], dict) else f", got {shown(problem['input'])}"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}{value}"
