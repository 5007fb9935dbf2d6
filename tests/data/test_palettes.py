"""Palettes: a colour for each class, those that must be shared, and PITI's rule by other means."""

import numpy as np
import pytest

from tcig.data.palettes import PALETTES, painted
from tcig.data.voc import CLASSES, COLOURS


@pytest.mark.parametrize("name", PALETTES)
def test_every_class_has_a_colour_and_only_ade20k_lacks_some(name):
    palette = PALETTES[name]
    assert set(palette) == {each.label for each in CLASSES}
    assert (0, 0, 0) not in palette.values()
    shared = {}
    for label, colour in palette.items():
        shared.setdefault(colour, set()).add(label)
    animals = {"bird", "cat", "cow", "dog", "horse", "sheep"}
    expected = [animals, {"bus", "train"}] if name == "ade20k" else []
    found = [labels for labels in shared.values() if len(labels) > 1]
    assert sorted(found, key=len) == sorted(expected, key=len)


def test_coco_stuffs_colours_deal_the_bits_of_the_id_to_three_channels():
    """The lowest bit is red's highest, the next green's, blue's, then red's second, and so on."""
    for each in CLASSES:
        bits = f"{each.coco_id:024b}"[::-1]
        channels = (bits[start::3] for start in range(3))
        assert PALETTES["coco-stuff"][each.label] == tuple(int(c, 2) for c in channels)


def test_voc_is_the_projects_own():
    labels = np.arange(21, dtype=np.uint8).reshape(3, 7)
    assert painted(labels, "voc").tolist() == np.array(COLOURS)[labels].tolist()


@pytest.mark.parametrize("name", PALETTES)
def test_a_map_keeps_its_shape_and_its_background_is_black(name):
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[1, 2, 3] = 8
    found = painted(labels, name)
    assert (found.shape, found.dtype) == ((2, 4, 4, 3), np.uint8)
    assert tuple(found[1, 2, 3]) == PALETTES[name]["cat"]
    assert found.sum() == sum(PALETTES[name]["cat"])
