"""Recipes of the segmenters: a guide, two expert guides, and the judge."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.emoji.scenes import SIZE, scene
from tcig.data.files import sha256
from tcig.data.voc import NUM_LABELS
from tcig.models import mini
from tcig.models.mini.segmenters import LABELS_OF, build_segmenter
from tcig.models.mini.train.autoencoders import VAE_FILE, VAE_FOLDERS, VQGAN_FILE
from tcig.models.mini.train.data import (
    CANVAS,
    RECORD,
    augment,
    memory_map,
    scene_pool,
    to_float,
)
from tcig.models.mini.train.trainer import Recipe
from tcig.models.vqgan import VQGAN, load_vqgan

STYLES = ("noto", "noto", "fluent", "twemoji")
"""Glyph styles of the training scenes: half in the benchmark's own style."""
SCENES, RECONSTRUCTIONS = 12_000, 6_000
CROP, CROPPED_SHARE = 96, 0.7
"""Side of the training crops during the first share of the time; whole scenes after it."""
MAX_RANDOM_SHARE = 0.6
"""Largest share of random codes in the latents of a half-formed image (our choice)."""


class SegmenterRecipe(Recipe):
    """Cross-entropy and Dice on heavily augmented scenes of three glyph styles."""

    batch, learning_rate, average_decay = 32, 4e-3, 0.995
    not_for = "photographs; scoring methods on COCO"

    def __init__(self, name: str, seed: int, minutes: float, first_scene: int):
        self.name, self.seed, self.minutes, self.first_scene = name, seed, minutes, first_scene
        self.labels = LABELS_OF[name]
        self.about = f"{'Judge' if name == 'judge' else 'Guide'}, {len(self.labels)} labels, 128 px"
        self.files = {f"{name}.safetensors": ""}
        self.data = {"styles": STYLES, "first_scene": first_scene, "scenes": SCENES}
        if name != "judge":
            self.data["reconstructions"] = RECONSTRUCTIONS

    def build(self) -> nn.Module:
        """Builds the untrained segmenter."""
        return build_segmenter(self.name)

    def prepare(self, folder: Path) -> None:
        """Maps the pool of scenes, and for a guide that of their reconstructions."""
        self.pools = [scene_pool(folder, self.first_scene, SCENES, STYLES)]
        if self.name != "judge":  # it must not know the generators whose images it judges
            self.pools.append(reconstruction_pool(folder, self.first_scene, RECONSTRUCTIONS))

    def loss(self, forward: Callable, rng: torch.Generator, progress: float) -> Tensor:
        """Loss of a batch of augmented crops, or of whole scenes towards the end."""
        share = self.batch // len(self.pools)
        rows = [torch.randint(len(p), (share,), generator=rng).numpy() for p in self.pools]
        batch = np.concatenate([p[np.sort(r)] for p, r in zip(self.pools, rows, strict=True)])
        images = torch.from_numpy(batch["image"]).movedim(-1, 1) / 255
        size = CROP if progress < CROPPED_SHARE else SIZE
        images, labels = augment(images, torch.from_numpy(batch["labels"]), size, rng)
        logits = forward(images.contiguous())
        return segmentation_loss(logits, label_to_logit(self.labels)[labels])

    @torch.inference_mode()
    def evaluate(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """mIoU over the model's classes, and with background; every other class is background.

        Pixels are pooled per class over the first `count` scenes; the mean is over the classes.
        """
        size = len(self.labels)
        images, truth = _labelled_scenes(split, count)
        truth = label_to_logit(self.labels)[truth]
        counts = torch.zeros(size, size)
        for part, true in zip(images.split(32), truth.split(32), strict=True):
            pairs = true * size + model(part / 255).argmax(1)
            counts += torch.bincount(pairs.flatten(), minlength=size**2).view(size, size)
        overlap = counts.diagonal()
        iou = overlap / (counts.sum(0) + counts.sum(1) - overlap)
        return {"miou": iou[1:].mean().item(), "miou_with_background": iou.mean().item()}


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice loss over the classes present in the batch."""
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
    share = logits.softmax(1)
    overlap, total = (share * truth).sum((0, 2, 3)), (share + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    dice = 1 - (2 * overlap / total)[present].mean()
    return F.cross_entropy(logits, labels) + dice


def label_to_logit(labels: tuple[int, ...]) -> Tensor:
    """Index of each label's logit, (21,); 0, the background, for labels that have none."""
    logits = torch.zeros(NUM_LABELS, dtype=torch.long)
    logits[list(labels)] = torch.arange(len(labels))
    return logits


@cache
def _labelled_scenes(split: str, count: int) -> tuple[Tensor, Tensor]:
    scenes = [scene(split, index) for index in range(count)]
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2)
    return images.contiguous(), torch.from_numpy(np.stack([s.label_map() for s in scenes])).long()


def reconstruction_pool(folder: Path, first: int, count: int) -> np.ndarray:
    """Scenes `first` to `first + count - 1` of the training split as the generators show them.

    A third comes from the VAE, a third from the VQGAN, and a third is half formed. The labels stay
    those of the scene. There is one file for each pair of weights.

    Returns:
        (count,) of `RECORD`.
    """
    paths = (mini.WEIGHTS / VAE_FOLDERS[0] / VAE_FILE, mini.WEIGHTS / VQGAN_FILE)
    path = folder / f"reconstructions-{first}-{count}-{''.join(sha256(p)[:6] for p in paths)}.npy"
    return memory_map(path, RECORD, (count,), _reconstruct(folder, first, count))


def _reconstruct(folder: Path, first: int, count: int) -> Iterator[np.ndarray]:
    """Yields batches of scenes reduced to the canvas, reconstructed, and enlarged (bilinear)."""
    vae = AutoencoderKL.from_pretrained(mini.WEIGHTS / VAE_FOLDERS[0])
    vqgan = load_vqgan(mini.WEIGHTS / "vqgan")
    scenes = scene_pool(folder, first, count, ("noto",))
    rng = torch.Generator().manual_seed(first)
    canvas = (CANVAS, CANVAS)
    for start in range(0, count, 48):
        batch = scenes[start : start + 48].copy()
        small = [
            Image.fromarray(i).resize(canvas, Image.Resampling.LANCZOS) for i in batch["image"]
        ]
        thirds = (to_float(np.stack([np.asarray(i) for i in small])) * 2 - 1).tensor_split(3)
        with torch.inference_mode():
            outputs = torch.cat(
                [
                    vae.decode(vae.encode(thirds[0]).latent_dist.mode()).sample,
                    vqgan(thirds[1]),
                    half_formed(vqgan, thirds[2], rng),
                ]
            )
            large = F.interpolate(outputs.clamp(-1, 1), size=SIZE, mode="bilinear")
        batch["image"] = ((large + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        yield batch


def half_formed(vqgan: VQGAN, images: Tensor, rng: torch.Generator) -> Tensor:
    """Decodes latents of images (B, 3, H, W) in [-1, 1] that are mixed with random codes."""
    latents = vqgan.encode(images)
    shape = (len(latents), *latents.shape[-2:])
    codes = torch.randint(len(vqgan.codebook), shape, generator=rng)
    random = F.embedding(codes, vqgan.codebook).movedim(-1, 1)
    share = MAX_RANDOM_SHARE * torch.rand(len(latents), 1, 1, 1, generator=rng)
    return vqgan.decode(vqgan.quantise(latents.lerp(random, share)))
