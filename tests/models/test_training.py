import numpy as np
import pytest
import torch

from tcig.data.emoji.scenes import SIZE, scene
from tcig.models.mini import train
from tcig.models.mini.augment import augment
from tcig.models.mini.pool import scene_pool


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A training folder with a pool of eight scenes."""
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def pool(folder):
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


def test_training_resumed_from_its_checkpoint_equals_training_at_once(folder, pool, monkeypatch):
    monkeypatch.setattr(train, "BATCH", 2)

    def weights(trainer):
        return torch.cat([p.flatten() for p in trainer.average.parameters()])

    unbroken = train.Trainer("judge", folder / "unbroken")
    for _ in range(4):
        unbroken._step(pool, 64)
    first = train.Trainer("judge", folder / "broken")
    for _ in range(2):
        first._step(pool, 64)
    first.save()
    second = train.Trainer("judge", folder / "broken")
    assert second.step == 2
    halfway = weights(second).clone()
    for _ in range(2):
        second._step(pool, 64)
    assert torch.equal(weights(second), weights(unbroken))
    assert not torch.equal(weights(second), halfway)


def test_checkpoints_hold_no_code(folder, pool):
    trainer = train.Trainer("guide", folder)
    trainer._step(pool, 64)
    trainer.save()
    assert torch.load(trainer.checkpoint, weights_only=True)["step"] == 1


def test_a_step_lowers_the_loss_of_its_own_batch(pool, folder, monkeypatch):
    monkeypatch.setattr(train, "BATCH", 4)
    monkeypatch.setattr(
        train, "augment", lambda images, labels, size, draw: (images, labels.long())
    )
    trainer = train.Trainer("judge", folder / "descent")
    losses = []
    for _ in range(12):
        trainer.step = 0  # the same batch each time
        losses.append(trainer._step(pool, None))
    assert losses[-1] < 0.8 * losses[0]


def test_loss_is_least_for_the_truth():
    labels = torch.tensor([[[0, 3], [3, 7]]])
    right = 20.0 * torch.nn.functional.one_hot(labels, 21).movedim(-1, 1)
    assert train.loss_of(right, labels) < 1e-4
    assert train.loss_of(right.roll(1, 1), labels) > 1
    assert train.loss_of(torch.zeros_like(right), labels) == pytest.approx(
        np.log(21) + 1 - np.mean([2 * n / 21 / (4 / 21 + n) for n in (1, 2, 1)]), rel=1e-5
    )


def test_held_out_miou_is_one_for_the_truth_and_zero_for_background():
    truth = {scene("tuning", i).image.tobytes(): scene("tuning", i).label_map() for i in range(40)}

    class Oracle(torch.nn.Module):
        def forward(self, images):
            pixels = (images * 255).round().byte().movedim(1, -1).numpy()
            labels = torch.from_numpy(np.stack([truth[p.tobytes()] for p in pixels])).long()
            return torch.nn.functional.one_hot(labels, 21).movedim(-1, 1).float()

    class Nothing(torch.nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), 21, SIZE, SIZE)
            logits[:, 0] = 1
            return logits

    assert train.held_out(Oracle(), "tuning", 40) == {"miou": 1, "miou_with_background": 1}
    assert train.held_out(Nothing(), "tuning", 40)["miou"] == 0


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
