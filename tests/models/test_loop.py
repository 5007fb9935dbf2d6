import csv
import json
import shutil

import pytest
import torch
from torch import nn

from tcig.models.mini import loop
from tcig.models.mini.cards import write_card
from tcig.models.mini.loop import Recipe, Trainer, bf16_forward
from tcig.models.mini.muon import Muon, optimisers, orthogonalise


class Line(Recipe):
    """Fits y = A x + b; A is 32x24."""

    name, about, not_for, data = "line", "a line", "curves", {"styles": ["noto"]}
    seed, batch, rate, average, minutes = 5, 16, 0.05, 0.9, 1

    def build(self):
        return nn.Linear(24, 32)

    def prepare(self, folder):
        pass

    def loss(self, forward, draw, done):
        truth = torch.randn(32, 24, generator=torch.Generator().manual_seed(1))
        x = torch.randn(self.batch, 24, generator=draw)
        return (forward(x) - x @ truth.T - 1).square().mean()

    def figures(self, model, split, count):
        return {"bias": model.bias.mean().item()}

    def ship(self, model, folder):
        path = folder / "line.pt"
        torch.save(model.state_dict(), path)
        return [path]

    def restore(self, model, folder):
        model.load_state_dict(torch.load(folder / "line.pt", weights_only=True))


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
    halfway = weights(second).clone()
    for _ in range(40):
        second.advance(0.1)
    assert torch.equal(weights(second), weights(unbroken))
    assert not torch.equal(weights(second), halfway)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_trains_as_the_same_model(tmp_path):
    plain = Trainer(Line(), tmp_path / "plain", bf16=True)
    compiled = Trainer(Line(), tmp_path / "compiled", bf16=True, compiled=True)
    for _ in range(5):
        assert compiled.advance(0) == pytest.approx(plain.advance(0), rel=1e-2)
    assert hasattr(compiled.forward, "_torchdynamo_orig_callable")
    compiled.save()
    assert Trainer(Line(), tmp_path / "compiled").step == 5


def test_checkpoints_hold_no_code(tmp_path):
    trainer = Trainer(Line(), tmp_path)
    trainer.advance(0)
    trainer.save()
    assert torch.load(trainer.checkpoint, weights_only=True)["progress"] == (1, 0.0, 0)


def test_training_stops_in_time_and_logs_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_MINUTES", 0)
    trainer = Trainer(Line(), tmp_path)
    trainer.train(0.01)
    assert 0.01 <= trainer.minutes < 0.1
    rows = list(csv.DictReader((tmp_path / "line" / "log.csv").open()))
    assert int(rows[-1]["step"]) == trainer.step
    assert float(rows[-1]["bias"]) == pytest.approx(
        trainer.average.module.bias.mean().item(), abs=1e-4
    )
    again = Trainer(Line(), tmp_path)
    assert (again.step, again.minutes) == (trainer.step, trainer.minutes)


def test_the_rate_warms_up_and_falls_as_a_cosine(tmp_path):
    trainer = Trainer(Line(), tmp_path)
    rates = []
    for done in (0, 0, 0.5):
        trainer.advance(done)
        rates.append(trainer.optimisers[0].param_groups[0]["lr"])
        assert rates[-1] == trainer.optimisers[1].param_groups[0]["lr"]
    assert rates == pytest.approx([0.05 / loop.WARM_UP * f for f in (1, 2, 1.5)])


def test_shipped_weights_can_be_gone_on_from(tmp_path):
    trainer = Trainer(Line(), tmp_path / "first")
    for _ in range(30):
        trainer.advance(0)
    trainer.minutes = 7.0
    card = write_card(trainer, tmp_path / "weights")
    assert card == json.loads((tmp_path / "weights" / "line.json").read_text())
    assert (card["steps"], card["minutes"], card["not_for"]) == (30, 7.0, "curves")
    assert set(card["files"]) == {"line.pt"}
    shipped = torch.load(tmp_path / "weights" / "line.pt", weights_only=True)
    assert shipped["weight"].dtype == torch.float16
    again = Trainer(Line(), tmp_path / "second", shipped=tmp_path / "weights")
    assert (again.step, again.minutes) == (30, 7.0)
    assert torch.equal(again.model.weight, shipped["weight"].float())
    assert torch.equal(again.average.module.weight, shipped["weight"].float())
    again.advance(0)
    assert again.optimisers[0].param_groups[0]["lr"] == pytest.approx(0.05 / loop.WARM_UP)


def test_the_moving_average_forgets_the_start(tmp_path):
    trainer = Trainer(Line(), tmp_path)
    start = trainer.model.weight.detach().clone()
    for _ in range(8):
        trainer.advance(0)
    moved = (trainer.model.weight - start).norm()
    lag = (trainer.average.module.weight - trainer.model.weight).norm()
    assert lag < 0.7 * moved


def test_the_moving_average_keeps_infinite_masks():
    average, current = (torch.tensor([0.0, -torch.inf]) for _ in range(2))
    loop._smooth(0.9, [average], [current], torch.tensor(3))
    assert torch.equal(average, current)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalised_matrices_have_singular_values_near_one(dtype):
    draw = torch.Generator().manual_seed(0)
    for shape in ((24, 90), (90, 24), (40, 40)):
        matrix = torch.randn(shape, generator=draw) * 1e-3
        result = orthogonalise(matrix, dtype)
        assert result.dtype == dtype
        result = result.float()
        values = torch.linalg.svdvals(result)
        assert values.max() < 1.35
        assert values.median() > 0.6
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert (result * (u @ v)).sum() / result.norm() / (u @ v).norm() > 0.97


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_steps_as_torchs_own_does_on_matrices(dtype):
    """torch.optim.Muon orthogonalises in bfloat16: equal to within that."""
    draw = torch.Generator().manual_seed(3)
    ours, theirs = (nn.Parameter(torch.full((20, 32), 0.5)) for _ in range(2))
    mine = Muon([ours], lr=0.1, weight_decay=0.1, dtype=dtype)
    reference = torch.optim.Muon(
        [theirs], lr=0.1, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        ours.grad = torch.randn(20, 32, generator=draw)
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    change = (ours - 0.5 * 0.99**3).norm()
    assert (ours - theirs).norm() < 0.03 * change
    assert ours.dtype == torch.float32


def test_narrow_layers_biases_and_embeddings_are_left_to_adamw():
    model = nn.Sequential(
        nn.Embedding(50, 32), nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(64, 8)
    )
    muon, adamw = optimisers(model, 0.1, 0.0)
    assert [p.shape for p in muon.param_groups[0]["params"]] == [(64, 32, 3, 3)]
    assert len(adamw.param_groups[0]["params"]) == 6


def test_bf16_trains_float32_weights_to_within_its_precision(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 4, 3))
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    gradients = []
    for forward in (model, bf16_forward(model)):
        model.zero_grad()
        output = forward(images)
        assert output.dtype == torch.float32
        output.square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    assert 0 < (gradients[0] - gradients[1]).norm() < 0.03 * gradients[0].norm()
