"""Scenes as the generators show them: through the autoencoders, and half formed."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tcig.data.emoji.scenes import SIZE
from tcig.data.files import sha256
from tcig.models.mini import WEIGHTS
from tcig.models.mini.pool import CANVAS, RECORD, floats, scene_pool
from tcig.models.mini.recipes.autoencoders import VAE_FOLDER
from tcig.models.vqgan import VQGAN, load_vqgan

HALF_FORMED = 0.6
"""The largest share of random codes in a half-formed image's latents; ours."""


@torch.inference_mode()
def reconstruction_pool(folder: Path, first: int, count: int) -> np.ndarray:
    """Scenes `first` .. of the training split, drawn anew by the VAE, the VQGAN, or half formed.

    Each is reduced to the models' canvas, reconstructed, and enlarged (bilinear) to the segmenters'
    input; the labels stay those of the scene.

    Returns:
        (count,) of `RECORD`; the file is made whole or not at all, once for each pair of weights.
    """
    vae_file = WEIGHTS / VAE_FOLDER / "diffusion_pytorch_model.safetensors"
    identity = sha256(vae_file)[:6] + sha256(WEIGHTS / "vqgan" / "model.safetensors")[:6]
    path = folder / f"reconstructions-{first}-{count}-{identity}.npy"
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(WEIGHTS / VAE_FOLDER)
        vqgan = load_vqgan(WEIGHTS / "vqgan")
        scenes = scene_pool(folder, first, count, ("noto",))
        draft = path.with_suffix(".part")
        pool = np.lib.format.open_memmap(draft, "w+", RECORD, (count,))
        pool["labels"] = scenes["labels"]
        draw = torch.Generator().manual_seed(first)
        for start in tqdm(range(0, count, 48), path.stem):
            part = slice(start, start + 48)
            thirds = _canvas(scenes["image"][part]).tensor_split(3)
            drawn = (
                vae.decode(vae.encode(thirds[0]).latent_dist.mode()).sample,
                vqgan(thirds[1]),
                half_formed(vqgan, thirds[2], draw),
            )
            pool["image"][part] = _enlarged(torch.cat(drawn))
        pool.flush()
        draft.rename(path)
    return np.load(path, mmap_mode="r")


def half_formed(vqgan: VQGAN, images: Tensor, draw: torch.Generator) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1], decoded from latents mixed with random codes."""
    latents = vqgan.encode(images)
    shape = (len(latents), *latents.shape[-2:])
    codes = torch.randint(len(vqgan.codebook), shape, generator=draw)
    random = F.embedding(codes, vqgan.codebook).movedim(-1, 1)
    share = HALF_FORMED * torch.rand(len(latents), 1, 1, 1, generator=draw)
    return vqgan.decode(vqgan.quantise(latents.lerp(random, share)))


def _canvas(images: np.ndarray) -> Tensor:
    size = (CANVAS, CANVAS)
    small = [Image.fromarray(image).resize(size, Image.Resampling.LANCZOS) for image in images]
    return floats(np.stack([np.asarray(image) for image in small])) * 2 - 1


def _enlarged(images: Tensor) -> np.ndarray:
    large = F.interpolate(images.clamp(-1, 1), size=SIZE, mode="bilinear")
    return ((large + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
