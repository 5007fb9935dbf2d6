"""The manifest (a header and one layout a line, as JSON lines), and how COCO's files make it."""

from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from tqdm import tqdm

from tcig.data.coco import Captions, read_captions, read_instances
from tcig.data.files import InputError, parse_json, read_file, write_whole
from tcig.data.filters import Candidate, Filter, choose
from tcig.data.layout import Dropped, Layout, ManifestRecord, Region, first_problem, hash_order
from tcig.data.masks import area, crop_square, decode, encode, to_rle

SCHEMA = 1
"""Version of the manifest's fields; a reader refuses another."""


class SourceFile(ManifestRecord):
    """A file that the layouts were made from."""

    file: str
    sha256: str


class Counts(ManifestRecord):
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


class Header(ManifestRecord):
    """A manifest's first line."""

    kind: Literal["header"] = "header"
    schema_version: Literal[SCHEMA] = SCHEMA
    filter: Filter
    sources: tuple[SourceFile, ...]
    counts: Counts


def build_layouts(folder: Path, options: Filter) -> tuple[Header, list[Layout]]:
    """Reads `folder`, of COCO's shape, and makes the layouts that the filter leaves.

    Raises:
        InputError: see `read_instances` and `read_captions`; an image that passes has no such
            caption; no image passes.
    """
    instances = read_instances(folder, options.year)
    captions = None if options.caption is None else read_captions(folder, options.year)
    chosen = choose(instances, options)
    layouts, objects_cut = [], 0
    for image, kept, dropped in tqdm(chosen, "masks", disable=None, leave=False):
        layout, cut = _layout(image, kept, dropped, captions, options)
        objects_cut += cut
        if layout:
            layouts.append(layout)
    if not layouts:
        raise InputError(
            f"none of the {len(instances.images)} images in {folder} passes the filter: "
            "see what each reading leaves with `tcig layouts --count`."
        )
    files = [instances, captions] if captions else [instances]
    header = Header(
        filter=options,
        sources=tuple(SourceFile(file=file.path.name, sha256=file.sha256) for file in files),
        counts=Counts(
            images=len(instances.images),
            filtered=len(chosen),
            objects_cut=objects_cut,
            layouts_cut=len(chosen) - len(layouts),
            layouts=len(layouts),
        ),
    )
    return header, layouts


def _layout(
    image: dict,
    kept: list[Candidate],
    dropped: dict[str, list],
    captions: Captions | None,
    options: Filter,
) -> tuple[Layout | None, int]:
    """The layout on the centre square, None if too few objects are left, and how many were cut."""
    size = image["width"], image["height"]
    regions, cut = [], []
    for candidate in kept:
        region = _on_square(candidate, *size)
        share = area(region["mask"]) / min(size) ** 2
        (regions if share and share >= options.min_cropped_area else cut).append(region)
    if options.number_of([region["label"] for region in regions]) < options.min_objects:
        return None, len(cut)
    aside = [Dropped(**region, reason="cut") for region in cut if area(region["mask"])]
    for reason, objects in dropped.items():
        masked = (_on_square(candidate, *size) for candidate in objects)
        aside += [Dropped(**each, reason=reason) for each in masked if area(each["mask"])]
    layout = Layout(
        id=str(image["id"]),
        image=f"val{options.year}/{image['file_name']}",
        side=min(size),
        size=size if len(set(size)) == 2 else None,
        caption=_caption(image["id"], captions, options.caption) if captions else "",
        regions=tuple(Region(**region) for region in regions),
        dropped=tuple(aside),
    )
    return layout, len(cut)


def _on_square(candidate: Candidate, width: int, height: int) -> dict:
    """The fields of a region: its mask is that on the centre square."""
    annotation = candidate.annotation
    mask = crop_square(decode(to_rle(annotation["segmentation"], height, width)))
    return {"annotation": annotation["id"], "label": candidate.label, "mask": encode(mask)}


def _caption(image: int, captions: Captions, number: int) -> str:
    texts = captions.texts.get(image, [])
    if number >= len(texts):
        raise InputError(
            f"{captions.path}: image {image} has {len(texts)} captions, so none has the number "
            f"{number} (from 0)."
        )
    return texts[number]


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
            invalid = isinstance(error, ValidationError)
            problem = first_problem(error) if invalid else str(error).removesuffix(".")
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
