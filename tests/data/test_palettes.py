"""Palettes: a colour for each class, those that must be shared, and PITI's rule by other means."""

import numpy as np
import pytest

from tcig.data.palettes import PALETTES, painted
from tcig.data.voc import CLASSES, COLOURS


@pytest.mark.parametrize("name", PALETTES)
def test_every_class_has_a_colour_and_only_ade20k_shares_some(name):
    palette = PALETTES[name]
    assert set(palette) == {voc.label for voc in CLASSES}
    assert (0, 0, 0) not in palette.values()
    shared = {}
    for label, colour in palette.items():
        shared.setdefault(colour, set()).add(label)
    animals = {"bird", "cat", "cow", "dog", "horse", "sheep"}
    expected = [{"bus", "train"}, animals] if name == "ade20k" else []
    assert sorted([labels for labels in shared.values() if len(labels) > 1], key=len) == expected
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[1, 2, 3] = 8
    pixels = painted(labels, name)
    assert (pixels.shape, pixels.dtype) == ((2, 4, 4, 3), np.uint8)
    assert tuple(pixels[1, 2, 3]) == palette["cat"]
    assert pixels.sum() == sum(palette["cat"])


def test_the_colours_of_coco_stuff_deal_the_bits_of_the_id_to_three_channels():
    """The lowest bit is red's highest, the next green's, blue's, then red's second, and so on."""
    for voc in CLASSES:
        bits = f"{voc.coco_id:024b}"[::-1]
        channels = (bits[start::3] for start in range(3))
        assert PALETTES["coco-stuff"][voc.label] == tuple(int(c, 2) for c in channels)


def test_vocs_palette_is_that_of_label_maps():
    labels = np.arange(21, dtype=np.uint8).reshape(3, 7)
    assert (painted(labels, "voc") == np.array(COLOURS)[labels]).all()
