"""The training loop that all miniature models share.

A recipe says what is trained, on what and by which loss; the loop adds the optimiser, the moving
average, a checkpoint each minute, resuming, and a log. Every random draw of step n comes from a
generator seeded by the recipe's seed and n, so that a resumed training equals an unbroken one.
"""

import csv
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from tcig.models.mini.muon import optimisers

WARM_UP = 50
"""Steps of linear warm-up before the cosine; ours."""
WEIGHT_DECAY = 1e-3
"""Ours, not tuned."""
LOG_MINUTES = 3


class Recipe(ABC):
    """One model's training.

    `rate` is the peak learning rate, `average` the decay of the moving average, `minutes`
    the share of `train all` on two cores.
    """

    name: str
    about: str
    not_for: str
    seed: int
    batch: int
    rate: float
    average: float
    minutes: float

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained model; its `forward` takes and gives what `loss` needs."""

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Draws or maps the training data below `folder`."""

    @abstractmethod
    def loss(self, forward: Callable, draw: torch.Generator, done: float) -> Tensor:
        """The loss of one batch drawn by `draw`; `done` is the share of the time spent."""

    def after(self, model: nn.Module, step: int, draw: torch.Generator) -> None:  # noqa: B027
        """What is done to the model after step `step`; nothing unless a recipe says so."""

    @property
    @abstractmethod
    def data(self) -> dict:
        """What the card says of the training data."""

    @abstractmethod
    def ship(self, model: nn.Module, folder: Path) -> list[Path]:
        """Writes the weights below `folder` as their users load them; returns the files."""

    @abstractmethod
    def restore(self, model: nn.Module, folder: Path) -> None:
        """Fills the model from what `ship` wrote."""

    @abstractmethod
    def figures(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """Held-out figures on the first `count` scenes of `split`."""


def bf16_forward(model: nn.Module) -> Callable:
    """`model` computed in bfloat16 from its float32 weights.

    Faster than autocast; normalisation's weights stay float32 where batches are normalised,
    since torch's batch norm takes both kinds only so.
    """
    kept = {
        f"{path}.{key}"
        for path, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for key, _ in module.named_parameters(recurse=False)
    }

    def forward(*inputs):
        parameters = {
            key: value if key in kept else value.bfloat16()
            for key, value in model.named_parameters()
        }
        inputs = [x.bfloat16() if torch.is_floating_point(x) else x for x in inputs]
        outputs = functional_call(model, parameters, tuple(inputs))
        if isinstance(outputs, Tensor):
            return outputs.float()
        return tuple(x.float() if torch.is_floating_point(x) else x for x in outputs)

    return forward


def _smooth(decay: float, averages: list[Tensor], currents: list[Tensor], count: Tensor) -> None:
    """A moving average that forgets the untrained weights: its decay rises to `decay`."""
    weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
    for average, current in zip(averages, currents, strict=True):
        if average.is_floating_point():
            average.mul_(1 - weight).add_(current, alpha=weight)  # lerp_ makes nan of -inf
        else:
            average.copy_(current)


class Trainer:
    """A recipe's model with its moving average and optimisers, and their checkpoint.

    Args:
        recipe: what to train, prepared.
        folder: where pools, checkpoints and logs live.
        bf16: whether to compute in bfloat16.
        compiled: whether the model runs through torch.compile (needs a C++ compiler).
        shipped: where there is no checkpoint, a folder of shipped weights and their card to go on
            from; only the optimisers' moments start afresh.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        bf16: bool = False,
        shipped: Path | None = None,
        compiled: bool = False,
    ):
        self.recipe, self.folder, self.bf16 = recipe, folder / recipe.name, bf16
        self.folder.mkdir(parents=True, exist_ok=True)
        self.step, self.minutes, self.warm_from = 0, 0.0, 0
        self.checkpoint = self.folder / "checkpoint.pt"
        torch.manual_seed(recipe.seed)
        self.model = recipe.build()
        if shipped and not self.checkpoint.exists():
            recipe.restore(self.model, shipped)
            card = json.loads((shipped / f"{recipe.name}.json").read_text())
            self.step, self.minutes, self.warm_from = card["steps"], card["minutes"], card["steps"]
        smooth = partial(_smooth, recipe.average)
        self.average = AveragedModel(self.model, multi_avg_fn=smooth, use_buffers=True)
        self.optimisers = optimisers(self.model, recipe.rate, WEIGHT_DECAY, bf16)
        forward = bf16_forward(self.model) if bf16 else self.model
        self.forward = torch.compile(forward) if compiled else forward
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.step, self.minutes, self.warm_from = state["progress"]
            for part, kept in zip(self._parts(), state["parts"], strict=True):
                part.load_state_dict(kept)

    def _parts(self) -> list:
        return [self.model, self.average, *self.optimisers]

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        parts = [part.state_dict() for part in self._parts()]
        draft = self.checkpoint.with_suffix(".part")
        torch.save({"parts": parts, "progress": (self.step, self.minutes, self.warm_from)}, draft)
        draft.replace(self.checkpoint)

    def train(self, minutes: float) -> None:
        """Trains until `minutes` are spent in all, with a cosine rate over that time."""
        if self.minutes >= minutes:
            return
        started = time.monotonic() - 60 * self.minutes
        saved = logged = self.minutes
        bar = tqdm(total=int(60 * minutes), initial=int(60 * self.minutes), unit="s")
        bar.set_description(self.recipe.name)
        while self.minutes < minutes:
            loss = self.advance(self.minutes / minutes)
            self.minutes = (time.monotonic() - started) / 60
            if self.minutes - saved >= 1:
                saved = self.minutes
                self.save()
            if self.minutes - logged >= LOG_MINUTES:
                logged = self.minutes
                self._log(loss)
            bar.set_postfix(step=self.step, loss=f"{loss:.4f}", refresh=False)
            bar.update(int(60 * min(self.minutes, minutes)) - bar.n)
        self.save()
        self._log(loss)

    def advance(self, done: float) -> float:
        """One step at the share `done` of the training; returns its loss."""
        rate = self.recipe.rate * min(1, (self.step + 1 - self.warm_from) / WARM_UP)
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * done)) / 2
        draw = torch.Generator().manual_seed(self.recipe.seed * 10_000_000 + self.step)
        self.model.train()
        loss = self.recipe.loss(self.forward, draw, done)
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        self.recipe.after(self.model, self.step, draw)
        self.average.update_parameters(self.model)
        return loss.item()

    def _log(self, loss: float) -> None:
        figures = self.recipe.figures(self.average.module.eval(), "tuning", 64)
        path = self.folder / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["minutes", "step", "loss", *figures])
            numbers = [f"{value:.4f}" for value in figures.values()]
            writer.writerow([f"{self.minutes:.2f}", self.step, f"{loss:.4f}", *numbers])
