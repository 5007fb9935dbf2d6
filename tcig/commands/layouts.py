"""`tcig layouts`: from COCO's files to a manifest of layouts.

    tcig layouts --coco coco --out layouts.jsonl
    tcig layouts --coco coco --download --year 2017 --people drop --out layouts.jsonl
    tcig layouts --coco coco --count
    tcig layouts --coco coco --check layouts.jsonl
    tcig layouts --export for-my-method --layouts layouts.jsonl --profile paper

FOLDER has COCO's shape: annotations/instances_val2017.json, annotations/captions_val2017.json and,
for the row `real` alone, val2017/*.jpg.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tabulate import tabulate

from tcig.commands import parse
from tcig.data.coco import read_instances
from tcig.data.download import fetch_annotations, fetch_images
from tcig.data.files import InputError
from tcig.data.filters import Filter, count_table
from tcig.data.layout import export_layouts, hash_order
from tcig.data.manifest import build_layouts, read_manifest, write_manifest

SHOWN = 10
"""Number of differences that --check prints (our choice)."""


@dataclass
class Options:
    """Arguments of `tcig layouts`."""

    coco: Path | None = None
    """COCO's folder."""
    out: Path | None = None
    """Manifest to write."""
    download: bool = False
    """Fetch what FOLDER lacks: annotations (241 MB), and the photographs of the layouts."""
    count: bool = False
    """Print how many images every combination of the readings leaves."""
    check: Path | None = None
    """Manifest to compare with what COCO's files give under its own filter."""
    export: Path | None = None
    """Folder to write masks, prompts and seeds to, for methods that live elsewhere."""
    layouts: Path | None = None
    """Manifest to export."""
    profile: str = "mini"
    """Profile whose image size the export is for."""
    samples: int = 1
    """Samples of each layout in the export."""
    limit: int | None = None
    """Export the first N layouts in the order of a hash of their ids."""
    filter: Annotated[Filter, tyro.conf.arg(name="")] = field(default_factory=Filter)


def main(argv: list[str]) -> int:
    """Runs `tcig layouts`; 1 if --check finds a difference."""
    options = parse(Options, argv, "layouts", __doc__)
    if options.export:
        _export(options)
        return 0
    if options.coco is None:
        raise InputError("give --coco FOLDER, or --export FOLDER with --layouts FILE.")
    if sum([options.count, options.out is not None, options.check is not None]) != 1:
        raise InputError("give one of --out FILE for the manifest, --count, --check FILE.")
    if options.check:
        return _check(options)
    if options.download:
        fetch_annotations(options.coco, options.filter.year)
    if options.count:
        instances = read_instances(options.coco, options.filter.year)
        print(tabulate(count_table(instances, options.filter), headers="keys"))
        print(f"\n{len(instances.images)} images in {instances.path.name}, before the square crop")
    else:
        make_manifest(options.coco, options.filter, options.out, options.download)
    return 0


def make_manifest(coco: Path, chosen: Filter, out: Path, download: bool) -> None:
    """Writes the manifest of COCO's files, and says what it holds.

    Args:
        coco: COCO's folder, with annotations.
        chosen: which images and objects.
        out: the manifest.
        download: fetch the photographs that are not there.
    """
    header, layouts = build_layouts(coco, chosen)
    write_manifest(out, header, layouts)
    counts = header.counts
    print(
        f"{out}: {counts.layouts} layouts of {counts.images} images "
        f"({counts.filtered} pass the filter; the square crop cuts away {counts.objects_cut} "
        f"objects and with them {counts.layouts_cut} layouts)"
    )
    absent = [layout for layout in layouts if not (coco / layout.image).exists()]
    if absent and download:
        names = [layout.image.removeprefix(f"val{chosen.year}/") for layout in absent]
        sizes = [layout.size or (layout.side, layout.side) for layout in absent]
        images = [(name, *size) for name, size in zip(names, sizes, strict=True)]
        fetch_images(coco, chosen.year, images)
    elif absent:
        print(
            f"{len(absent)} of the {len(layouts)} photographs are not in {coco} "
            f"({absent[0].image} first): the row `real` needs them, --download fetches them",
            file=sys.stderr,
        )


def _check(options: Options) -> int:
    """Compares a manifest with what COCO's files give; 1 if they differ."""
    header, layouts = read_manifest(options.check)
    if options.download:
        fetch_annotations(options.coco, header.filter.year)
    found, built = build_layouts(options.coco, header.filter)
    theirs, ours = ({each.id: each for each in some} for some in (layouts, built))
    differences = [
        f"{mine.file} is not the file that it was made of"
        for its, mine in zip(header.sources, found.sources, strict=True)
        if its != mine
    ]
    differences += [f"layout {i} is not given" for i in theirs if i not in ours]
    differences += [f"layout {i} is not in it" for i in ours if i not in theirs]
    differences += [f"layout {i} is another" for i in theirs if ours.get(i, theirs[i]) != theirs[i]]
    if header.counts != found.counts and not differences:
        differences = ["its counts are others"]
    for difference in differences[:SHOWN]:
        print(f"{options.check}: {difference}", file=sys.stderr)
    verdict = "holds" if not differences else f"does not hold: {len(differences)} differences"
    print(f"{options.check}: {len(layouts)} layouts of {options.coco}, the manifest {verdict}")
    return 1 if differences else 0


def _export(options: Options) -> None:
    """Writes masks, prompts and seeds for methods that live elsewhere."""
    from tcig.profiles import load_profile

    if options.layouts is None:
        raise InputError("--export needs --layouts FILE, a manifest.")
    layouts = hash_order(read_manifest(options.layouts)[1])[: options.limit]
    size = load_profile(options.profile).size
    export_layouts(layouts, options.export, size, options.samples)
    limit = f" --limit {options.limit}" if options.limit else ""
    print(
        f"{options.export}: {len(layouts)} layouts for images of {size}x{size}. Save yours as "
        f"FOLDER/LAYOUT-SAMPLE.png, then: tcig score FOLDER --layouts {options.layouts} "
        f"--profile {options.profile}{limit}"
    )
