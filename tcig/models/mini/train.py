"""Trains the miniature segmenters and writes their weights and provenance.

    python -m tcig.models.mini.train judge --minutes 40

Training may be stopped at any time; the same command goes on from the last checkpoint in
`.training/`. `--export` writes the weights of the last checkpoint without training further.
"""

import argparse
import csv
import json
import math
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from tcig.data.emoji.scenes import scene
from tcig.data.files import write_whole
from tcig.data.voc import NUM_LABELS
from tcig.models.mini.augment import augment
from tcig.models.mini.pool import scene_pool
from tcig.models.mini.segmenters import SEGMENTERS, WEIGHTS

STYLES = ("noto", "noto", "fluent", "twemoji")
"""Glyph styles of the training scenes: half in the benchmark's own style."""
BATCH, PEAK_RATE, EMA = 32, 4e-3, 0.995
"""Ours, as are the augmentation's ranges: chosen once, not tuned."""
CROP, CROPPED_SHARE = 96, 0.7
"""Side of the training crops during the first share of the time; whole scenes after it."""


@dataclass(frozen=True)
class Recipe:
    """What tells one segmenter's training from another's: disjoint scenes and another seed."""

    seed: int
    first_scene: int
    scenes: int = 12_000


RECIPES = {"guide": Recipe(seed=1, first_scene=0), "judge": Recipe(seed=2, first_scene=1_000_000)}


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice loss over the classes present in the batch."""
    truth = F.one_hot(labels, NUM_LABELS).movedim(-1, 1).float()
    share = logits.softmax(1)
    overlap, total = (share * truth).sum((0, 2, 3)), (share + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    dice = 1 - (2 * overlap / total)[present].mean()
    return F.cross_entropy(logits, labels) + dice


@torch.inference_mode()
def held_out(model: nn.Module, split: str, count: int) -> dict[str, float]:
    """mIoU on the first scenes of a split: pooled per class, then the mean over classes.

    Returns:
        `miou` over the 20 classes, `miou_with_background` over 21.
    """
    counts = torch.zeros(NUM_LABELS, NUM_LABELS)
    for first in range(0, count, BATCH):
        scenes = [scene(split, index) for index in range(first, min(first + BATCH, count))]
        images = torch.from_numpy(np.stack([s.image for s in scenes])).movedim(-1, 1) / 255
        labels = torch.from_numpy(np.stack([s.label_map() for s in scenes])).long()
        pairs = labels * NUM_LABELS + model(images).argmax(1)
        counts += pairs.flatten().bincount(minlength=NUM_LABELS**2).view_as(counts)
    iou = counts.diag() / (counts.sum(0) + counts.sum(1) - counts.diag())
    return {"miou": float(iou[1:].mean()), "miou_with_background": float(iou.mean())}


class Trainer:
    """One segmenter's training: model, moving average and optimiser, with their checkpoint."""

    def __init__(self, name: str, folder: Path):
        self.name, self.folder, self.recipe = name, folder / name, RECIPES[name]
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self.recipe.seed)
        self.model = SEGMENTERS[name]().to(memory_format=torch.channels_last)
        average = get_ema_multi_avg_fn(EMA)
        self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), PEAK_RATE, weight_decay=1e-3)
        self.step, self.minutes = 0, 0.0
        self.checkpoint = self.folder / "checkpoint.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.step, self.minutes = state["step"], state["minutes"]
            for part in ("model", "average", "optimiser"):
                getattr(self, part).load_state_dict(state[part])

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        parts = ("model", "average", "optimiser")
        state = {part: getattr(self, part).state_dict() for part in parts}
        draft = self.checkpoint.with_suffix(".part")
        torch.save(state | {"step": self.step, "minutes": self.minutes}, draft)
        draft.replace(self.checkpoint)

    def train(self, minutes: float) -> None:
        """Trains until `minutes` are spent in all, with a cosine rate over that time."""
        pool = scene_pool(self.folder.parent, self.recipe.first_scene, self.recipe.scenes, STYLES)
        started, saved = time.monotonic() - 60 * self.minutes, self.minutes
        bar = tqdm(total=60 * minutes, initial=int(60 * self.minutes), desc=self.name, unit="s")
        while self.minutes < minutes:
            done = self.minutes / minutes
            rate = PEAK_RATE * min(1, (self.step + 1) / 200) * (1 + math.cos(math.pi * done)) / 2
            self.optimiser.param_groups[0]["lr"] = rate
            loss = self._step(pool, CROP if done < CROPPED_SHARE else None)
            self.minutes = (time.monotonic() - started) / 60
            if self.minutes - saved >= 1:
                saved = self.minutes
                self.save()
                self._log(loss)
            bar.set_postfix(step=self.step, loss=f"{loss:.3f}")
            bar.update(int(60 * min(self.minutes, minutes)) - bar.n)
        self.save()

    def _step(self, pool: np.ndarray, crop: int | None) -> float:
        draw = torch.Generator().manual_seed(self.recipe.seed * 10_000_000 + self.step)
        rows = np.sort(torch.randint(len(pool), (BATCH,), generator=draw).numpy())
        batch = pool[rows]
        images = torch.from_numpy(batch["image"]).movedim(-1, 1) / 255
        size = crop or images.shape[-1]
        images, labels = augment(images, torch.from_numpy(batch["labels"]), size, draw)
        self.model.train()
        loss = loss_of(self.model(images.contiguous(memory_format=torch.channels_last)), labels)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return loss.item()

    def _log(self, loss: float) -> None:
        path = self.folder / "log.csv"
        fresh = not path.exists()
        miou = held_out(self.average.module.eval(), "tuning", 64)["miou"]
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["minutes", "step", "loss", "tuning_miou"])
            writer.writerow([f"{self.minutes:.2f}", self.step, f"{loss:.4f}", f"{miou:.4f}"])

    def export(self) -> dict:
        """Writes the averaged weights in fp16 with their provenance; returns the provenance."""
        state = self.average.module.state_dict()
        half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        model = SEGMENTERS[self.name]().eval()
        model.load_state_dict(half)
        card = {
            "model": self.name,
            "class": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "script": f"python -m tcig.models.mini.train {self.name}",
            "versions": {"torch": torch.__version__, "torchvision": version("torchvision")},
            "data": {"split": "training", "styles": STYLES} | asdict(self.recipe),
            "steps": self.step,
            "samples": self.step * BATCH,
            "minutes": round(self.minutes, 1),
            "held_out": {"split": "validation", "scenes": 128} | held_out(model, "validation", 128),
            "licence": "Apache-2.0",
        }
        WEIGHTS.mkdir(exist_ok=True)
        tensors = {key: value.contiguous() for key, value in half.items()}
        write_whole(WEIGHTS / f"{self.name}.safetensors", save(tensors))
        write_whole(WEIGHTS / f"{self.name}.json", json.dumps(card, indent=2) + "\n")
        return card


def main() -> None:
    """Trains, or goes on training, one model and exports it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--folder", type=Path, default=Path(".training"))
    parser.add_argument("--export", action="store_true", help="only export the last checkpoint")
    options = parser.parse_args()
    trainer = Trainer(options.model, options.folder)
    if not options.export:
        trainer.train(options.minutes)
    print(json.dumps(trainer.export(), indent=2))


if __name__ == "__main__":
    main()
