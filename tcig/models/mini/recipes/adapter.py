"""The T2I-Adapter's recipe: class maps in colours steer the frozen text-to-image model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import T2IAdapter
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tcig.data.files import write_whole
from tcig.data.palettes import painted
from tcig.models.mini import WEIGHTS
from tcig.models.mini.pool import floats
from tcig.models.mini.recipes.diffusion import (
    DiffusionTraining,
    TextToImage,
    encode,
    held_out_records,
    tokenise,
)

SHAPE = {"channels": [96, 128, 128], "downscale_factor": 8, "adapter_type": "full_adapter_xl"}
"""Features of 8, 8 and 4 cells a side, as the three levels of the miniature UNet take them: its
first level has no attention and takes them after halving, as SDXL's, hence the `xl` type."""


class AdapterTraining(nn.Module):
    """The adapter; the model that it steers is in a tuple, so that it is no part of what is
    trained, averaged, counted or shipped."""

    def __init__(self, base: DiffusionTraining):
        super().__init__()
        self.adapter = T2IAdapter(**SHAPE)
        self.base = (base.eval().requires_grad_(False),)

    def forward(self, latents: Tensor, times: Tensor, tokens: Tensor, maps: Tensor) -> Tensor:
        """The predicted velocity, (B, 4, 16, 16), under class maps (B, 3, 64, 64) in [0, 1]."""
        base = self.base[0].to(latents.dtype)
        with sdpa_kernel(SDPBackend.MATH):  # as the base
            words = base.text_encoder(tokens).last_hidden_state
            features = self.adapter(maps)
            given = {"down_intrablock_additional_residuals": features}
            return base.unet(latents, times, words, **given).sample


class Adapter(TextToImage):
    """Denoising of cached latents under their class maps."""

    name, seed, rate, minutes = "t2i-adapter", 17, 4e-3, 45
    about = "T2I-Adapter, 64 px: class maps in VOC's colours steer the text-to-image model"

    def build(self) -> nn.Module:
        """An untrained adapter of the shipped text-to-image model."""
        recipe = TextToImage()
        base = recipe.build()
        recipe.restore(base, WEIGHTS)
        return AdapterTraining(base)

    def times(self, shares: Tensor) -> Tensor:
        """Mostly early in sampling (T2I-Adapter, arXiv 2302.08453, section 3.4: cubic)."""
        return super().times(1 - shares**3).clamp(max=len(self.alphas) - 1)

    def loss(self, forward: Callable, draw: torch.Generator, done: float) -> Tensor:
        """As the text-to-image model's."""
        rows, latents, tokens = self.batches(draw)
        labels = [pool["labels"][part] for pool, part in zip(self.records, rows, strict=True)]
        maps = coloured(np.concatenate(labels))
        return self.denoising_loss(under(forward, maps), latents, tokens, draw)

    def figures(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """The loss on held-out scenes and portraits, and the text-to-image model's own."""
        records = held_out_records(split, count)
        tokens = tokenise(self.tokenizer, records)[:, 2]
        latents = encode(self.vae, records["image"])
        steered = under(model, coloured(records["labels"]))
        losses = {}
        with torch.inference_mode():
            for name, forward in (("held_out_loss", steered), ("without", model.base[0])):
                draw = torch.Generator().manual_seed(0)
                losses[name] = self.denoising_loss(forward, latents, tokens, draw).item()
        return losses

    def ship(self, model: nn.Module, folder: Path) -> list[Path]:
        """The folder of diffusers' T2IAdapter."""
        home = folder / self.name
        model.adapter.save_pretrained(home)
        path = home / "config.json"
        settings = json.loads(path.read_text())
        settings.pop("_name_or_path", None)  # where it was on this machine
        write_whole(path, json.dumps(settings, indent=2) + "\n")
        return [home / "diffusion_pytorch_model.safetensors"]

    def restore(self, model: nn.Module, folder: Path) -> None:
        """From that folder."""
        model.adapter = T2IAdapter.from_pretrained(folder / self.name)


def coloured(labels: np.ndarray) -> Tensor:
    """Label maps (B, 64, 64) in the VOC palette, (B, 3, 64, 64) in [0, 1]."""
    return floats(painted(labels, "voc"))


def under(forward: Callable, maps: Tensor) -> Callable:
    """A model of latents, times and tokens, steered by `maps`."""
    return lambda latents, times, tokens: forward(latents, times, tokens, maps)
