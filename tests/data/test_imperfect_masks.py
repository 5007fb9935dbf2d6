"""Imperfect masks: against morphology by brute force, and what must hold for each kind."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from tcig.data.emoji import FOLDER
from tcig.data.files import InputError
from tcig.data.filters import Filter
from tcig.data.layout import imperfect
from tcig.data.manifest import build_layouts
from tcig.data.masks import IMPERFECTIONS, dilated, eroded, parse_masks, shifted

SQUARE = np.zeros((60, 60), bool)
SQUARE[20:40, 10:30] = True  # of size 20: an amount of 0.15 is 3 pixels
DISC = np.hypot(*(np.indices((7, 7)) - 3)) <= 3


@pytest.fixture(scope="module")
def layouts():
    return build_layouts(FOLDER, Filter())[1][:16]


def overlap(layouts, others):
    """IoU of each region with its other, by layout and region."""
    pairs = [
        (a.pixels, b.pixels)
        for one, other in zip(layouts, others, strict=True)
        for a, b in zip(one.regions, other.regions, strict=True)
    ]
    return np.array([(a & b).sum() / (a | b).sum() for a, b in pairs])


def test_against_morphology():
    assert (dilated(SQUARE, 0.15, None) == binary_dilation(SQUARE, DISC)).all()
    assert (eroded(SQUARE, 0.15, None) == binary_erosion(SQUARE, DISC)).all()
    for seed in range(8):
        moved = shifted(SQUARE, 0.25, np.random.default_rng(seed))
        apart = np.argwhere(moved).mean(0) - np.argwhere(SQUARE).mean(0)
        assert moved.sum() == SQUARE.sum()
        assert np.hypot(*apart) == pytest.approx(5, abs=0.8)


@pytest.mark.parametrize("kind", IMPERFECTIONS)
def test_a_mask_is_imperfect_and_still_the_object(kind, layouts):
    found = imperfect(layouts, kind)
    iou = overlap(layouts, found)
    assert (iou < 1).mean() > 0.9
    assert (0.2 < iou.mean() < 0.4) if kind == "scribble" else (0.6 < iou.mean() < 0.75)
    for one, other in zip(layouts, found, strict=True):
        assert one.model_copy(update={"regions": other.regions}) == other
        for before, after in zip(one.regions, other.regions, strict=True):
            assert after.pixels.any()
            assert kind != "eroded" or (after.pixels <= before.pixels).all()
            assert kind != "dilated" or (after.pixels >= before.pixels).all()
    again = imperfect(layouts[::-1], f"{kind}:{IMPERFECTIONS[kind][1]}")[::-1]
    assert found == again  # an object's masks depend on nothing else


def test_more_is_worse(layouts):
    for kind in ("eroded", "dilated", "shifted"):
        means = [overlap(layouts, imperfect(layouts, f"{kind}:{a}")).mean() for a in (0, 0.1, 0.3)]
        assert means[0] == 1
        assert means[0] > means[1] + 0.05 > means[2] + 0.1
    assert imperfect(layouts, "true") == layouts


@pytest.mark.parametrize("text", ["blurred", "eroded:much", "eroded:-1", "dilated:2", "", "true:1"])
def test_an_unknown_kind_or_amount_is_refused(text):
    with pytest.raises(InputError, match="masks"):
        parse_masks(text)
