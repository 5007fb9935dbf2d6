"""Recipes of Stable Diffusion, of inpainting, and of a T2I-Adapter for class maps."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, T2IAdapter, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tcig.data.files import sha256
from tcig.data.voc import CLASSES, painted, with_article
from tcig.models import mini
from tcig.models.mini.train.autoencoders import VAE_FILE, VAE_FOLDERS
from tcig.models.mini.train.clips import CONTEXT
from tcig.models.mini.train.data import (
    CANVAS,
    CAPTIONED_DATA,
    captioned_pools,
    held_out,
    memory_map,
    to_float,
)
from tcig.models.mini.train.trainer import Recipe

Batch = tuple[np.ndarray, Tensor, Tensor | None]
"""Records (B,), their latents (B, 4, 16, 16), and the tokens (B, 40) of their captions."""
EMPTY_SHARE = 0.1
"""Share of captions dropped for classifier-free guidance (Ho and Salimans 2022, section 3.1)."""
SNR_LIMIT = 5
"""Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy"."""
LABEL_SHARE = 0.6
"""Share of portraits captioned "a {label}" alone, as the baselines prompt regions."""
OBJECT_SHARE, BOX_SHARE = 0.6, 0.2
"""Inpainting: shares of masks that are one class's pixels and its bounding box, with "a {label}";
the rest are rectangles with the caption (our choice: the baselines inpaint objects in masks)."""


class DiffusionTraining(nn.Module):
    """UNet and text encoder of a pipeline, by its shipped configurations."""

    def __init__(self, name: str):
        super().__init__()
        folder = mini.WEIGHTS / name
        configuration = UNet2DConditionModel.load_config(folder / "unet")
        self.unet = UNet2DConditionModel.from_config(configuration)
        self.text_encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))

    def forward(
        self, latents: Tensor, timesteps: Tensor, tokens: Tensor, features: list | None = None
    ) -> Tensor:
        """The predicted velocity, (B, 4, 16, 16); `features` are those of a T2I-Adapter."""
        with sdpa_kernel(SDPBackend.MATH):  # 16% faster than flash on a processor
            words = self.text_encoder(tokens).last_hidden_state
            residuals = {"down_intrablock_additional_residuals": features}
            return self.unet(latents, timesteps, words, **residuals).sample


class TextToImageRecipe(Recipe):
    """Denoising of latents, half scenes and half portraits, under their captions."""

    name, seed, minutes = "stable-diffusion", 15, 240
    batch, learning_rate, average_decay = 64, 4e-3, 0.998
    about = "Stable Diffusion, 64 px: UNet2DConditionModel, CLIPTextModel, DDIM, v-prediction"
    not_for = (
        "any use but this benchmark's: it generates twenty kinds of emoji on eight backgrounds"
    )
    data = CAPTIONED_DATA

    def __init__(self):
        self.files = {
            f"{self.name}/unet/diffusion_pytorch_model.safetensors": "unet",
            f"{self.name}/text_encoder/model.safetensors": "text_encoder",
        }

    def build(self) -> nn.Module:
        """Builds UNet and text encoder."""
        return DiffusionTraining(self.name)

    def prepare(self, folder: Path) -> None:
        """Encodes the pools with the shipped VAE, and tokenises their captions."""
        base = mini.WEIGHTS / "stable-diffusion"
        self.tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
        self.empty = torch.tensor(self.tokenizer("", padding="max_length")["input_ids"])
        self.alphas = DDIMScheduler.from_pretrained(base / "scheduler").alphas_cumprod
        self.vae = AutoencoderKL.from_pretrained(mini.WEIGHTS / VAE_FOLDERS[0])
        self.vae.requires_grad_(False)
        self.pools = captioned_pools(folder)
        identity = sha256(mini.WEIGHTS / VAE_FOLDERS[0] / VAE_FILE)[:8]
        self.latents = [
            memory_map(
                folder / f"latents-{kind}-{len(pool)}-{identity}.npy",
                np.dtype(np.float16),
                (len(pool), 4, CANVAS // 4, CANVAS // 4),
                self._encode_pool(pool),
            )
            for kind, pool in zip(("scenes", "portraits"), self.pools, strict=True)
        ]
        self.tokens = [self.tokenise(pool["captions"]) for pool in self.pools]

    def _encode_pool(self, pool: np.ndarray) -> Iterator[np.ndarray]:
        for first in range(0, len(pool), 64):
            yield self.encode(pool["image"][first : first + 64].copy()).half().numpy()

    @torch.inference_mode()
    def encode(self, images: np.ndarray | Tensor) -> Tensor:
        """Encodes images (B, 64, 64, 3) of 0..255; returns means (B, 4, 16, 16), unit variance."""
        pixels = torch.as_tensor(images).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
        return self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor

    def tokenise(self, captions: np.ndarray) -> Tensor:
        """Tokens (..., 40) of captions (...), encoded as UTF-8."""
        texts = [caption.decode() for caption in captions.ravel()]
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, max_length=CONTEXT)
        return torch.tensor(tokens["input_ids"]).view(*captions.shape, CONTEXT)

    def random_batch(self, rng: torch.Generator) -> Batch:
        """Draws half scenes and half portraits."""
        records, latents, tokens = [], [], []
        half = self.batch // 2
        for is_portrait in (False, True):
            rows = torch.randint(len(self.pools[is_portrait]), (half,), generator=rng)
            choices = torch.randint(3, (half,), generator=rng)
            if is_portrait:
                label_only = torch.rand(half, generator=rng) < LABEL_SHARE
                choices = torch.where(label_only, 2, choices)
            records.append(self.pools[is_portrait][rows.numpy()])
            latents.append(torch.from_numpy(self.latents[is_portrait][rows.numpy()]).float())
            tokens.append(self.tokens[is_portrait][rows, choices])
        return np.concatenate(records), torch.cat(latents), torch.cat(tokens)

    def loss(self, forward: Callable, rng: torch.Generator, progress: float) -> Tensor:
        """The loss of a random batch."""
        return self.conditional_loss(forward, self.random_batch(rng), rng)

    def conditional_loss(self, forward: Callable, batch: Batch, rng: torch.Generator) -> Tensor:
        """The denoising loss under the condition of the model, here the captions alone."""
        _, latents, tokens = batch
        return self.denoising_loss(forward, latents, tokens, rng)

    def denoising_loss(
        self, forward: Callable, latents: Tensor, tokens: Tensor, rng: torch.Generator, extra=None
    ) -> Tensor:
        """The squared error of the velocity, weighted by min-SNR.

        The clean `latents` are noised at evenly spread times; `extra` channels get no noise.
        """
        count = len(latents)
        is_empty = torch.rand(count, 1, generator=rng) < EMPTY_SHARE
        tokens = torch.where(is_empty, self.empty, tokens)
        spread = (torch.arange(count) + torch.rand(count, generator=rng)) / count
        order = torch.randperm(count, generator=rng)
        times = self.timesteps(spread[order])
        alphas = self.alphas[times].view(-1, 1, 1, 1)
        noise = torch.randn(latents.shape, generator=rng)
        noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        target = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
        inputs = noisy if extra is None else torch.cat([noisy, extra], 1)
        error = (forward(inputs, times, tokens) - target).square().mean((1, 2, 3))
        snr = self.alphas[times] / (1 - self.alphas[times])
        return (error * snr.clamp(max=SNR_LIMIT) / (snr + 1)).mean()

    def timesteps(self, shares: Tensor) -> Tensor:
        """Timesteps (B,) for evenly distributed `shares` (B,) in [0, 1)."""
        return (shares * len(self.alphas)).long()

    def evaluate(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """The loss on `count` scenes and as many portraits, with their shortest captions."""
        parts = [held_out(split, kind, count) for kind in ("scenes", "portraits")]
        records = np.concatenate(parts)
        latents, tokens = self.encode(records["image"]), self.tokenise(records["captions"][:, 2])
        rng = torch.Generator().manual_seed(0)
        with torch.inference_mode():
            loss = self.conditional_loss(model, (records, latents, tokens), rng)
        return {"held_out_loss": loss.item()}


class InpaintingRecipe(TextToImageRecipe):
    """Nine channels: noisy latents, mask, and latents of the masked image."""

    name, seed, learning_rate, minutes = "stable-diffusion-inpainting", 16, 2e-3, 80
    about = "Stable Diffusion inpainting, 64 px: nine-channel UNet from the text-to-image model"

    def build(self) -> nn.Module:
        """The text-to-image model with five more input channels, of zero weight at first."""
        base = load_text_to_image()
        model = super().build()
        model.text_encoder.load_state_dict(base.text_encoder.state_dict())
        model.text_encoder.requires_grad_(False)
        state = base.unet.state_dict()
        state["conv_in.weight"] = F.pad(state["conv_in.weight"], (0, 0, 0, 0, 0, 5))
        model.unet.load_state_dict(state)
        return model

    def random_batch(self, rng: torch.Generator) -> Batch:
        """Draws half scenes and half portraits; prompts come with the masks."""
        records, latents = [], []
        for pool, encoded in zip(self.pools, self.latents, strict=True):
            rows = torch.randint(len(pool), (self.batch // 2,), generator=rng).numpy()
            records.append(pool[rows])
            latents.append(torch.from_numpy(encoded[rows]).float())
        return np.concatenate(records), torch.cat(latents), None

    def conditional_loss(self, forward: Callable, batch: Batch, rng: torch.Generator) -> Tensor:
        """The loss of the whole image under random masks: outside, the model learns to copy."""
        records, latents, _ = batch
        masks, prompts = random_masks(records, rng)
        images = torch.from_numpy(records["image"]).float()
        masked = self.encode(torch.where(masks[..., None], 127.5, images))
        mask = F.interpolate(masks[:, None].float(), scale_factor=0.25)
        extra = torch.cat([mask, masked], 1)
        return self.denoising_loss(forward, latents, self.tokenise(prompts), rng, extra)


def load_text_to_image() -> DiffusionTraining:
    """Loads the shipped text-to-image model."""
    recipe = TextToImageRecipe()
    model = recipe.build()
    recipe.load(model, mini.WEIGHTS)
    return model


def random_masks(records: np.ndarray, rng: torch.Generator) -> tuple[Tensor, np.ndarray]:
    """Masks to inpaint, (B, 64, 64) bool, and their prompts, (B,) encoded as UTF-8."""
    masks, prompts = [], []
    chances = torch.rand(len(records), 6, generator=rng).tolist()
    for record, (kind, chance, *corners) in zip(records, chances, strict=True):
        present = np.unique(record["labels"])[1:]
        mask = np.zeros(record["labels"].shape, bool)
        if kind < OBJECT_SHARE + BOX_SHARE and len(present):
            index = present[int(chance * len(present))]
            mask = record["labels"] == index
            if kind > OBJECT_SHARE:
                rows, columns = np.nonzero(mask)
                mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
            prompts.append(with_article(CLASSES[index - 1].label).encode())
        else:
            a, b, c, d = (round(share * len(mask)) for share in corners)
            mask[min(a, b) : max(a, b) + 1, min(c, d) : max(c, d) + 1] = True
            prompts.append(record["captions"][0])
        masks.append(torch.from_numpy(mask))
    return torch.stack(masks), np.array(prompts)


class AdapterTraining(nn.Module):
    """The T2I-Adapter on a frozen text-to-image model.

    A tuple holds that model, so that it is not trained, averaged, counted or saved.
    """

    def __init__(self):
        super().__init__()
        base = load_text_to_image()
        self.adapter = T2IAdapter.from_config(T2IAdapter.load_config(mini.WEIGHTS / "t2i-adapter"))
        self.base = (base.eval().requires_grad_(False),)

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor, maps: Tensor) -> Tensor:
        """The predicted velocity under coloured class maps (B, 3, 64, 64) in [0, 1]."""
        base = self.base[0].to(latents.dtype)
        return base(latents, timesteps, tokens, self.adapter(maps))


class AdapterRecipe(TextToImageRecipe):
    """Denoising of latents under class maps in VOC's colours."""

    name, seed, learning_rate, minutes = "t2i-adapter", 17, 4e-3, 45
    about = "T2I-Adapter, 64 px: class maps in VOC's colours steer the text-to-image model"

    def __init__(self):
        self.files = {f"{self.name}/diffusion_pytorch_model.safetensors": "adapter"}

    def build(self) -> nn.Module:
        """Builds the untrained adapter of the shipped text-to-image model."""
        return AdapterTraining()

    def timesteps(self, shares: Tensor) -> Tensor:
        """Mostly early in sampling (T2I-Adapter, arXiv 2302.08453, section 3.4: cubic)."""
        return super().timesteps(1 - shares**3).clamp(max=len(self.alphas) - 1)

    def conditional_loss(self, forward: Callable, batch: Batch, rng: torch.Generator) -> Tensor:
        """The loss under the records' class maps."""
        records, latents, tokens = batch
        maps = to_float(painted(records["labels"], "voc"))
        return self.denoising_loss(lambda *x: forward(*x, maps), latents, tokens, rng)

    def evaluate(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """The loss with the adapter, and `without` it."""
        (base,) = model.base
        without = super().evaluate(lambda *x: base(*x[:3]), split, count)
        return super().evaluate(model, split, count) | {"without": without["held_out_loss"]}
