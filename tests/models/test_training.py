"""Training: every recipe through the command, and the training loop on a small linear model."""

import json
import shutil
from multiprocessing import dummy
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from tcig.data.files import sha256
from tcig.models import mini
from tcig.models.mini.train import __main__ as command
from tcig.models.mini.train import autoencoders, clips, data, diffusion, segmenters, trainer
from tcig.models.mini.train.trainer import Muon, Recipe, Trainer, orthogonalise

RECIPES = command.RECIPES
FEW = 12
SHIPPED = mini.WEIGHTS


def run(patch, *arguments):
    patch.setattr("sys.argv", ["train", *arguments])
    command.main()


def test_the_command_trains_resumes_and_ships_each_model_on_those_before_it(tmp_path, monkeypatch):
    weights, folder = tmp_path / "weights", tmp_path / "training"
    skipped = shutil.ignore_patterns("*.safetensors", *(f"{name}.json" for name in RECIPES))
    shutil.copytree(SHIPPED, weights, ignore=skipped)
    monkeypatch.setattr(mini, "WEIGHTS", weights)
    monkeypatch.setattr(data, "multiprocessing", Mock(get_context=lambda _: dummy))  # threads
    few = lambda split, kind, count, made=data.held_out: made(split, kind, min(count, 4))  # noqa: E731
    for owner, name, value in (
        (data, "POOL_SIZE", FEW),
        (clips, "HELD_OUT", FEW),
        (segmenters, "SCENES", FEW),
        (segmenters, "RECONSTRUCTIONS", FEW),
        (command, "VALIDATION_SCENES", 4),
        (autoencoders, "held_out", few),
        (diffusion, "held_out", few),
        *((recipe, "batch", min(recipe.batch, 6)) for recipe in RECIPES.values()),
    ):
        monkeypatch.setattr(owner, name, value)
    run(monkeypatch, "all", "--minutes", "1e-6", "--folder", str(folder))
    checkpoint = folder / "vqgan" / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | {"progress": (1, 0.0, 0)}, checkpoint)  # as if no time had passed
    run(monkeypatch, "vqgan", "--minutes", "1e-6", "--folder", str(folder))
    cards = {path.stem: json.loads(path.read_text()) for path in weights.glob("*.json")}
    assert set(cards) == set(RECIPES)
    for name, card in cards.items():
        assert card["steps"] == (2 if name == "vqgan" else 1)  # it was resumed
        assert all(sha256(weights / file) == identity for file, identity in card["files"].items())
        assert (folder / name / "log.csv").read_text().count("\n") == 1 + card["steps"]
    vae = cards["vae"]["files"]["stable-diffusion/vae/diffusion_pytorch_model.safetensors"]
    assert (folder / f"latents-scenes-{FEW}-{vae[:8]}.npy").exists()
    shipped = {path.relative_to(SHIPPED) for path in SHIPPED.rglob("*")}
    assert {path.relative_to(weights) for path in weights.rglob("*")} == shipped


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vae", "--minutes", "0"], "--minutes must be more than 0"),
        (["all", "--continue"], "is not shipped"),
    ],
)
def test_training_refuses_no_time_and_no_weights(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(mini, "WEIGHTS", tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments, "--folder", str(tmp_path))
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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


def test_training_continues_from_shipped_weights_and_their_card(tmp_path):
    line = Trainer(Line(), tmp_path / "first")
    for _ in range(30):
        line.advance(0)
    line.minutes = 7.0
    (tmp_path / "weights").mkdir()
    card = command.export(line, tmp_path / "weights")
    assert card == json.loads((tmp_path / "weights" / "line.json").read_text())
    assert (card["steps"], card["minutes"], card["not_for"]) == (30, 7.0, "curves")
    again = Trainer(Line(), tmp_path / "second", weights=tmp_path / "weights")
    assert (again.step, again.minutes) == (30, 7.0)
    half = line.average.module.weight.half().float()
    assert torch.equal(again.model.weight, half)
    assert torch.equal(again.average.module.weight, half)
    again.advance(0)
    assert again.optimisers[0].param_groups[0]["lr"] == pytest.approx(0.05 / trainer.WARM_UP)


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
