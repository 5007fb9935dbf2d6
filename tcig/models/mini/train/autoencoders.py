"""Recipes of the autoencoders: Stable Diffusion's AutoencoderKL and a VQGAN, 64 px to 16x16."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.files import write_whole
from tcig.models import mini
from tcig.models.mini.train.data import (
    CANVAS,
    CAPTIONED_DATA,
    captioned_pools,
    held_out,
    to_float,
)
from tcig.models.mini.train.trainer import Recipe
from tcig.models.vqgan import VQGAN

KL_WEIGHT = 1e-6
"""Rombach et al. 2022, section 3.1 and their released configurations."""
COMMITMENT = 0.25
"""van den Oord et al. 2017, section 3.2."""
UNQUANTISED_STEPS, RESEED_STEPS, RARE = 150, 50, 0.02
"""Steps before the codebook is filled from the encoder's outputs; steps between re-seedings; the
smoothed number of uses a batch under which a code is re-seeded (our choices)."""
CROP, CROPPED_SHARE = 32, 0.6
"""Side of the training crops during the first share of the time; whole images after it."""
VAE_FOLDERS = ("stable-diffusion/vae", "stable-diffusion-inpainting/vae")
VAE_FILE = "diffusion_pytorch_model.safetensors"
VQGAN_FILE = "vqgan/model.safetensors"


class AutoencoderRecipe(Recipe):
    """Training on flipped images and crops of scenes and portraits."""

    not_for = "photographs; anything but the embedded emoji data"
    data = CAPTIONED_DATA
    batch, learning_rate, average_decay, minutes = 8, 6e-3, 0.998, 35

    def prepare(self, folder: Path) -> None:
        """Maps the pools of captioned scenes and portraits."""
        self.scenes, self.portraits = captioned_pools(folder)

    def images(self, rng: torch.Generator, progress: float) -> Tensor:
        """A batch (B, 3, S, S) in [-1, 1], two thirds scenes and one third portraits."""
        count = self.batch * (4 if progress < CROPPED_SHARE else 1)
        num_scenes = count * 2 // 3
        parts = []
        for pool, share in ((self.scenes, num_scenes), (self.portraits, count - num_scenes)):
            rows = torch.randint(len(pool), (share,), generator=rng)
            parts.append(pool["image"][np.sort(rows.numpy())])
        batch = torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()
        flip = torch.rand(count, 1, 1, 1, generator=rng) < 0.5
        batch = torch.where(flip, batch.flip(-1), batch)
        if progress < CROPPED_SHARE:
            left, top = torch.randint(CANVAS - CROP + 1, (2, count), generator=rng).tolist()
            corners = zip(batch, left, top, strict=True)
            batch = torch.stack([image[:, y : y + CROP, x : x + CROP] for image, x, y in corners])
        return batch / 127.5 - 1

    def evaluate(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """PSNR in dB of the reconstructions of scenes and portraits, one half each."""
        images = held_out_images(split, count)
        with torch.inference_mode():
            outputs = torch.cat([self.reconstruct(model, part) for part in images.split(32)])
        error = (outputs - images).square().mean((1, 2, 3))
        return {"psnr": (10 * torch.log10(4 / error)).mean().item()}


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 of pixels and of their horizontal and vertical differences, plus the squared error."""
    error = output - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + edges + error.square().mean()


def held_out_images(split: str, count: int) -> Tensor:
    """Scenes and portraits, one half each, (count, 3, 64, 64) in [-1, 1]."""
    halves = [held_out(split, kind, count // 2)["image"] for kind in ("scenes", "portraits")]
    return to_float(np.concatenate(halves)) * 2 - 1


class VAETraining(nn.Module):
    """The AutoencoderKL with its noise as an input, so that training has one generator."""

    def __init__(self):
        super().__init__()
        configuration = AutoencoderKL.load_config(mini.WEIGHTS / VAE_FOLDERS[0])
        self.vae = AutoencoderKL.from_config(configuration)

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction, and mean and log-variance of the latents."""
        posterior = self.vae.encode(images).latent_dist
        latents = posterior.mean + posterior.std * noise
        return self.vae.decode(latents).sample, posterior.mean, posterior.logvar


class VAERecipe(AutoencoderRecipe):
    """Stable Diffusion's autoencoder: 64 px to 16x16 latents of 4 channels."""

    about = "AutoencoderKL, 64 px to 16x16 latents of 4 channels"
    name, seed = "vae", 11
    files = {f"{folder}/{VAE_FILE}": "vae" for folder in VAE_FOLDERS}  # noqa: RUF012

    def build(self) -> nn.Module:
        """Builds the AutoencoderKL."""
        return VAETraining()

    def loss(self, forward: Callable, rng: torch.Generator, progress: float) -> Tensor:
        """Reconstruction loss and a slight pull of the latents to the unit Gaussian."""
        images = self.images(rng, progress)
        side = images.shape[-1] // 4
        noise = torch.randn(len(images), 4, side, side, generator=rng)
        output, mean, logvar = forward(images, noise)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
        return reconstruction_loss(output, images) + KL_WEIGHT * kl

    def reconstruct(self, model: nn.Module, images: Tensor) -> Tensor:
        """Reconstructs images through the mean of the latents."""
        return model(images, torch.zeros(()))[0].clamp(-1, 1)

    @torch.inference_mode()
    def save(self, model: nn.Module, folder: Path) -> list[Path]:
        """Also writes the scaling factor that gives the latents unit variance."""
        model.vae.float()  # half precision is slow on a processor
        latents = model.vae.encode(held_out_images("tuning", 128)).latent_dist.mean
        model.vae.half()
        for vae_folder in VAE_FOLDERS:
            path = folder / vae_folder / "config.json"
            scale = {"scaling_factor": round(1 / latents.std().item(), 4)}
            configuration = json.loads(path.read_text()) | scale
            write_whole(path, json.dumps(configuration, indent=2) + "\n")
        return super().save(model, folder)


class VQGANTraining(nn.Module):
    """The VQGAN with a moving average of each code's uses and the last latents."""

    def __init__(self):
        super().__init__()
        configuration = yaml.safe_load((mini.WEIGHTS / "vqgan" / "model.yaml").read_text())
        self.vqgan = VQGAN.taming(**configuration["model"]["params"])
        self.register_buffer("used", torch.ones(len(self.vqgan.codebook)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction, and the loss of codebook and commitment."""
        latents = self.vqgan.encode(images)
        self.latents = latents.detach().movedim(1, -1).flatten(0, 2).float()
        if self.training and self.steps < UNQUANTISED_STEPS:
            return self.vqgan.decode(latents), latents.new_zeros(())
        codes = self.vqgan.codes(latents)
        nearest = F.embedding(codes, self.vqgan.codebook).movedim(-1, 1)
        if self.training:
            self.used.lerp_(torch.bincount(codes.flatten(), minlength=len(self.used)).float(), 0.05)
        codebook = (nearest - latents.detach()).square().mean()
        commitment = (nearest.detach() - latents).square().mean()
        quantised = latents + (nearest - latents).detach()
        return self.vqgan.decode(quantised), codebook + COMMITMENT * commitment


class VQGANRecipe(AutoencoderRecipe):
    """TCIG's VQGAN: 64 px to 16x16 codes of 1024."""

    about = "taming VQGAN, 64 px to 16x16 codes out of 1024"
    name, seed = "vqgan", 12
    files = {VQGAN_FILE: "vqgan"}  # noqa: RUF012

    def build(self) -> nn.Module:
        """Builds taming's encoder, decoder and quantiser."""
        return VQGANTraining()

    def loss(self, forward: Callable, rng: torch.Generator, progress: float) -> Tensor:
        """Reconstruction loss, and the loss of codebook and commitment."""
        images = self.images(rng, progress)
        output, codebook_loss = forward(images)
        return reconstruction_loss(output, images) + codebook_loss

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int, rng: torch.Generator) -> None:
        """Fills the codebook once from the encoder's outputs; re-seeds rare codes later."""
        model.steps += 1
        codebook = model.vqgan.codebook
        rare = torch.zeros(len(codebook), dtype=torch.bool)
        if step == UNQUANTISED_STEPS:
            rare[:] = True
        elif step > UNQUANTISED_STEPS and step % RESEED_STEPS == 0:
            rare = model.used < RARE
        rows = torch.randint(len(model.latents), (int(rare.sum()),), generator=rng)
        codebook[rare] = model.latents[rows]
        model.used[rare] = 1.0

    def reconstruct(self, model: nn.Module, images: Tensor) -> Tensor:
        """Reconstructs images through the nearest codes."""
        return model.vqgan(images).clamp(-1, 1)

    def evaluate(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """PSNR in dB, and the number of codes that the held-out images use."""
        with torch.inference_mode():
            codes = model.vqgan.codes(model.vqgan.encode(held_out_images(split, count)))
        return super().evaluate(model, split, count) | {"codes_used": len(codes.unique())}

    def load(self, model: nn.Module, folder: Path) -> None:
        """Loads the weights; the codebook counts as filled."""
        super().load(model, folder)
        model.steps += UNQUANTISED_STEPS
