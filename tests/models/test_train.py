"""`train all` in one command, a step a model on small batches of a few scenes."""

import json
from multiprocessing import dummy
from unittest.mock import Mock

import pytest

from tcig.data.files import sha256
from tcig.models.mini import cards, pool, probes, train
from tcig.models.mini.recipes import (
    adapter,
    autoencoders,
    clips,
    diffusion,
    inpainting,
    reconstructions,
)
from tcig.models.mini.recipes import segmenters as recipes

FEW = 12


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """An empty folder of weights in place of the package's, small pools, batches and figures."""
    weights = tmp_path / "weights"
    for module in (train, adapter, diffusion, inpainting, reconstructions):
        monkeypatch.setattr(module, "WEIGHTS", weights)
    for module in (autoencoders, clips, diffusion):
        monkeypatch.setattr(module, "SCENES", FEW)
        monkeypatch.setattr(module, "PORTRAITS", FEW)
    monkeypatch.setattr(recipes, "SCENES", FEW)
    monkeypatch.setattr(recipes, "RECONSTRUCTIONS", FEW)
    monkeypatch.setattr(cards, "VALIDATION_SCENES", FEW)
    monkeypatch.setattr(pool, "multiprocessing", Mock(get_context=lambda _: dummy))  # threads
    held_out = probes.held_out
    for module in (clips, diffusion, probes):
        few = lambda split, kind, count: held_out(split, kind, min(count, FEW))  # noqa: E731
        monkeypatch.setattr(module, "held_out", few)
    for recipe in train.RECIPES.values():
        monkeypatch.setattr(recipe, "batch", min(recipe.batch, 8))
    return weights


def test_one_command_trains_and_ships_every_model_each_on_those_before_it(
    weights, tmp_path, monkeypatch
):
    folder = tmp_path / "training"
    command = ["train", "all", "--minutes", "1e-6", "--folder", str(folder)]
    monkeypatch.setattr("sys.argv", command)
    train.main()
    written = {path.stem: json.loads(path.read_text()) for path in weights.glob("*.json")}
    assert set(written) == set(train.RECIPES)
    for name, card in written.items():
        assert card["steps"] == 1, name
        assert all(sha256(weights / file) == hashed for file, hashed in card["files"].items())
        assert (folder / name / "log.csv").exists()
    vae = sha256(weights / "stable-diffusion" / "vae" / "diffusion_pytorch_model.safetensors")
    assert (folder / f"latents-scenes-{FEW}-{vae[:8]}.npy").exists()
    filled = weights / "stable-diffusion-inpainting"
    assert sha256(filled / "vae" / "diffusion_pytorch_model.safetensors") == vae

    monkeypatch.setattr("sys.argv", ["train", "vae", *command[2:]])
    train.main()  # the time is spent: nothing is trained further
    assert json.loads((weights / "vae.json").read_text())["steps"] == written["vae"]["steps"]


@pytest.mark.parametrize("minutes", ["0", "-1"])
def test_no_time_is_refused(minutes, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train", "vae", "--minutes", minutes])
    with pytest.raises(SystemExit) as refused:
        train.main()
    assert refused.value.code == 2
    assert "--minutes" in capsys.readouterr().err
