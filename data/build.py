"""From a COCO folder to a manifest of layouts."""

from pathlib import Path

from tqdm import tqdm

from tcig.data.coco import Captions, Instances, read_captions, read_instances
from tcig.data.errors import InputError
from tcig.data.filters import Candidate, Filter, candidates, passes, sort_out
from tcig.data.layout import Counts, Dropped, Header, Layout, Region, SourceFile
from tcig.data.masks import area, crop_square, decode, encode, to_rle


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


def choose(instances: Instances, options: Filter) -> list[tuple[dict, list, dict]]:
    """The images that pass the filter: COCO's record, objects that count, those dropped."""
    chosen = []
    for image, objects in candidates(instances, options):
        kept, dropped = sort_out(objects, options)
        if passes(kept, dropped, options):
            chosen.append((image, kept, dropped))
    return chosen


def _layout(
    image: dict,
    kept: list[Candidate],
    dropped: dict[str, list],
    captions: Captions | None,
    options: Filter,
) -> tuple[Layout | None, int]:
    """The layout on the centre square, None if too few objects are left, and how many were cut."""
    square = min(image["height"], image["width"]) ** 2
    regions, outside = [], []
    for candidate in kept:
        region = _on_square(candidate, image)
        share = area(region["mask"]) / square
        (regions if share and share >= options.min_cropped_area else outside).append(region)
    if options.number_of([region["label"] for region in regions]) < options.min_objects:
        return None, len(outside)
    aside = [region | {"reason": "cut"} for region in outside]
    for reason, objects in dropped.items():
        aside += [_on_square(candidate, image) | {"reason": reason} for candidate in objects]
    size = image["width"], image["height"]
    layout = Layout(
        id=str(image["id"]),
        image=f"val{options.year}/{image['file_name']}",
        side=min(size),
        size=size if len(set(size)) == 2 else None,
        caption=_caption(image, captions, options) if captions else "",
        regions=tuple(Region(**region) for region in regions),
        dropped=tuple(Dropped(**region) for region in aside if area(region["mask"])),
    )
    return layout, len(outside)


def _on_square(candidate: Candidate, image: dict) -> dict:
    mask = crop_square(
        decode(to_rle(candidate.annotation["segmentation"], image["height"], image["width"]))
    )
    return {
        "annotation": candidate.annotation["id"],
        "label": candidate.label,
        "mask": encode(mask),
    }


def _caption(image: dict, captions: Captions, options: Filter) -> str:
    texts = captions.texts.get(image["id"], [])
    if not texts:
        raise InputError(f"{captions.path}: image {image['id']} has no caption.")
    if options.caption >= len(texts):
        raise InputError(
            f"{captions.path}: image {image['id']} has {len(texts)} captions, "
            f"number {options.caption} (counted from 0) is asked for: choose a smaller one."
        )
    return texts[options.caption]
