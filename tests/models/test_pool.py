import numpy as np
import pytest
import torch
from PIL import Image

from tcig.data.emoji.scenes import SIZE, portrait, scene
from tcig.models.mini import pool as pools
from tcig.models.mini.augment import augment
from tcig.models.mini.pool import captioned, captioned_pools, scene_pool


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def pool(folder):
    """A pool of eight scenes."""
    return scene_pool(folder, 40, 8, ("noto",))


def test_pool_holds_the_scenes_of_the_training_split_and_is_mapped_the_second_time(folder, pool):
    drawn = scene("training", 43)
    assert np.array_equal(pool[3]["image"], drawn.image)
    assert np.array_equal(pool[3]["labels"], drawn.label_map())
    made = [path.stat().st_mtime_ns for path in folder.glob("*.npy")]
    again = scene_pool(folder, 40, 8, ("noto",))
    assert np.array_equal(again, pool)
    assert made == [path.stat().st_mtime_ns for path in folder.glob("*.npy")]
    assert not list(folder.glob("*.part"))


def test_a_pool_that_fails_half_way_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "tqdm", lambda *arguments: iter([np.zeros((), pools.CAPTIONED), 0]))
    with pytest.raises((TypeError, ValueError, IndexError)):
        captioned_pools(tmp_path, 0, 1, 1)
    assert not list(tmp_path.glob("*.npy"))


def test_captioned_pools_hold_scenes_and_portraits_of_the_training_split(tmp_path):
    scenes, portraits = captioned_pools(tmp_path, 60, 3, 3)
    for made, draw in ((scenes, scene), (portraits, portrait)):
        drawn = draw("training", 62)
        small = Image.fromarray(drawn.image).resize((64, 64), Image.Resampling.LANCZOS)
        assert np.array_equal(made[2]["image"], np.asarray(small))
        assert set(np.unique(made[2]["labels"])) <= set(np.unique(drawn.label_map()))
        assert made[2]["captions"][0].decode() == drawn.captions[0]


def test_a_scenes_third_caption_leaves_the_background_out():
    drawn = scene("training", 7)
    full, _, bare = (caption.decode() for caption in captioned(drawn)["captions"])
    assert full.startswith(f"{bare} ")
    assert full.removeprefix(f"{bare} ").split()[0] in ("on", "in")


def test_captions_fit_their_field():
    longest = max(len(c) for i in range(400) for c in scene("training", i).captions)
    assert longest < pools.CAPTIONED["captions"].subdtype[0].itemsize


def test_labels_follow_the_image_through_the_warp():
    """Away from edges, a white object stays where its label is, whatever the colours become."""
    labels = torch.zeros(6, SIZE, SIZE, dtype=torch.uint8)
    labels[:, 40:100, 30:70] = 5
    images = (labels > 0).float()[:, None].repeat(1, 3, 1, 1)
    draw = torch.Generator().manual_seed(0)
    warped, moved = augment(images, labels, 96, draw)
    assert warped.shape == (6, 3, 96, 96)
    assert set(moved.unique().tolist()) <= {0, 5}
    assert not torch.equal(moved[0], moved[1])
    for image, label in zip(warped.mean(1), moved, strict=True):
        inside, outside = image[label == 5].mean(), image[label == 0].mean()
        assert inside - outside > 0.25


def test_augmentation_is_a_function_of_its_generator():
    image = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(9))
    labels = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    a, b, c = (
        augment(image.clone(), labels, 96, torch.Generator().manual_seed(seed))[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
