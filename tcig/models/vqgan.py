"""VQGAN (Esser et al. 2021) of taming-transformers' or of diffusers' modules.

`taming.models.vqgan` itself does not import under current Lightning, and its loss downloads files;
the parts it is made of do, and the names of its tensors are kept, so that its checkpoints load.
"""

import argparse
import contextlib
import io
from pathlib import Path

import torch
import yaml
from diffusers import VQModel
from taming.modules.diffusionmodules import model as taming
from taming.modules.vqvae.quantize import VectorQuantizer
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.files import InputError, read_file
from tcig.models.weights import fill, read_state, refused

WEIGHT_FILES = ("model.safetensors", "last.ckpt")

# The same function as taming's x * sigmoid(x), in one pass instead of two.
taming.nonlinearity = F.silu


class VQGAN(nn.Module):
    """Encoder, codebook and decoder; images (B, 3, H, W) in [-1, 1].

    Args:
        encoder: images -> (B, z, h, w).
        decoder: (B, z, h, w) -> images.
        quantize: has the codebook as `embedding`, (n_embed, embed_dim).
        quant_conv: z channels -> embed_dim channels.
        post_quant_conv: embed_dim channels -> z channels.
        factor: pixels of an image for one code, per side.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        quantize: nn.Module,
        quant_conv: nn.Module,
        post_quant_conv: nn.Module,
        factor: int,
    ):
        super().__init__()
        self.encoder, self.decoder, self.quantize = encoder, decoder, quantize
        self.quant_conv, self.post_quant_conv = quant_conv, post_quant_conv
        self.factor = factor

    @classmethod
    def taming(cls, ddconfig: dict, n_embed: int, embed_dim: int) -> "VQGAN":
        """Builds one with random weights.

        Args:
            ddconfig: taming's settings of encoder and decoder.
            n_embed: number of codes.
            embed_dim: channels of a code.
        """
        with contextlib.redirect_stdout(io.StringIO()):  # the decoder prints its size
            networks = taming.Encoder(**ddconfig), taming.Decoder(**ddconfig)
        return cls(
            *networks,
            VectorQuantizer(n_embed, embed_dim, beta=0.25),
            nn.Conv2d(ddconfig["z_channels"], embed_dim, 1),
            nn.Conv2d(embed_dim, ddconfig["z_channels"], 1),
            2 ** (len(ddconfig["ch_mult"]) - 1),
        )

    @property
    def codebook(self) -> Tensor:
        """(n_embed, embed_dim)."""
        return self.quantize.embedding.weight

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, embed_dim, h, w) before quantisation."""
        return self.quant_conv(self.encoder(images))

    def codes(self, latents: Tensor) -> Tensor:
        """Index of the nearest code at each place, (B, h, w)."""
        flat, codebook = latents.movedim(1, -1), self.codebook
        lengths = codebook.square().sum(1)
        distance = torch.addmm(lengths, flat.flatten(0, -2), codebook.T, alpha=-2)
        # `min` finds the same as `argmin`, faster on a processor
        return distance.min(-1).indices.view(flat.shape[:-1])

    def quantise(self, latents: Tensor) -> Tensor:
        """The nearest codes, with the gradient passed straight through to `latents`."""
        nearest = F.embedding(self.codes(latents), self.codebook).movedim(-1, 1).contiguous()
        return nearest + (latents - latents.detach())

    def decode(self, quantised: Tensor) -> Tensor:
        """Images (B, 3, H, W), about [-1, 1], not clamped."""
        return self.decoder(self.post_quant_conv(quantised))

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction of `images`."""
        return self.decode(self.quantise(self.encode(images)))


CALLBACK = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
"""By which Lightning 1.0.8, which taming's environment.yaml pins, keys a checkpoint's callbacks."""


class _Callback:
    """Stands for `CALLBACK`, so that reading a checkpoint needs neither Lightning nor its code."""


def load_vqgan(folder: Path) -> VQGAN:
    """Loads a VQGAN in evaluation mode, without gradients.

    The folder has taming's layout (`model.yaml` beside `model.safetensors` or `last.ckpt`, a
    Lightning checkpoint whose loss networks are left out), or that of diffusers' `VQModel`
    (`config.json` beside `diffusion_pytorch_model.safetensors` or `.bin`). Only tensors are read.

    Raises:
        InputError: a file is missing or cannot be read, or weights and configuration differ.
    """
    read = _read_diffusers if (folder / "config.json").is_file() else _read_taming
    return read(folder).eval().requires_grad_(False)


def _read_diffusers(folder: Path) -> VQGAN:
    safe = (folder / "diffusion_pytorch_model.safetensors").is_file()
    with refused(f"{folder}", "cannot be loaded as a VQModel"):
        model, report = VQModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, use_safetensors=safe
        )
        if wrong := report["missing_keys"] or report["unexpected_keys"]:
            raise ValueError(f"weights and config.json differ in {wrong[0]}")
    parts = model.encoder, model.decoder, model.quantize, model.quant_conv, model.post_quant_conv
    return VQGAN(*parts, 2 ** (len(model.config.block_out_channels) - 1))


def _read_taming(folder: Path) -> VQGAN:
    path = folder / "model.yaml"
    with refused(f"{path}", "lacks model.params with ddconfig, n_embed and embed_dim"):
        parameters = yaml.safe_load(read_file(path))["model"]["params"]
        settings = {key: parameters[key] for key in ("ddconfig", "n_embed", "embed_dim")}
    weights = next((p for n in WEIGHT_FILES if (p := folder / n).is_file()), None)
    if weights is None:
        raise InputError(f"{folder} holds no VQGAN weights: give {' or '.join(WEIGHT_FILES)}.")
    state = read_state(weights, [(_Callback, CALLBACK), argparse.Namespace])
    with refused(f"{weights}", "is not a checkpoint of Lightning's"):
        if weights.suffix != ".safetensors":
            state = state["state_dict"]
        # torch's DataParallel adds "module." to the names.
        state = {key.removeprefix("module."): value for key, value in state.items()}
    with refused(f"{path}", "does not describe a VQGAN of taming's"):
        model = VQGAN.taming(**settings)
    fill(model, {k: v for k, v in state.items() if not k.startswith("loss.")}, weights)
    return model
