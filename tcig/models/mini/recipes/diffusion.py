"""Stable Diffusion's recipes: text to image on the VAE's latents, and inpainting from it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tcig.data.files import sha256, write_whole
from tcig.models.mini import WEIGHTS
from tcig.models.mini.loop import Recipe
from tcig.models.mini.pool import CANVAS, PORTRAITS, SCENES, captioned_pools
from tcig.models.mini.probes import held_out
from tcig.models.mini.recipes.autoencoders import VAE_FOLDER
from tcig.models.mini.tokenizer import CONTEXT, vocabulary_size, write_transformers

EMPTY_SHARE = 0.1
"""Of captions dropped for classifier-free guidance (Ho and Salimans 2022, section 3.1)."""
SNR_LIMIT = 5
"""Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy"."""
LABEL_SHARE = 0.6
"""Of portraits captioned "a {label}" alone, as the baselines prompt regions."""
TEXT = {"width": 128, "layers": 2, "heads": 4}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
}
"""Stable Diffusion's schedule; v-prediction as in Stable Diffusion 2 at 768 px."""


def build_unet(channels: int) -> UNet2DConditionModel:
    """Three levels of 16, 8 and 4 latents a side, cross-attention in the lower two."""
    return UNet2DConditionModel(
        sample_size=CANVAS // 4,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(96, 128, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT["width"],
        attention_head_dim=4,
        norm_num_groups=16,
    )


class DiffusionTraining(nn.Module):
    """UNet and text encoder."""

    def __init__(self, channels: int):
        super().__init__()
        self.unet = build_unet(channels)
        end = vocabulary_size() - 1
        configuration = CLIPTextConfig(
            vocab_size=end + 1,
            hidden_size=TEXT["width"],
            intermediate_size=4 * TEXT["width"],
            projection_dim=TEXT["width"],
            num_hidden_layers=TEXT["layers"],
            num_attention_heads=TEXT["heads"],
            max_position_embeddings=CONTEXT,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
        self.text_encoder = CLIPTextModel(configuration)

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """The predicted velocity, (B, 4, 16, 16)."""
        with sdpa_kernel(SDPBackend.MATH):  # on a processor 16% faster than flash
            words = self.text_encoder(tokens).last_hidden_state
            return self.unet(latents, timesteps, words).sample


class TextToImage(Recipe):
    """Denoising of cached latents, half scenes with captions, half portraits."""

    name, seed, batch, rate, average, minutes = "stable-diffusion", 15, 64, 4e-3, 0.998, 240
    about = "Stable Diffusion, 64 px: UNet2DConditionModel, CLIPTextModel, DDIM, v-prediction"
    not_for = (
        "any use but this benchmark's: it generates twenty kinds of emoji on eight backgrounds"
    )
    data = {"styles": ["noto"], "scenes": SCENES, "portraits": PORTRAITS, "canvas": CANVAS}  # noqa: RUF012
    channels, pipeline = 4, StableDiffusionPipeline

    def build(self) -> nn.Module:
        """Untrained UNet and text encoder."""
        return DiffusionTraining(self.channels)

    def prepare(self, folder: Path) -> None:
        """Encodes the pools, once for each VAE, and tokenises their captions."""
        write_transformers(folder / "tokenizer")
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.vae = AutoencoderKL.from_pretrained(WEIGHTS / VAE_FOLDER).requires_grad_(False)
        self.scale = self.vae.config.scaling_factor
        self.alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod
        self.records = captioned_pools(folder, 0, SCENES, PORTRAITS)
        identity = sha256(WEIGHTS / VAE_FOLDER / "diffusion_pytorch_model.safetensors")[:8]
        kinds = ("scenes", "portraits")
        paths = [folder / f"latents-{kind}-{SCENES}-{identity}.npy" for kind in kinds]
        self.latents = [
            latent_pool(path, self.vae, pool)
            for path, pool in zip(paths, self.records, strict=True)
        ]
        self.tokens = [tokenise(self.tokenizer, pool) for pool in self.records]
        self.empty = torch.tensor(self.tokenizer("", padding="max_length")["input_ids"])

    def batches(self, draw: torch.Generator) -> tuple[list[np.ndarray], Tensor, Tensor]:
        """Rows of the two pools, their latents (B, 4, 16, 16) of unit variance, tokens (B, 40)."""
        picked, latents, tokens = [], [], []
        half = self.batch // 2
        for portraits, (pool, words) in enumerate(zip(self.latents, self.tokens, strict=True)):
            rows = torch.randint(len(pool), (half,), generator=draw)
            which = torch.randint(3, (half,), generator=draw)
            if portraits:
                alone = torch.rand(half, generator=draw) < LABEL_SHARE
                which = torch.where(alone, 2, which)
            picked.append(rows.numpy())
            latents.append(torch.from_numpy(pool[picked[-1]]).float())
            tokens.append(words[rows, which])
        return picked, torch.cat(latents), torch.cat(tokens)

    def loss(self, forward: Callable, draw: torch.Generator, done: float) -> Tensor:
        """The squared error of the velocity, weighted by min-SNR."""
        _, latents, tokens = self.batches(draw)
        return self.denoising_loss(forward, latents, tokens, draw)

    def denoising_loss(
        self, forward: Callable, latents: Tensor, tokens: Tensor, draw: torch.Generator, extra=None
    ) -> Tensor:
        """Of clean latents under noise of evenly spread times; `extra` goes in unnoised."""
        count = len(latents)
        dropped = torch.rand(count, 1, generator=draw) < EMPTY_SHARE
        tokens = torch.where(dropped, self.empty, tokens)
        spread = (torch.arange(count) + torch.rand(count, generator=draw)) / count
        order = torch.randperm(count, generator=draw)
        times = self.times(spread[order])
        alphas = self.alphas[times].view(-1, 1, 1, 1)
        noise = torch.randn(latents.shape, generator=draw)
        noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        target = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
        inputs = noisy if extra is None else torch.cat([noisy, extra], 1)
        error = (forward(inputs, times, tokens) - target).square().mean((1, 2, 3))
        snr = self.alphas[times] / (1 - self.alphas[times])
        return (error * snr.clamp(max=SNR_LIMIT) / (snr + 1)).mean()

    def times(self, shares: Tensor) -> Tensor:
        """The timesteps of shares of the whole time, (B,) in [0, 1): evenly."""
        return (shares * len(self.alphas)).long()

    def figures(self, model: nn.Module, split: str, count: int) -> dict[str, float]:
        """The loss on held-out scenes and portraits under fixed noise."""
        draw = torch.Generator().manual_seed(0)
        with torch.inference_mode():
            return {"held_out_loss": self.held_out_loss(model, split, count, draw).item()}

    def held_out_loss(self, model, split: str, count: int, draw: torch.Generator) -> Tensor:
        """Of `count` scenes and as many portraits, with their barest caption."""
        records = held_out_records(split, count)
        tokens = tokenise(self.tokenizer, records)[:, 2]
        return self.denoising_loss(model, encode(self.vae, records["image"]), tokens, draw)

    def ship(self, model: nn.Module, folder: Path) -> list[Path]:
        """The folder of diffusers' stock pipeline."""
        home = folder / self.name
        write_transformers(home / "tokenizer")
        pipeline = self.pipeline(
            vae=AutoencoderKL.from_pretrained(WEIGHTS / VAE_FOLDER, torch_dtype=torch.float16),
            text_encoder=model.text_encoder,
            tokenizer=CLIPTokenizer.from_pretrained(home / "tokenizer"),
            unet=model.unet,
            scheduler=DDIMScheduler(**SCHEDULE),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(home)
        # transformers computes in the configuration's type, diffusers in float32 unless told; and
        # diffusers notes where the VAE was on this machine.
        for part, changed in (("text_encoder", {"dtype": "float32"}), ("vae", {})):
            path = home / part / "config.json"
            settings = json.loads(path.read_text()) | changed
            settings.pop("_name_or_path", None)
            write_whole(path, json.dumps(settings, indent=2) + "\n")
        return [
            home / "unet" / "diffusion_pytorch_model.safetensors",
            home / "text_encoder" / "model.safetensors",
        ]

    def restore(self, model: nn.Module, folder: Path) -> None:
        """From the pipeline's folder."""
        home = folder / self.name
        model.unet = UNet2DConditionModel.from_pretrained(home / "unet")
        model.text_encoder = CLIPTextModel.from_pretrained(home / "text_encoder")


def held_out_records(split: str, count: int) -> np.ndarray:
    """`count` scenes and as many portraits."""
    return np.concatenate([held_out(split, kind, count) for kind in ("scenes", "portraits")])


@torch.inference_mode()
def encode(vae: AutoencoderKL, images: np.ndarray | Tensor) -> Tensor:
    """Images (B, 64, 64, 3) uint8 -> latents (B, 4, 16, 16), means, of unit variance."""
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
    return vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor


def latent_pool(path: Path, vae: AutoencoderKL, records: np.ndarray) -> np.ndarray:
    """Latents of a pool's images, (N, 4, 16, 16) float16; the file is made whole or not at all.

    Not flipped as well: the scenes' objects are flipped at random when they are drawn.
    """
    if not path.exists():
        draft = path.with_suffix(".part")
        side = CANVAS // 4
        shape = (len(records), 4, side, side)
        pool = np.lib.format.open_memmap(draft, "w+", np.float16, shape)
        for first in tqdm(range(0, len(records), 64), path.stem):
            part = slice(first, first + 64)
            pool[part] = encode(vae, records["image"][part].copy()).half().numpy()
        pool.flush()
        draft.rename(path)
    return np.load(path, mmap_mode="r")


def tokenise(tokenizer: CLIPTokenizer, records: np.ndarray) -> Tensor:
    """Tokens of each record's three captions, (N, 3, 40)."""
    captions = [caption.decode() for caption in records["captions"].ravel()]
    settings = {"padding": "max_length", "truncation": True, "max_length": CONTEXT}
    return torch.tensor(tokenizer(captions, **settings)["input_ids"]).view(-1, 3, CONTEXT)
