"""Layouts of boxes."""

import numpy as np
import pytest

from tcig.data.layout import Layout, Region
from tcig.data.masks import encode


@pytest.fixture(scope="session")
def box_layout():
    """A layout of boxes, label=(top, bottom, left, right)."""

    def build(side, caption="a cat and a bus on a green field", identity="1", **boxes):
        regions = []
        for number, (label, (top, bottom, left, right)) in enumerate(boxes.items()):
            mask = np.zeros((side, side), bool)
            mask[top:bottom, left:right] = True
            regions.append(Region(annotation=number, label=label, mask=encode(mask)))
        return Layout(id=identity, image="", side=side, caption=caption, regions=tuple(regions))

    return build
