"""Layouts without photographs, as many as asked for."""

from pathlib import Path

import numpy as np

from tcig.data.filters import Filter
from tcig.data.layout import Counts, Header, Layout, Region, write_manifest
from tcig.data.masks import encode
from tcig.data.voc import CLASSES


def make_layout(number: int, side: int) -> Layout:
    """Two to four ellipses."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] / side
    regions = []
    for place in range(rng.integers(2, 5)):
        centre, radii = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.3, 2)
        mask = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
        label = CLASSES[rng.integers(20)].label
        regions.append(Region(annotation=place, label=label, mask=encode(mask)))
    caption = f"scene {number} with " + " and ".join(f"a {region.label}" for region in regions)
    return Layout(id=str(number), image="", side=side, caption=caption, regions=tuple(regions))


def write_layouts(path: Path, count: int, side: int) -> None:
    """Their manifest."""
    counts = Counts(images=count, filtered=count, objects_cut=0, layouts_cut=0, layouts=count)
    header = Header(filter=Filter(), sources=(), counts=counts)
    write_manifest(path, header, [make_layout(number, side) for number in range(count)])
