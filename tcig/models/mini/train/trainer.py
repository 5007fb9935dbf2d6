"""The training loop that all miniature models share.

A recipe says which model is trained, on which data and by which loss. The trainer adds optimisers,
a moving average, a checkpoint each minute and a log. All random numbers of step n come from a
generator seeded by the recipe's seed and n. A resumed training therefore equals an uninterrupted
one.
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
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from tcig.data.files import write_whole

WARM_UP = 50
"""Steps of linear warm-up before the cosine (our choice)."""
WEIGHT_DECAY = 1e-3
"""Our choice, not tuned."""
LOG_MINUTES = 3
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Muon's quintic iteration, from Jordan's reference implementation."""
MOMENTUM = 0.95
NARROW = 16
"""Channels under which a layer is left to AdamW (our choice)."""


class Recipe(ABC):
    """The training of one model.

    `learning_rate` is the peak, `average_decay` belongs to the moving average, and `minutes` is
    the share of `train all` on two cores. `files` maps each file of shipped weights to the
    submodule that it holds. The card shows `about`, `not_for` and `data`.
    """

    name: str
    about: str
    not_for: str
    data: dict
    files: dict[str, str]
    seed: int
    batch: int
    learning_rate: float
    average_decay: float
    minutes: float

    @abstractmethod
    def build(self) -> nn.Module:
        """Builds the untrained model, from its shipped configuration if it has one."""

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Makes the training data below `folder`, or maps them if they exist."""

    @abstractmethod
    def loss(self, forward: Callable, rng: torch.Generator, progress: float) -> Tensor:
        """Computes the loss of one random batch; `progress` is the share of time spent, 0 to 1."""

    def after_step(self, model: nn.Module, step: int, rng: torch.Generator) -> None:  # noqa: B027
        """Changes the model after optimiser step `step`; does nothing by default."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """Computes metrics on the first `count` scenes of a split."""

    def save(self, model: nn.Module, folder: Path) -> list[Path]:
        """Writes the weights below `folder`; returns the files."""
        for file, name in self.files.items():
            state = model.get_submodule(name).state_dict()
            tensors = {key: value.contiguous() for key, value in state.items()}
            write_whole(folder / file, save(tensors, {"format": "pt"}))
        return [folder / file for file in self.files]

    def load(self, model: nn.Module, folder: Path) -> None:
        """Loads what `save` wrote."""
        for file, name in self.files.items():
            model.get_submodule(name).load_state_dict(load_file(folder / file))


class Trainer:
    """A recipe's model with its moving average, optimisers and checkpoint.

    Args:
        recipe: what to train; its `prepare` has been called.
        folder: the folder of checkpoints and logs.
        bf16: whether to compute in bfloat16.
        weights: without a checkpoint, a folder of shipped weights and their card to start from;
            only the optimisers' moments start at zero.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, bf16: bool = False, weights: Path | None = None
    ):
        self.recipe, self.folder, self.bf16 = recipe, folder / recipe.name, bf16
        self.folder.mkdir(parents=True, exist_ok=True)
        self.step, self.minutes, self.first_step = 0, 0.0, 0
        self.checkpoint = self.folder / "checkpoint.pt"
        torch.manual_seed(recipe.seed)
        self.model = recipe.build()
        if weights and not self.checkpoint.exists():
            recipe.load(self.model, weights)
            card = json.loads((weights / f"{recipe.name}.json").read_text())
            self.step = self.first_step = card["steps"]
            self.minutes = card["minutes"]
        update = partial(update_average, recipe.average_decay)
        self.average = AveragedModel(self.model, multi_avg_fn=update, use_buffers=True)
        self.optimisers = build_optimisers(self.model, recipe.learning_rate, bf16)
        self.forward = bf16_forward(self.model) if bf16 else self.model
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.step, self.minutes, self.first_step = state["progress"]
            for part, values in zip(self._parts(), state["parts"], strict=True):
                part.load_state_dict(values)

    def _parts(self) -> list:
        return [self.model, self.average, *self.optimisers]

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        parts = [part.state_dict() for part in self._parts()]
        draft = self.checkpoint.with_suffix(".part")
        torch.save({"parts": parts, "progress": (self.step, self.minutes, self.first_step)}, draft)
        draft.replace(self.checkpoint)

    def train(self, minutes: float) -> None:
        """Trains until `minutes` are spent in all, with a cosine schedule over that time."""
        if self.minutes >= minutes:
            return
        start = time.monotonic() - 60 * self.minutes
        saved = logged = self.minutes
        bar = tqdm(total=int(60 * minutes), initial=int(60 * self.minutes), unit="s")
        bar.set_description(self.recipe.name)
        while self.minutes < minutes:
            loss = self.advance(self.minutes / minutes)
            self.minutes = (time.monotonic() - start) / 60
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

    def advance(self, progress: float) -> float:
        """Makes one step at `progress` (0 to 1) of the schedule; returns its loss."""
        peak = self.recipe.learning_rate * min(1, (self.step + 1 - self.first_step) / WARM_UP)
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = peak * (1 + math.cos(math.pi * progress)) / 2
        rng = torch.Generator().manual_seed(self.recipe.seed * 10_000_000 + self.step)
        self.model.train()
        loss = self.recipe.loss(self.forward, rng, progress)
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        self.recipe.after_step(self.model, self.step, rng)
        self.average.update_parameters(self.model)
        return loss.item()

    def _log(self, loss: float) -> None:
        metrics = self.recipe.evaluate(self.average.module.eval(), "tuning", 64)
        path = self.folder / "log.csv"
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["minutes", "step", "loss", *metrics])
            values = [f"{value:.4f}" for value in metrics.values()]
            writer.writerow([f"{self.minutes:.2f}", self.step, f"{loss:.4f}", *values])


def bf16_forward(model: nn.Module) -> Callable:
    """Returns a function that computes `model` in bfloat16 from its float32 weights.

    It is faster than autocast. The weights of batch normalisation stay float32, because torch's
    batch norm takes bfloat16 inputs only so.
    """
    float32 = {
        f"{path}.{key}"
        for path, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for key, _ in module.named_parameters(recurse=False)
    }

    def forward(*inputs):
        parameters = {
            key: value if key in float32 else value.bfloat16()
            for key, value in model.named_parameters()
        }
        inputs = [x.bfloat16() if torch.is_floating_point(x) else x for x in inputs]
        outputs = functional_call(model, parameters, tuple(inputs))
        if isinstance(outputs, Tensor):
            return outputs.float()
        return tuple(x.float() if torch.is_floating_point(x) else x for x in outputs)

    return forward


def update_average(
    decay: float, averages: list[Tensor], values: list[Tensor], count: Tensor
) -> None:
    """Updates a moving average in place; its decay rises to `decay`, to forget the first steps."""
    weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
    for average, value in zip(averages, values, strict=True):
        if average.is_floating_point():
            average.mul_(1 - weight).add_(value, alpha=weight)  # lerp_ makes nan of -inf
        else:
            average.copy_(value)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024): Nesterov momentum, orthogonalised per tensor.

    A convolution is a matrix (out, in * k * k). The step is scaled by 0.2 sqrt(max(A, B)), which
    gives it AdamW's usual root mean square (Liu et al. 2025, "Muon is scalable for LLM training",
    equation 4). `torch.optim.Muon` is not used: it takes no convolutions, and it orthogonalises in
    bfloat16 only, which is 10 to 25 times slower on a processor without bfloat16 arithmetic.
    """

    def __init__(self, parameters: list[Tensor], lr: float, dtype: torch.dtype):
        super().__init__(parameters, {"lr": lr})
        self.dtype = dtype

    @torch.no_grad()
    def step(self) -> None:
        """Makes one step; a tensor without a gradient stays."""
        for group in self.param_groups:
            for p in filter(lambda p: p.grad is not None, group["params"]):
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].mul_(MOMENTUM).add_(p.grad)
                update = orthogonalise((p.grad + MOMENTUM * momentum).flatten(1), self.dtype)
                scale = group["lr"] * 0.2 * math.sqrt(max(update.shape))
                p.mul_(1 - group["lr"] * WEIGHT_DECAY)
                p.add_(update.view_as(p), alpha=-scale)


def orthogonalise(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Brings the singular values of a matrix (A, B) near 1 by five Newton-Schulz iterations.

    The result is computed and returned in `dtype`; bfloat16 suffices (Jordan's reference uses it).
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = (x / (x.norm() + 1e-7)).to(dtype)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if is_tall else x


def build_optimisers(
    model: nn.Module, learning_rate: float, bf16: bool
) -> list[torch.optim.Optimizer]:
    """Returns Muon for the inner convolutions and linear layers, and AdamW for everything else.

    AdamW has the layers with fewer than `NARROW` input or output channels (pixels, latents, single
    numbers), embeddings, biases and normalisations. With `bf16` Muon orthogonalises in bfloat16.
    """
    inner = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and min(module.weight.shape[:2]) >= NARROW
    }
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if id(p) in inner]
    others = [p for p in parameters if id(p) not in inner]
    return [
        Muon(matrices, learning_rate, torch.bfloat16 if bf16 else torch.float32),
        torch.optim.AdamW(others, learning_rate, (0.9, 0.99), weight_decay=WEIGHT_DECAY),
    ]
