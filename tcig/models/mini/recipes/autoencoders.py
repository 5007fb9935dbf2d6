"""The autoencoders' recipes: Stable Diffusion's AutoencoderKL and a VQGAN, 64 px to 16x16."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.files import write_whole
from tcig.models.mini.loop import Recipe
from tcig.models.mini.pool import CANVAS, PORTRAITS, SCENES, captioned_pools
from tcig.models.mini.probes import held_out_batch, psnr
from tcig.models.vqgan import VQGAN

KL_WEIGHT = 1e-6
"""Rombach et al. 2022, section 3.1 and their released configurations."""
COMMITMENT = 0.25
"""van den Oord et al. 2017, section 3.2."""
UNQUANTISED_STEPS, RESEED_STEPS, RARE = 150, 50, 0.02
"""Steps before the codebook is filled from the encoder's outputs; steps between re-seedings; the
smoothed number of uses a batch under which a code is re-seeded. Ours."""
VAE_FOLDER = "stable-diffusion/vae"
VQ_CONFIGURATION = {
    "embed_dim": 8,
    "n_embed": 1024,
    "ddconfig": {
        "double_z": False,
        "z_channels": 64,
        "resolution": CANVAS,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2, 3],
        "num_res_blocks": 1,
        "attn_resolutions": [16],
        "dropout": 0.0,
    },
}
"""taming's settings, in the form of its own configuration files."""
CROP, CROPPED_SHARE = 32, 0.6
"""Side of the training crops during the first share of the time; whole images after it."""


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 of pixels and of their horizontal and vertical differences, and the squared error."""
    error = output - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + edges + error.square().mean()


class Autoencoder(Recipe):
    """What both autoencoders share: images of scenes and portraits, flipped and cropped."""

    not_for = "photographs; anything but the embedded emoji data"
    data = {"styles": ["noto"], "scenes": SCENES, "portraits": PORTRAITS, "canvas": CANVAS}  # noqa: RUF012

    def prepare(self, folder: Path) -> None:
        """Maps the pools of captioned scenes and portraits."""
        self.scenes, self.portraits = captioned_pools(folder, 0, SCENES, PORTRAITS)

    def images(self, draw: torch.Generator, done: float) -> Tensor:
        """A batch (B, 3, S, S) in [-1, 1]: two scenes to each portrait."""
        count = self.batch * (4 if done < CROPPED_SHARE else 1)
        parts = []
        for pool, share in (
            (self.scenes, count * 2 // 3),
            (self.portraits, count - count * 2 // 3),
        ):
            rows = torch.randint(len(pool), (share,), generator=draw)
            parts.append(pool["image"][np.sort(rows.numpy())])
        batch = torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()
        flip = torch.rand(count, 1, 1, 1, generator=draw) < 0.5
        batch = torch.where(flip, batch.flip(-1), batch)
        if done < CROPPED_SHARE:
            left, top = torch.randint(CANVAS - CROP + 1, (2, count), generator=draw).tolist()
            crops = zip(batch, left, top, strict=True)
            batch = torch.stack([x[:, t : t + CROP, s : s + CROP] for x, s, t in crops])
        return batch / 127.5 - 1

    def figures(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """PSNR in dB of the reconstructions, over half scenes and half portraits."""
        images = held_out_batch(split, count) * 2 - 1
        with torch.inference_mode():
            outputs = torch.cat([self.reconstruct(model, part) for part in images.split(32)])
        return {"psnr": psnr(outputs, images)}


class VAETraining(nn.Module):
    """The AutoencoderKL with its noise given, so that training draws from one generator."""

    def __init__(self):
        super().__init__()
        self.vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(32, 48, 96),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=CANVAS,
        )

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction, and mean and log-variance of the latents."""
        posterior = self.vae.encode(images).latent_dist
        latents = posterior.mean + posterior.std * noise
        return self.vae.decode(latents).sample, posterior.mean, posterior.logvar


class VAE(Autoencoder):
    """Stable Diffusion's autoencoder: 64 px to 16x16 latents of 4 channels."""

    about = "AutoencoderKL, 64 px to 16x16 latents of 4 channels"
    name, seed, batch, rate, average, minutes = "vae", 11, 8, 6e-3, 0.998, 35

    def build(self) -> nn.Module:
        """AutoencoderKL of three levels."""
        return VAETraining()

    def loss(self, forward: Callable, draw: torch.Generator, done: float) -> Tensor:
        """Reconstruction and a slight pull of the latents to the unit Gaussian."""
        images = self.images(draw, done)
        side = images.shape[-1] // 4
        noise = torch.randn(len(images), 4, side, side, generator=draw)
        output, mean, logvar = forward(images, noise)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
        return reconstruction_loss(output, images) + KL_WEIGHT * kl

    def reconstruct(self, model: nn.Module, images: Tensor) -> Tensor:
        """Through the latents' mean."""
        return model(images, torch.zeros(()))[0].clamp(-1, 1)

    @torch.inference_mode()
    def ship(self, model: nn.Module, folder: Path) -> list[Path]:
        """diffusers' folder, with the scaling factor that gives the latents unit variance."""
        model.vae.float()  # half precision is slow on a processor
        latents = model.vae.encode(held_out_batch("tuning", 128) * 2 - 1).latent_dist.mean
        model.vae.half().register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
        model.vae.save_pretrained(folder / VAE_FOLDER)
        return [folder / VAE_FOLDER / "diffusion_pytorch_model.safetensors"]

    def restore(self, model: nn.Module, folder: Path) -> None:
        """From diffusers' folder."""
        model.vae = AutoencoderKL.from_pretrained(folder / VAE_FOLDER)


class VQTraining(nn.Module):
    """The VQGAN with how often each code was used of late, and a sample of the latents."""

    def __init__(self):
        super().__init__()
        self.vqgan = VQGAN.taming(**VQ_CONFIGURATION)
        self.register_buffer("used", torch.ones(VQ_CONFIGURATION["n_embed"]))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction and the loss of codebook and commitment."""
        latents = self.vqgan.encode(images)
        self.seen = latents.detach().movedim(1, -1).flatten(0, 2).float()
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


class VQ(Autoencoder):
    """TCIG's VQGAN: 64 px to 16x16 codes out of 1024."""

    about = "taming VQGAN, 64 px to 16x16 codes out of 1024"
    name, seed, batch, rate, average, minutes = "vqgan", 12, 8, 6e-3, 0.998, 35

    def build(self) -> nn.Module:
        """taming's encoder, decoder and quantiser, three levels."""
        return VQTraining()

    def loss(self, forward: Callable, draw: torch.Generator, done: float) -> Tensor:
        """Reconstruction, codebook and commitment."""
        images = self.images(draw, done)
        output, codebook = forward(images)
        return reconstruction_loss(output, images) + codebook

    @torch.no_grad()
    def after(self, model: nn.Module, step: int, draw: torch.Generator) -> None:
        """Fills the codebook from the encoder's outputs once; re-seeds codes gone unused."""
        model.steps += 1
        codebook = model.vqgan.codebook
        rare = torch.zeros(len(codebook), dtype=torch.bool)
        if step == UNQUANTISED_STEPS:
            rare[:] = True
        elif step > UNQUANTISED_STEPS and step % RESEED_STEPS == 0:
            rare = model.used < RARE
        rows = torch.randint(len(model.seen), (int(rare.sum()),), generator=draw)
        codebook[rare] = model.seen[rows]
        model.used[rare] = 1.0

    def reconstruct(self, model: nn.Module, images: Tensor) -> Tensor:
        """Through the nearest codes."""
        return model.vqgan(images).clamp(-1, 1)

    def figures(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """PSNR in dB, and how many of the codes the held-out images use."""
        with torch.inference_mode():
            codes = model.vqgan.codes(model.vqgan.encode(held_out_batch(split, count) * 2 - 1))
        return super().figures(model, split, count) | {"codes_used": len(codes.unique())}

    def ship(self, model: nn.Module, folder: Path) -> list[Path]:
        """taming's layout: its `model.yaml`, and its tensors' names in safetensors."""
        state = {key: value.contiguous() for key, value in model.vqgan.state_dict().items()}
        path = folder / "vqgan" / "model.safetensors"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, save(state))
        target = {"target": "taming.models.vqgan.VQModel", "params": VQ_CONFIGURATION}
        write_whole(
            path.with_name("model.yaml"), yaml.safe_dump({"model": target}, sort_keys=False)
        )
        return [path]

    def restore(self, model: nn.Module, folder: Path) -> None:
        """From taming's layout; the codes count as filled and used."""
        model.vqgan.load_state_dict(load_file(folder / "vqgan" / "model.safetensors"))
        model.steps += UNQUANTISED_STEPS
