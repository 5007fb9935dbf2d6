"""A Stable-Diffusion-family model as plain functions over diffusers.

Latent sizes, scaling factors and what the UNet predicts (noise or v) come from the model's own
configuration. Latents are (N, C, h, w); texts are (K, L, D), each distinct prompt once.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import cpu_offload_with_hook
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from tcig.data.files import InputError
from tcig.models.devices import PLAIN, Compute, kept
from tcig.models.loading import quiet, read_part
from tcig.models.weights import locate, refused

PARTS = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "tokenizer": CLIPTokenizer,
}
PROMPTS = 1024
"""Prompts whose embeddings are kept in memory (our choice)."""


class Calls(NamedTuple):
    """The distinct UNet evaluations of one guided step.

    Evaluation k runs latent `latents[k]` under text `texts[k]`; row n of the result takes its
    conditional output from evaluation `positive[n]` and its unconditional one from `negative[n]`.
    """

    latents: Tensor
    texts: Tensor
    positive: Tensor
    negative: Tensor


Control = Callable[[Tensor, Tensor, Tensor, Calls], dict[str, Any]]
"""Steers evaluations: from their inputs, timestep and texts, and what they are, to more arguments
of the UNet."""


def plan(latents: Tensor, positive: Tensor, negative: Tensor) -> Calls:
    """Which evaluations give N rows, each pair of latent and text evaluated once.

    Args:
        latents: of each row, the latent that it denoises, (N,) integers.
        positive: of each row, its prompt's text, (N,) integers.
        negative: of each row, its negative prompt's text, (N,) integers.
    """
    pairs = torch.stack([latents.repeat(2), torch.cat([positive, negative])], 1)
    distinct, place = pairs.unique(dim=0, return_inverse=True)
    return Calls(distinct[:, 0], distinct[:, 1], *place.chunk(2))


class Diffusion:
    """UNet, VAE, text encoder, tokenizer and schedule; in evaluation mode, without gradients.

    Latents and images keep their dtype, whatever that of the networks is.
    """

    def __init__(
        self, unet, vae, text_encoder, tokenizer, schedule: dict, compute: Compute = PLAIN
    ):
        self.device, self.dtype = compute.device, unet.dtype
        parts = text_encoder, unet, vae
        for part in parts:
            part.eval().requires_grad_(False)
        unet.to(memory_format=compute.memory_format)
        vae.to(memory_format=compute.memory_format)
        if compute.tiling:
            vae.enable_slicing()
            vae.enable_tiling()
        if compute.offload:
            hook = None
            for part in parts:  # each sends the one before it away; the last stays
                _, hook = cpu_offload_with_hook(part, self.device, hook)
        else:
            for part in parts:
                part.to(self.device)
        if compute.compile:
            unet.compile()
        self.text_encoder, self.unet, self.vae = parts
        self.tokenizer, self._schedule = tokenizer, schedule
        self._embeddings: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def channels(self) -> int:
        """Number of channels of a latent."""
        return self.vae.config.latent_channels

    @property
    def factor(self) -> int:
        """Pixels of an image for one of a latent, per side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def side(self, size: int) -> int:
        """Side of the latents of images of `size` pixels a side.

        Raises:
            InputError: the VAE or the UNet cannot halve such an image as often as it does.
        """
        multiple = self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if size % multiple or size < multiple:
            raise InputError(
                f"images of {size} px cannot be made by this model: give a multiple of {multiple}."
            )
        return size // self.factor

    def schedule(self, steps: int, **changes) -> DDIMScheduler:
        """The model's own noise schedule, sampled by DDIM in `steps` steps.

        Args:
            steps: evaluations of the UNet.
            changes: settings of `DDIMScheduler` in place of the model's.

        Raises:
            InputError: more steps than the model was trained with timesteps.
        """
        scheduler = DDIMScheduler.from_config(self._schedule | changes)
        if steps > scheduler.config.num_train_timesteps:
            raise InputError(
                f"{steps} steps are more than the model's {scheduler.config.num_train_timesteps} "
                "timesteps: take fewer."
            )
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings (K, L, D) of the K distinct prompts, and the row of each prompt, (N,).

        A prompt longer than the text encoder's input is cut, with a warning that says where.
        """
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        texts = torch.cat([self._embed(prompt)[0] for prompt in rows])
        return texts, torch.tensor([rows[prompt] for prompt in prompts])

    def pool_prompts(self, prompts: Sequence[str]) -> Tensor:
        """The text encoder's pooled output of each prompt, (N, D)."""
        return torch.cat([self._embed(prompt)[1] for prompt in prompts])

    @torch.inference_mode()
    def _embed(self, prompt: str) -> tuple[Tensor, Tensor]:
        """The text encoder's last hidden state, (1, L, D), and its pooled output, (1, D)."""
        if prompt in self._embeddings:
            return self._embeddings[prompt]
        length = self.text_encoder.config.max_position_embeddings
        # Padding and truncation are settings of the tokenizer itself, which threads share.
        tokens = self.tokenizer(prompt, verbose=False).input_ids
        if len(tokens) > length:
            lost = self.tokenizer.decode(tokens[length - 1 : -1]).strip()
            warnings.warn(
                f"the text encoder takes {length - 2} tokens: {lost!r} was cut off {prompt!r}",
                stacklevel=2,
            )
            tokens = [*tokens[: length - 1], tokens[-1]]
        padding = [self.tokenizer.pad_token_id] * (length - len(tokens))
        tokens = torch.tensor([tokens + padding])
        output = self.text_encoder(tokens.to(self.device))
        if len(self._embeddings) == PROMPTS:
            self._embeddings.clear()
        self._embeddings[prompt] = output.last_hidden_state, output.pooler_output
        return self._embeddings[prompt]

    def guided(
        self,
        latents: Tensor,
        timestep: Tensor,
        texts: Tensor,
        calls: Calls,
        scale: float,
        extra: Tensor | None = None,
        control: Control | None = None,
    ) -> Tensor:
        """What the UNet predicts under classifier-free guidance (Ho & Salimans 2022), (N, C, h, w).

        Args:
            latents: (M, C, h, w).
            timestep: of all of them.
            texts: (K, L, D).
            calls: of N rows, see `plan`.
            scale: 1 is the conditional prediction alone, larger is beyond it.
            extra: further input channels of each latent (mask and masked image), (M, E, h, w).
            control: what steers the evaluations.

        Raises:
            FloatingPointError: the prediction is not finite.
        """
        inputs = latents if extra is None else torch.cat([latents, extra], 1)
        given, prompts = (x.to(self.dtype) for x in (inputs[calls.latents], texts[calls.texts]))
        more = control(given, timestep, prompts, calls) if control else {}
        outputs = self.unet(given, timestep, encoder_hidden_states=prompts, **more).sample
        outputs = outputs.to(inputs.dtype)
        conditional, unconditional = outputs[calls.positive], outputs[calls.negative]
        predicted = unconditional + scale * (conditional - unconditional)
        check_finite(predicted, f"the UNet's prediction at timestep {int(timestep)}")
        return predicted

    def encode(self, images: Tensor, draws: list[torch.Generator] | None = None) -> Tensor:
        """Encodes images (N, 3, H, W) in [-1, 1] as the posterior's mean.

        Args:
            images: the images.
            draws: a generator for each image, to sample the posterior instead.
        """
        posterior = self.vae.encode(images.to(self.device, self.dtype)).latent_dist
        latents = (posterior.mode() if draws is None else posterior.sample(draws)).to(images.dtype)
        return (latents - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor

    def decode(self, latents: Tensor, clamped: bool = True) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] of latents, or what the decoder gives unclamped.

        Raises:
            FloatingPointError: a value is not finite.
        """
        latents = latents / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0)
        images = self.vae.decode(latents.to(self.dtype)).sample.to(latents.dtype)
        check_finite(images, "the VAE's image")
        return images.clamp(-1, 1) if clamped else images


def check_finite(values: Tensor, what: str) -> None:
    """Refuses NaN and infinite values.

    Raises:
        FloatingPointError: a value is not finite; the message begins with `what`.
    """
    if not values.isfinite().all():
        raise FloatingPointError(f"{what}: NaN or infinite values")


def to_pil(pixels: Tensor) -> list[Image.Image]:
    """Converts (N, 3, H, W) in [0, 255] to RGB images.

    Raises:
        FloatingPointError: a value is not finite.
    """
    check_finite(pixels, "image")
    levels = pixels.round().byte().movedim(1, -1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(each)) for each in levels]


def to_images(tensors: Tensor) -> list[Image.Image]:
    """(N, 3, H, W) in [-1, 1] -> RGB images."""
    return to_pil((tensors + 1) * 127.5)


@kept
def load_diffusion(source: str, compute: Compute = PLAIN) -> Diffusion:
    """Loads a Stable-Diffusion-family model.

    Args:
        source: `mini:NAME`, a folder in diffusers' layout, or a hub id.
        compute: see `tcig.models.devices.Compute`.

    Raises:
        InputError: a part is missing or does not load.
    """
    folder = locate(source)
    parts = {}
    for name, kind in PARTS.items():
        if not (folder / name).is_dir():
            raise InputError(f"{source} lacks {name}: a Stable Diffusion folder has it.")
        with quiet(), refused(f"{source}: {name}"):
            parts[name] = read_part(folder / name, kind, compute.dtype)
    with refused(f"{source}: scheduler"):
        config = DDIMScheduler.from_pretrained(folder, subfolder="scheduler").config
    # The saved scheduler may be of any class and age. DDIM's defaults are wrong for Stable
    # Diffusion in two settings, which StableDiffusionPipeline corrects too. The private entries
    # name what was a default, and would take the corrections back.
    schedule = {key: value for key, value in config.items() if not key.startswith("_")}
    schedule |= {"clip_sample": False, "steps_offset": 1}
    return Diffusion(**parts, schedule=schedule, compute=compute)
