"""Recipes of the CLIPs: a ResNet that guides stage 1, a vision transformer that scores."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.voc import CLASSES, with_article
from tcig.models import mini
from tcig.models.mini.train.data import (
    CANVAS,
    CAPTIONED_DATA,
    augment,
    captioned_pools,
    held_out,
    to_float,
)
from tcig.models.mini.train.trainer import Recipe

CONTEXT = 40
"""Tokens of a prompt, start and end included; the longest caption of the data has fewer."""
MEAN = torch.tensor(OPENAI_DATASET_MEAN).view(3, 1, 1)
STD = torch.tensor(OPENAI_DATASET_STD).view(3, 1, 1)
CROP_RANGE = (1.05, 1.7)
"""Side of a crop around an object, in sides of its bounding square (our choice)."""
PLAIN_SHARE = 0.4
"""Share of a batch that is not augmented."""
HELD_OUT = 200
"""Scenes and portraits of the held-out metrics."""


class ClipRecipe(Recipe):
    """Contrastive training on scenes, portraits, and crops of scenes."""

    not_for = "photographs; prompts beyond the words of the embedded data's captions"
    data = CAPTIONED_DATA
    batch, learning_rate, average_decay, minutes = 128, 2e-3, 0.998, 12

    def __init__(self, name: str, seed: int, about: str):
        self.name, self.seed, self.about = name, seed, about
        self.files = {f"{name}/open_clip_model.safetensors": ""}

    def build(self) -> nn.Module:
        """Builds open_clip's CLIP."""
        path = mini.WEIGHTS / self.name / "open_clip_config.json"
        return CLIP(**json.loads(path.read_text())["model_cfg"])

    def prepare(self, folder: Path) -> None:
        """Maps the pools and reads the tokenizer."""
        self.scenes, self.portraits = captioned_pools(folder)
        merges = mini.WEIGHTS / self.name / "merges.txt.gz"
        self.tokenizer = SimpleTokenizer(str(merges), context_length=CONTEXT)

    def loss(self, forward: Callable, rng: torch.Generator, progress: float) -> Tensor:
        """Radford et al. 2021's symmetric loss; equal captions in a batch share the target."""
        images, captions = self.examples(rng)
        visual, textual, scale = forward((images - MEAN) / STD, self.tokenizer(captions))
        logits = scale * visual @ textual.T
        captions = np.array(captions)
        target = torch.from_numpy(captions[:, None] == captions).float()
        target /= target.sum(1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def examples(self, rng: torch.Generator) -> tuple[Tensor, list[str]]:
        """Half scenes, a quarter portraits, a quarter crops.

        Returns:
            Images (B, 3, 64, 64) in [0, 1] and B captions.
        """
        count = self.batch // 4
        images, captions = [], []
        for pool, share in ((self.scenes, 2 * count), (self.portraits, count)):
            rows = np.sort(torch.randint(len(pool), (share,), generator=rng).numpy())
            choices = torch.randint(3, (share,), generator=rng).tolist()
            images.append(to_float(pool["image"][rows]))
            chosen = zip(rows, choices, strict=True)
            captions += [pool["captions"][row][choice].decode() for row, choice in chosen]
        rows = np.sort(torch.randint(len(self.scenes), (count,), generator=rng).numpy())
        crops, prompts = crop_objects(self.scenes[rows], rng)
        images = torch.cat([*images, crops])
        augmented = torch.rand(len(images), generator=rng) >= PLAIN_SHARE
        labels = torch.zeros(len(images), CANVAS, CANVAS)
        images[augmented] = augment(images[augmented], labels[augmented], CANVAS, rng)[0]
        return images, captions + prompts

    @torch.inference_mode()
    def evaluate(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """Top-1 caption retrieval of scenes, both ways, and zero-shot class of portraits.

        It uses `HELD_OUT` scenes and as many portraits, whatever `count` is.
        """
        scenes, portraits = (held_out(split, kind, HELD_OUT) for kind in ("scenes", "portraits"))
        captions = [caption[0].decode() for caption in scenes["captions"]]
        prompts = [with_article(c.label) for c in CLASSES]

        def encode_images(images):
            parts = ((to_float(images) - MEAN) / STD).split(50)
            return torch.cat([model.encode_image(part, normalize=True) for part in parts])

        caption_vectors, class_vectors = (
            model.encode_text(self.tokenizer(texts), normalize=True)
            for texts in (captions, prompts)
        )
        similarity = encode_images(scenes["image"]) @ caption_vectors.T
        captions = np.array(captions)
        to_text = (captions[similarity.argmax(1)] == captions).mean()
        to_image = (captions[similarity.argmax(0)] == captions).mean()
        classes = (encode_images(portraits["image"]) @ class_vectors.T).argmax(1)
        correct = (classes == torch.arange(len(classes)) % len(CLASSES)).float().mean()
        return {"to_text": to_text, "to_image": to_image, "zero_shot": correct.item()}


def crop_objects(records: np.ndarray, rng: torch.Generator) -> tuple[Tensor, list[str]]:
    """Crops a square around one class of each record, with its prompt "a {label}".

    A record without objects gives its whole image and its caption.

    Returns:
        Crops (B, 3, 64, 64) in [0, 1] and B prompts.
    """
    images, squares, prompts = to_float(records["image"]), [], []
    chances = torch.rand(len(records), 4, generator=rng).tolist()
    for record, (chance, *jitter) in zip(records, chances, strict=True):
        present = np.unique(record["labels"])[1:]
        if len(present) == 0:
            squares.append((CANVAS, CANVAS / 2, CANVAS / 2))
            prompts.append(record["captions"][2].decode())
        else:
            index = present[int(chance * len(present))]
            squares.append(_square_around(record["labels"] == index, *jitter))
            prompts.append(with_article(CLASSES[index - 1].label))
    side, x, y = torch.tensor(squares, dtype=torch.float32).T / CANVAS
    zero = torch.zeros_like(side)
    theta = torch.stack([side, zero, 2 * x - 1, zero, side, 2 * y - 1], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False), prompts


def _square_around(
    mask: np.ndarray, stretch: float, x: float, y: float
) -> tuple[float, float, float]:
    """Side and centre (column, row) of a square around a mask, within the canvas."""
    rows, columns = np.nonzero(mask)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    box = max(bottom - top, right - left, 4)
    side = min(box * (CROP_RANGE[0] + (CROP_RANGE[1] - CROP_RANGE[0]) * stretch), CANVAS)
    sums = (left + right + (2 * x - 1) * (side - box), top + bottom + (2 * y - 1) * (side - box))
    return side, *(min(max(s / 2, side / 2), CANVAS - side / 2) for s in sums)
