"""The networks behind the metrics, on the shipped miniature: batches change nothing."""

import numpy as np
import pytest
import torch

from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.filters import Filter
from tcig.data.layout import hash_order, open_photograph
from tcig.data.manifest import build_layouts
from tcig.eval import features as module
from tcig.eval.features import ClipEncoder, load_features, photograph_features
from tcig.models.clip import INCEPTION_FILE, load_clip
from tcig.models.random_weights import write_random_weights


@pytest.fixture(scope="module")
def scorer():
    return ClipEncoder("mini:clip-score")


@pytest.fixture(scope="module")
def layouts():
    return hash_order(build_layouts(EMOJI, Filter())[1])[:5]


@pytest.fixture(scope="module")
def images(layouts):
    return [open_photograph(layout, EMOJI, 64) for layout in layouts]


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """Random weights, so large that features are about 1 as the real ones'."""
    folder = tmp_path_factory.mktemp("inception")
    write_random_weights("inception_2015_12_05", folder)
    state = torch.load(folder / INCEPTION_FILE, weights_only=True)
    larger = {k: v * 6**0.5 if k.endswith("conv.weight") else v for k, v in state.items()}
    torch.save(larger, folder / INCEPTION_FILE)
    return folder


def pixels_of(images):
    return torch.stack([torch.from_numpy(np.array(image)).movedim(-1, 0) for image in images])


@torch.inference_mode()
def test_images_at_clips_own_side_are_taken_as_they_are_in_any_batches(scorer, images, monkeypatch):
    expected = load_clip("mini:clip-score").encode_images(pixels_of(images) / 255)
    torch.testing.assert_close(scorer.images(images), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(5))
    monkeypatch.setattr(module, "BATCH", 2)
    torch.testing.assert_close(scorer.images(images), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], rtol=1e-2, atol=1e-3)


def test_inception_sees_the_pixels_themselves_in_any_batches(
    scorer, images, inception, monkeypatch
):
    assert load_features("scorer", scorer) is scorer
    encoder = load_features(str(inception), scorer)
    assert (encoder.name, encoder.suffix, encoder.gamma) == (str(inception), "", None)
    (expected,) = encoder.network(pixels_of(images))
    monkeypatch.setattr(module, "BATCH", 2)
    torch.testing.assert_close(encoder.images(images), expected, rtol=1e-4, atol=1e-5)
    assert expected.max() > 0.05
    assert not torch.allclose(expected[0], expected[1], rtol=1e-2, atol=1e-3)


def test_photographs_are_looked_at_once(scorer, layouts, images):
    asked = []

    class Counted(ClipEncoder):
        def __init__(self):
            self.clip = scorer.clip

        def images(self, images):
            asked.append(len(images))
            return super().images(images)

    look = photograph_features(EMOJI, 64, Counted())
    first = look(layouts[:3])
    again = look([layouts[4], layouts[1]])
    expected = scorer.images(images)
    torch.testing.assert_close(first, expected[:3], rtol=0, atol=1e-6)
    torch.testing.assert_close(again, expected[[4, 1]], rtol=0, atol=1e-6)
    assert asked == [3, 1]
