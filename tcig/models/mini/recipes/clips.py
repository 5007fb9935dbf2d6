"""The CLIPs' recipes: a ResNet that guides, a vision transformer that scores."""

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.files import write_whole
from tcig.data.voc import CLASSES, with_article
from tcig.models.mini.augment import augment
from tcig.models.mini.loop import Recipe
from tcig.models.mini.pool import CANVAS, PORTRAITS, SCENES, captioned_pools, floats
from tcig.models.mini.probes import held_out
from tcig.models.mini.tokenizer import CONTEXT, vocabulary_size, write_open_clip

TEXT = {"context_length": CONTEXT, "vocab_size": vocabulary_size(), "width": 128, "heads": 4}
CROP_RANGE = (1.05, 1.7)
"""Side of a crop around an object, in sides of its bounding square; ours."""
PLAIN_SHARE = 0.4
"""Of a batch, left as it is; the rest is warped, recoloured, blurred and given noise."""


class ClipRecipe(Recipe):
    """Contrastive training on scenes, portraits, and crops of scenes."""

    vision: dict
    layers: int
    not_for = "photographs; prompts beyond the words of the embedded data's captions"
    data = {"styles": ["noto"], "scenes": SCENES, "portraits": PORTRAITS, "canvas": CANVAS}  # noqa: RUF012
    batch, rate, average = 128, 2e-3, 0.998

    def build(self) -> nn.Module:
        """open_clip's CLIP of this recipe's configuration."""
        return CLIP(**self.configuration)

    @property
    def configuration(self) -> dict:
        """open_clip's `model_cfg`."""
        vision = {"image_size": CANVAS, **self.vision}
        text = {**TEXT, "layers": self.layers}
        return {"embed_dim": 128, "vision_cfg": vision, "text_cfg": text}

    def prepare(self, folder: Path) -> None:
        """Maps the pools and makes the tokenizer."""
        self.scenes, self.portraits = captioned_pools(folder, 0, SCENES, PORTRAITS)
        self.tokenizer = SimpleTokenizer(write_open_clip(folder), context_length=CONTEXT)

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        mean, std = OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
        return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def _batch(self, draw: torch.Generator) -> tuple[Tensor, list[str]]:
        """Half scenes, a quarter portraits, a quarter crops; (B, 3, S, S) in [0, 1], captions."""
        count = self.batch // 4
        images, captions = [], []
        for pool, share in ((self.scenes, 2 * count), (self.portraits, count)):
            rows = np.sort(torch.randint(len(pool), (share,), generator=draw).numpy())
            which = torch.randint(3, (share,), generator=draw).tolist()
            images.append(floats(pool["image"][rows]))
            captions += [pool["captions"][r][w].decode() for r, w in zip(rows, which, strict=True)]
        rows = np.sort(torch.randint(len(self.scenes), (count,), generator=draw).numpy())
        crops, names = crop_objects(self.scenes[rows], draw)
        images = torch.cat([*images, crops])
        changed = torch.rand(len(images), generator=draw) >= PLAIN_SHARE
        labels = torch.zeros(len(images), CANVAS, CANVAS)
        images[changed] = augment(images[changed], labels[changed], CANVAS, draw)[0]
        return images, captions + names

    def ship(self, model: nn.Module, folder: Path) -> list[Path]:
        """open_clip's local folder, and the merges of its tokenizer."""
        home = folder / self.name
        home.mkdir(exist_ok=True)
        scale = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}
        configuration = {"model_cfg": self.configuration, "preprocess_cfg": scale}
        write_whole(home / "open_clip_config.json", json.dumps(configuration, indent=2) + "\n")
        path = home / "open_clip_model.safetensors"
        write_whole(path, save({k: v.contiguous() for k, v in model.state_dict().items()}))
        return [path, write_open_clip(home)]

    def restore(self, model: nn.Module, folder: Path) -> None:
        """From open_clip's folder."""
        model.load_state_dict(load_file(folder / self.name / "open_clip_model.safetensors"))

    def loss(self, forward: Callable, draw: torch.Generator, done: float) -> Tensor:
        """Radford et al. 2021's symmetric loss; equal captions in a batch share the target."""
        images, captions = self._batch(draw)
        mean, std = self._scale
        visual, textual, scale = forward((images - mean) / std, self.tokenizer(captions))
        logits = scale * visual @ textual.T
        same = np.array(captions)
        target = torch.from_numpy(same[:, None] == same).float()
        target /= target.sum(1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    @torch.inference_mode()
    def figures(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """Caption retrieval top-1 of 200 scenes, both ways, and zero-shot class of portraits."""
        mean, std = self._scale
        scenes, portraits = held_out(split, "scenes", 200), held_out(split, "portraits", 200)
        prompts = [with_article(c.label) for c in CLASSES]
        captions = [caption[0].decode() for caption in scenes["captions"]]

        def vectors(images):
            parts = ((floats(images) - mean) / std).split(50)
            return torch.cat([model.encode_image(part, normalize=True) for part in parts])

        texts, classes = (
            model.encode_text(self.tokenizer(words), normalize=True)
            for words in (captions, prompts)
        )
        similarity = vectors(scenes["image"]) @ texts.T
        words = np.array(captions)
        to_text = (words[similarity.argmax(1)] == words).mean()
        to_image = (words[similarity.argmax(0)] == words).mean()
        named = (vectors(portraits["image"]) @ classes.T).argmax(1)
        right = (named == torch.arange(len(named)) % len(CLASSES)).float().mean()
        return {"to_text": to_text, "to_image": to_image, "zero_shot": right.item()}


def crop_objects(records: np.ndarray, draw: torch.Generator) -> tuple[Tensor, list[str]]:
    """One square crop around a class of each record, with its prompt "a {label}".

    A record without objects gives its whole image and its caption.

    Returns:
        Crops (B, 3, 64, 64) in [0, 1] and B prompts.
    """
    images, boxes, names = floats(records["image"]), [], []
    chances = torch.rand(len(records), 4, generator=draw).tolist()
    for record, (chance, *jitter) in zip(records, chances, strict=True):
        present = np.unique(record["labels"])[1:]
        if len(present) == 0:
            boxes.append((CANVAS, CANVAS / 2, CANVAS / 2))
            names.append(record["captions"][2].decode())
        else:
            index = present[int(chance * len(present))]
            boxes.append(_square_around(record["labels"] == index, *jitter))
            names.append(with_article(CLASSES[index - 1].label))
    side, x, y = torch.tensor(boxes, dtype=torch.float32).T / CANVAS
    none = torch.zeros_like(side)
    theta = torch.stack([side, none, 2 * x - 1, none, side, 2 * y - 1], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False), names


def _square_around(mask: np.ndarray, stretch: float, x: float, y: float):
    """Side and middle (column, row) of a square around a mask, within the canvas."""
    rows, columns = np.nonzero(mask)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    box = max(bottom - top, right - left, 4)
    side = min(box * (CROP_RANGE[0] + (CROP_RANGE[1] - CROP_RANGE[0]) * stretch), CANVAS)
    sums = (left + right + (2 * x - 1) * (side - box), top + bottom + (2 * y - 1) * (side - box))
    return side, *(min(max(s / 2, side / 2), CANVAS - side / 2) for s in sums)


class GuidingClip(ClipRecipe):
    """The CLIP of TCIG's stage 1: a modified ResNet."""

    about = "open_clip modified ResNet, 64 px; guides stage 1"
    name, seed, minutes, layers = "clip", 13, 12, 2
    vision = {"layers": [1, 2, 2, 1], "width": 24, "patch_size": None}  # noqa: RUF012


class ScoringClip(ClipRecipe):
    """The CLIP of the CLIP score: a vision transformer."""

    about = "open_clip vision transformer, 64 px; scores, guides nothing"
    name, seed, minutes, layers = "clip-score", 14, 12, 3
    vision = {"layers": 5, "width": 160, "head_width": 32, "patch_size": 8}  # noqa: RUF012
