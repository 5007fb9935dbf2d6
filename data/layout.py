"""What to draw: layouts of regions, their seeds and photographs, and layouts as plain files."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from tcig.data.files import InputError, shown, write_whole
from tcig.data.masks import (
    IMPERFECTIONS,
    TRUE,
    area,
    check_runs,
    crop_square,
    decode,
    encode,
    encode_label_map,
    label_map,
    parse_masks,
    resize_nearest,
)
from tcig.data.pictures import as_annotated, eight_bits, encode_png, open_picture
from tcig.data.voc import BY_LABEL, with_article

TASK = "tcig-1"
"""Version of the benchmark's task; changing it changes every sample."""
UNFINISHED = ".unfinished-export"
"""Name of the file in an unfinished export that identifies its layouts and sizes."""
NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
PathBelow = Annotated[str, StringConstraints(pattern=f"^({NAME}(/{NAME})*)?$")]
"""A path that stays below its folder, or nothing."""
LayoutId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$")]


class ManifestRecord(BaseModel, frozen=True, extra="forbid"):
    """A part of a manifest."""


class Region(ManifestRecord):
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


class Layout(ManifestRecord):
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
        if self.size and min(self.size) != self.side:
            raise ValueError(f"size {self.size} has another shorter side than {self.side}")
        for region in (*self.regions, *self.dropped):
            name, mask = f"region {region.annotation}", region.mask
            if mask.get("size") != [self.side] * 2 or not isinstance(mask.get("counts"), str):
                raise ValueError(f"{name} has no compressed RLE of side {self.side}")
            try:
                check_runs(mask)
            except ValueError as error:
                raise ValueError(f"{name} has no readable mask: {error}") from None
            if not area(mask):
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
        return _class_map(self.regions, size)

    def dropped_map(self, size: int) -> np.ndarray:
        """The dropped objects as a label map, (size, size) uint8."""
        return _class_map(self.dropped, size)


def _class_map(regions: Sequence[Region], size: int) -> np.ndarray:
    masks = [region.pixels for region in regions]
    return label_map(masks, [region.index for region in regions], size)


def first_problem(error: ValidationError) -> str:
    """The first problem of a record, in one line."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    value = "" if isinstance(problem["input"], dict) else f", got {shown(problem['input'])}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}{': ' if place else ''}{message}{value}"


def hash_order(layouts: Sequence[Layout]) -> list[Layout]:
    """The layouts in the order of a hash of their ids: prefixes are nested, unbiased subsets."""
    return sorted(layouts, key=lambda layout: hashlib.sha256(layout.id.encode()).digest())


def seed_of(layout: str, sample: int) -> int:
    """The seed, 0 .. 2^63 - 1, of sample `sample` of a layout: independent of order and batch."""
    digest = hashlib.sha256(f"{TASK}/{layout}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def imperfect(layouts: Sequence[Layout], masks: str) -> list[Layout]:
    """The layouts with imperfect masks; `masks` as in `parse_masks`.

    An object's imperfection depends on its annotation alone. An object that would leave the square,
    or vanish, keeps its mask.
    """
    kind, amount = parse_masks(masks)
    if kind == TRUE:
        return list(layouts)

    def change(region: Region) -> Region:
        rng = np.random.default_rng([region.annotation, *kind.encode()])
        mask = IMPERFECTIONS[kind][0](region.pixels, amount, rng)
        return region.model_copy(update={"mask": encode(mask)}) if mask.any() else region

    return [
        layout.model_copy(update={"regions": tuple(map(change, layout.regions))})
        for layout in layouts
    ]


def open_photograph(layout: Layout, coco: Path, size: int) -> Image.Image:
    """The centre square of `coco/layout.image`, resized (Lanczos) to `size` x `size` RGB.

    Raises:
        InputError: it is missing, cannot be read, or is not the annotated one.
    """
    path = coco / layout.image
    fix = f"layout {layout.id} was made from it: fetch it with `tcig layouts --download`"
    picture = open_picture(path, fix=fix)
    photograph = as_annotated(picture, layout.size)
    if photograph is None or min(photograph.size) != layout.side:
        masks = "{}x{}".format(*layout.size) if layout.size else f"side {layout.side}"
        raise InputError(
            f"{path} is {picture.width}x{picture.height}, layout {layout.id} has masks of {masks}: "
            "the photograph is not the annotated one."
        )
    pixels = np.asarray(eight_bits(photograph, path).convert("RGB"))
    square = Image.fromarray(crop_square(pixels))
    return square.resize((size, size), Image.Resampling.LANCZOS)


def export_layouts(layouts: Sequence[Layout], folder: Path, size: int, samples: int) -> None:
    """Writes masks, class maps and one JSON file of prompts, seeds and expected file names.

    `folder/layouts.json` lists the layouts; `folder/masks/LAYOUT-REGION.png` is 255 inside a
    region and 0 outside, `folder/classes/LAYOUT.png` the class map in the VOC palette, both
    `size` x `size` by nearest neighbour, as tcig's own methods see them.

    Raises:
        InputError: the folder holds something else than an unfinished export of the same layouts.
    """
    identity = json.dumps([[layout.id for layout in layouts], size, samples]).encode()
    marker = folder / UNFINISHED
    resumes = marker.is_file() and marker.read_bytes() == identity
    if folder.exists() and any(folder.iterdir()) and not resumes:
        raise InputError(f"{folder} is not empty; export to a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(marker, identity)
    for name in ("masks", "classes"):
        (folder / name).mkdir(exist_ok=True)
    records = []
    for layout in layouts:
        regions = []
        for number, region in enumerate(layout.regions):
            mask = f"masks/{layout.id}-{number}.png"
            pixels = resize_nearest(region.pixels, size).astype("uint8") * 255
            write_whole(folder / mask, encode_png(Image.fromarray(pixels)))
            regions.append({"label": region.label, "prompt": region.prompt, "mask": mask})
        classes = f"classes/{layout.id}.png"
        write_whole(folder / classes, encode_label_map(layout.class_map(size)))
        outputs = [
            {"sample": n, "seed": seed_of(layout.id, n), "image": f"{layout.id}-{n}.png"}
            for n in range(samples)
        ]
        record = {"id": layout.id, "prompt": layout.caption, "size": size, "classes": classes}
        records.append(record | {"regions": regions, "outputs": outputs})
    write_whole(folder / "layouts.json", json.dumps(records, indent=1) + "\n")
    marker.unlink()
