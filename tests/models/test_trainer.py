"""The training loop on a small linear model; the optimiser against torch's; pools of scenes."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from tcig.data.emoji.scenes import SIZE, portrait, scene
from tcig.models.mini.train import data, trainer
from tcig.models.mini.train.__main__ import export
from tcig.models.mini.train.trainer import (
    Muon,
    Recipe,
    Trainer,
    bf16_forward,
    orthogonalise,
    update_average,
)


class Line(Recipe):
    """Fits y = A x + b; A is 32x24."""

    name, about, not_for, data = "line", "a line", "curves", {"styles": ["noto"]}
    seed, batch, learning_rate, average_decay = 5, 16, 0.05, 0.9
    files = {"line.safetensors": ""}  # noqa: RUF012

    def build(self):
        return nn.Linear(24, 32)

    def prepare(self, folder):
        pass

    def loss(self, forward, rng, progress):
        truth = torch.randn(32, 24, generator=torch.Generator().manual_seed(1))
        x = torch.randn(self.batch, 24, generator=rng)
        return (forward(x) - x @ truth.T - 1).square().mean()

    def evaluate(self, model, split, count):
        return {"bias": model.bias.mean().item()}


def weights(trainer):
    models = (trainer.model, trainer.average)
    return torch.cat([p.flatten() for model in models for p in model.parameters()])


def test_training_resumed_from_its_checkpoint_equals_training_at_once(tmp_path):
    unbroken = Trainer(Line(), tmp_path / "unbroken")
    losses = [unbroken.advance(0.1) for _ in range(60)]
    first = Trainer(Line(), tmp_path / "broken")
    for _ in range(20):
        first.advance(0.1)
    first.save()
    second = Trainer(Line(), tmp_path / "broken")
    assert second.step == 20
    for _ in range(40):
        second.advance(0.1)
    assert torch.equal(weights(second), weights(unbroken))
    assert losses[-1] < 0.5 * losses[0]


def test_training_stops_in_time_and_logs_its_metrics(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "LOG_MINUTES", 0)
    line = Trainer(Line(), tmp_path)
    line.train(0.005)
    assert 0.005 <= line.minutes < 0.1
    rows = list(csv.DictReader((tmp_path / "line" / "log.csv").open()))
    assert int(rows[-1]["step"]) == line.step
    assert float(rows[-1]["bias"]) == pytest.approx(
        line.average.module.bias.mean().item(), abs=1e-4
    )
    again = Trainer(Line(), tmp_path)
    assert (again.step, again.minutes) == (line.step, line.minutes)


def test_training_continues_from_shipped_weights_and_their_card(tmp_path):
    line = Trainer(Line(), tmp_path / "first")
    for _ in range(30):
        line.advance(0)
    line.minutes = 7.0
    (tmp_path / "weights").mkdir()
    card = export(line, tmp_path / "weights")
    assert card == json.loads((tmp_path / "weights" / "line.json").read_text())
    assert (card["steps"], card["minutes"], card["not_for"]) == (30, 7.0, "curves")
    again = Trainer(Line(), tmp_path / "second", weights=tmp_path / "weights")
    assert (again.step, again.minutes) == (30, 7.0)
    half = line.average.module.weight.half().float()
    assert torch.equal(again.model.weight, half)
    assert torch.equal(again.average.module.weight, half)
    again.advance(0)
    assert again.optimisers[0].param_groups[0]["lr"] == pytest.approx(0.05 / trainer.WARM_UP)


def test_the_moving_average_forgets_the_start_and_keeps_infinite_masks(tmp_path):
    line = Trainer(Line(), tmp_path)
    start = line.model.weight.detach().clone()
    for _ in range(8):
        line.advance(0)
    lag = (line.average.module.weight - line.model.weight).norm()
    assert lag < 0.7 * (line.model.weight - start).norm()
    average, mask = (torch.tensor([0.0, -torch.inf]) for _ in range(2))
    update_average(0.9, [average], [mask], torch.tensor(3))
    assert torch.equal(average, mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_orthogonalises_and_steps_as_torchs_own_does_on_matrices(dtype):
    """torch.optim.Muon orthogonalises in bfloat16: equal to within that."""
    rng = torch.Generator().manual_seed(3)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(24, 90, generator=rng), dtype).float())
    assert values.max() < 1.35
    assert values.median() > 0.6
    ours, theirs = (nn.Parameter(torch.full((20, 32), 0.5)) for _ in range(2))
    mine = Muon([ours], 0.1, dtype)
    reference = torch.optim.Muon(
        [theirs], 0.1, trainer.WEIGHT_DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        ours.grad = torch.randn(20, 32, generator=rng)
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    assert (ours - theirs).norm() < 0.03 * (ours - 0.5).norm()
    assert ours.dtype == torch.float32


def test_bf16_trains_float32_weights_to_within_its_precision():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 4, 3))
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    gradients = []
    for forward in (model, bf16_forward(model)):
        model.zero_grad()
        output = forward(images)
        assert output.dtype == torch.float32
        output.square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert 0 < (gradients[0] - gradients[1]).norm() < 0.03 * gradients[0].norm()


def test_a_pool_is_written_whole_once_and_then_mapped(tmp_path):
    path, dtype = tmp_path / "pools" / "pool.npy", np.dtype(np.uint8)

    def interrupted():
        yield np.ones(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.memory_map(path, dtype, (4,), interrupted())
    assert not path.exists()
    made = data.memory_map(path, dtype, (4,), iter([np.ones(2), np.full(2, 7)]))
    assert made.tolist() == [1, 1, 7, 7]
    assert data.memory_map(path, dtype, (4,), interrupted()).tolist() == [1, 1, 7, 7]


def test_records_hold_their_scene_and_a_caption_without_the_background():
    for kind, compose in (("scenes", scene), ("portraits", portrait)):
        record, composed = data.held_out("training", kind, 9)[8], compose("training", 8)
        captions = [caption.decode() for caption in record["captions"]]
        assert tuple(captions[: len(composed.captions)]) == composed.captions
        assert captions[0].startswith(f"{captions[2]} ")
        assert set(np.unique(record["labels"])) <= set(np.unique(composed.label_map()))
        small = composed.image.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(record["image"] - small).mean() < 3


def test_labels_follow_the_image_through_the_augmentation():
    """Away from edges, a white object stays where its label is, whatever the colours become."""
    labels = torch.zeros(6, SIZE, SIZE, dtype=torch.uint8)
    labels[:, 40:100, 30:70] = 5
    images = (labels > 0).float()[:, None].repeat(1, 3, 1, 1)
    results = [
        data.augment(images.clone(), labels, 96, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    warped, moved = results[0]
    assert warped.shape == (6, 3, 96, 96)
    assert set(moved.unique().tolist()) <= {0, 5}
    for image, label in zip(warped.mean(1), moved, strict=True):
        assert image[label == 5].mean() - image[label == 0].mean() > 0.25
    assert torch.equal(warped, results[1][0])
    assert not torch.equal(warped, results[2][0])
