"""The inpainting UNet's recipe: nine channels, fine-tuned from the text-to-image model."""

from collections.abc import Callable

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.voc import CLASSES, with_article
from tcig.models.mini import WEIGHTS
from tcig.models.mini.recipes.diffusion import TextToImage, encode, held_out_records

OBJECT_SHARE, BOX_SHARE = 0.6, 0.2
"""Of masks that are one class's pixels with "a {label}", and of those that are its bounding box;
the rest are rectangles with the caption. Ours: the baselines inpaint objects in their masks."""

BY_PROMPT = {with_article(c.label): c.index for c in CLASSES}


class Inpainting(TextToImage):
    """Stable Diffusion inpainting: noisy latents, mask, latents of the masked image."""

    name, seed, rate, minutes = "stable-diffusion-inpainting", 16, 2e-3, 80
    about = "Stable Diffusion inpainting, 64 px: nine-channel UNet from the text-to-image model"
    channels, pipeline = 9, StableDiffusionInpaintPipeline

    def build(self) -> nn.Module:
        """The text-to-image model with five more input channels, of zero weight at first."""
        base = TextToImage()
        source = base.build()
        base.restore(source, WEIGHTS)
        model = super().build()
        model.text_encoder.load_state_dict(source.text_encoder.state_dict())
        model.text_encoder.requires_grad_(False)
        state = source.unet.state_dict()
        state["conv_in.weight"] = F.pad(state["conv_in.weight"], (0, 0, 0, 0, 0, 5))
        model.unet.load_state_dict(state)
        return model

    def loss(self, forward: Callable, draw: torch.Generator, done: float) -> Tensor:
        """Of the whole image: what the mask leaves is there to be copied."""
        half = self.batch // 2
        records, latents = [], []
        for pool, encoded in zip(self.records, self.latents, strict=True):
            rows = torch.randint(len(pool), (half,), generator=draw).numpy()
            records.append(pool[rows])
            latents.append(torch.from_numpy(encoded[rows]).float())
        return self.inpainting_loss(forward, np.concatenate(records), torch.cat(latents), draw)

    def inpainting_loss(
        self, forward: Callable, records: np.ndarray, latents: Tensor, draw: torch.Generator
    ) -> Tensor:
        """Of records of images, labels and captions, and the images' latents."""
        masks, prompts = draw_masks(records, draw)
        hidden = torch.where(masks[..., None], 127.5, torch.from_numpy(records["image"]).float())
        mask = F.interpolate(masks[:, None].float(), scale_factor=0.25)
        settings = {"padding": "max_length", "truncation": True}
        tokens = torch.tensor(self.tokenizer(prompts, **settings)["input_ids"])
        extra = torch.cat([mask, encode(self.vae, hidden)], 1)
        return self.denoising_loss(forward, latents, tokens, draw, extra)

    def held_out_loss(self, model, split: str, count: int, draw: torch.Generator) -> Tensor:
        """Of `count` scenes and as many portraits."""
        records = held_out_records(split, count)
        return self.inpainting_loss(model, records, encode(self.vae, records["image"]), draw)


def draw_masks(records: np.ndarray, draw: torch.Generator) -> tuple[Tensor, list[str]]:
    """What is to be painted, (B, 64, 64) bool, and its prompt."""
    masks, prompts = [], []
    chances = torch.rand(len(records), 6, generator=draw).tolist()
    for record, (kind, chance, *corner) in zip(records, chances, strict=True):
        present = np.unique(record["labels"])[1:]
        mask = np.zeros(record["labels"].shape, bool)
        if kind < OBJECT_SHARE + BOX_SHARE and len(present):
            index = present[int(chance * len(present))]
            mask = record["labels"] == index
            if kind > OBJECT_SHARE:
                rows, columns = np.nonzero(mask)
                mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
            prompts.append(with_article(CLASSES[index - 1].label))
        else:
            a, b, c, d = (round(share * len(mask)) for share in corner)
            mask[min(a, b) : max(a, b) + 1, min(c, d) : max(c, d) + 1] = True
            prompts.append(record["captions"][0].decode())
        masks.append(torch.from_numpy(mask))
    return torch.stack(masks), prompts
