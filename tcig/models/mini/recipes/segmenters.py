"""The segmenters' recipes: the guide, two expert guides, and the judge."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.emoji.scenes import SIZE, scene
from tcig.data.files import write_whole
from tcig.data.voc import NUM_LABELS
from tcig.models.mini.augment import augment
from tcig.models.mini.loop import Recipe
from tcig.models.mini.pool import scene_pool
from tcig.models.mini.recipes.reconstructions import reconstruction_pool
from tcig.models.mini.segmenters import LABELS_OF, build_segmenter

STYLES = ("noto", "noto", "fluent", "twemoji")
"""Glyph styles of the training scenes: half in the benchmark's own style."""
SCENES, RECONSTRUCTIONS = 12_000, 6_000
CROP, CROPPED_SHARE = 96, 0.7
"""Side of the training crops during the first share of the time; whole scenes after it."""


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice loss over the classes present in the batch."""
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
    share = logits.softmax(1)
    overlap, total = (share * truth).sum((0, 2, 3)), (share + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    dice = 1 - (2 * overlap / total)[present].mean()
    return F.cross_entropy(logits, labels) + dice


@cache
def _truth(split: str, count: int) -> tuple[Tensor, Tensor]:
    scenes = [scene(split, index) for index in range(count)]
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2)
    return images.contiguous(), torch.from_numpy(np.stack([s.label_map() for s in scenes])).long()


@torch.inference_mode()
def mean_iou(model: nn.Module, labels: tuple[int, ...], split: str, count: int) -> dict[str, float]:
    """mIoU on the first scenes of a split: pooled per class, then the mean over classes.

    Args:
        model: logits (B, len(labels), 128, 128) of images.
        labels: the label of each logit; every other label counts as background.
        split: of the embedded data.
        count: number of scenes.

    Returns:
        `miou` over the model's classes, `miou_with_background` over them and background.
    """
    size = len(labels)
    images, truth = _truth(split, count)
    truth = _known(labels)[truth]
    counts = torch.zeros(size, size)
    for part, true in zip(images.split(32), truth.split(32), strict=True):
        pairs = true * size + model(part / 255).argmax(1)
        counts += torch.bincount(pairs.flatten(), minlength=size**2).view(size, size)
    overlap = counts.diagonal()
    iou = overlap / (counts.sum(0) + counts.sum(1) - overlap)
    return {"miou": iou[1:].mean().item(), "miou_with_background": iou.mean().item()}


def _known(labels: tuple[int, ...]) -> Tensor:
    """Label -> the logit that stands for it, (21,)."""
    known = torch.zeros(NUM_LABELS, dtype=torch.long)
    known[list(labels)] = torch.arange(len(labels))
    return known


class Segmenter(Recipe):
    """Cross-entropy and Dice on heavily augmented scenes of three glyph styles."""

    batch, rate, average = 32, 4e-3, 0.995
    not_for = "photographs; scoring methods on COCO"

    def __init__(self, name: str, seed: int, minutes: float, first_scene: int):
        self.name, self.seed, self.minutes, self.first_scene = name, seed, minutes, first_scene
        self.labels = LABELS_OF[name]
        self.about = f"{'Judge' if name == 'judge' else 'Guide'}, {len(self.labels)} labels, 128 px"

    @property
    def data(self) -> dict:
        """What the card says of the data."""
        drawn = {"styles": STYLES, "first_scene": self.first_scene, "scenes": SCENES}
        return drawn if self.name == "judge" else drawn | {"reconstructions": RECONSTRUCTIONS}

    def build(self) -> nn.Module:
        """The untrained segmenter."""
        return build_segmenter(self.name)

    def prepare(self, folder: Path) -> None:
        """Maps the pool of scenes, and for a guide that of their reconstructions."""
        self.pools = [scene_pool(folder, self.first_scene, SCENES, STYLES)]
        if self.name != "judge":  # it must not know the generators whose images it judges
            self.pools.append(reconstruction_pool(folder, self.first_scene, RECONSTRUCTIONS))

    def loss(self, forward: Callable, draw: torch.Generator, done: float) -> Tensor:
        """Of a batch of augmented crops, or of whole scenes towards the end."""
        share = self.batch // len(self.pools)
        rows = [torch.randint(len(p), (share,), generator=draw).numpy() for p in self.pools]
        batch = np.concatenate([p[np.sort(r)] for p, r in zip(self.pools, rows, strict=True)])
        images = torch.from_numpy(batch["image"]).movedim(-1, 1) / 255
        size = CROP if done < CROPPED_SHARE else SIZE
        images, labels = augment(images, torch.from_numpy(batch["labels"]), size, draw)
        logits = forward(images.contiguous())
        return segmentation_loss(logits, _known(self.labels)[labels])

    def figures(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """mIoU over the model's classes, and with background."""
        return mean_iou(model, self.labels, split, count)

    def ship(self, model: nn.Module, folder: Path) -> list[Path]:
        """One safetensors file."""
        path = folder / f"{self.name}.safetensors"
        write_whole(path, save({k: v.contiguous() for k, v in model.state_dict().items()}))
        return [path]

    def restore(self, model: nn.Module, folder: Path) -> None:
        """From `ship`'s file."""
        model.load_state_dict(load_file(folder / f"{self.name}.safetensors"))
