"""MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113), region-based, with bootstrapping.

Reference: omerbt/MultiDiffusion 69bcdce, region_based.py (lines cited below).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from tcig.data.layout import Layout
from tcig.methods.base import Cost, Progress, generators
from tcig.methods.sampling import RegionOptions, SamplingMethod, evaluations, grid_masks
from tcig.models.diffusion import Diffusion, plan, to_images

BOOTSTRAPPING = {"paper": 0.2, "code": 0.4, "off": 0.0}
"""Share of the steps: the paper's 20% (T_init = 800 of 1000), the 20 of 50 steps of the released
code (l. 191), and none, the ablation of its Table 2."""
BACKDROPS = 20
"""Random colours in the pool, as many as in the released code (l. 112)."""


@dataclass(frozen=True)
class Options(RegionOptions):
    """Options of `multidiffusion`."""

    bootstrapping: float | str = "paper"
    """Share of the steps in which a foreground region sees a constant random colour outside its
    mask: `paper`, `code`, `off`, or a number from 0 to 1."""

    def __post_init__(self):
        super().__post_init__()
        share = BOOTSTRAPPING.get(self.bootstrapping, self.bootstrapping)
        try:
            within = 0 <= float(share) <= 1
        except ValueError:
            within = False
        if not within:
            names = ", ".join(BOOTSTRAPPING)
            raise ValueError(f"{self.bootstrapping!r} is not one of {names} or a share from 0 to 1")
        object.__setattr__(self, "bootstrapping", float(share))


class Regions(NamedTuple):
    """N regions of B samples, each sample's background among them."""

    masks: Tensor
    """(N, 1, h, w): 0 and 1."""
    sample: Tensor
    """Index of each region's sample, (N,)."""
    background: Tensor
    """Whether a region is its sample's background, (N,) bool."""
    texts: Tensor
    """(K, L, D)."""
    positive: Tensor
    """Text of each region's prompt, (N,), on the CPU."""
    negative: Tensor
    """Text of each region's negative prompt, (N,), on the CPU."""


def sample(
    model: Diffusion,
    schedule: DDIMScheduler,
    latents: Tensor,
    regions: Regions,
    guidance: float,
    backdrops: Tensor,
    colours: Tensor,
) -> Iterator[Tensor]:
    """Samples B latents; each step fuses the denoised regions (l. 125-157).

    While bootstrapping, every foreground region has a latent of its own. After it, all regions of a
    sample denoise the same latent, and what they share is evaluated once: the unconditional
    pass of a negative prompt, and equal prompts.

    Args:
        model: the diffusion model.
        schedule: with its timesteps set.
        latents: pure noise, (B, C, h, w); also noises the backdrops (l. 119, 136).
        regions: those of all samples.
        guidance: its scale.
        backdrops: latents of constant colours, (P, C, h, w).
        colours: the backdrop that each region sees in each bootstrapped step, (steps, N); those of
            the backgrounds are not read.

    Yields:
        The latents after each step, (B, C, h, w).
    """
    masks, owner, texts = regions.masks, regions.sample, regions.texts
    own = plan(torch.arange(len(owner)), regions.positive, regions.negative)
    shared = plan(owner.cpu(), regions.positive, regions.negative)
    visible = masks.masked_fill(regions.background[:, None, None, None], 1)
    start = latents[owner]
    # Where no mask lies (never, as backgrounds fill) the published code leaves 0 as well (l. 157).
    weight = torch.zeros_like(latents[:, :1]).index_add_(0, owner, masks).clamp(min=1)
    for step, t in enumerate(schedule.timesteps):
        views = latents[owner]
        if step < len(colours):
            noised = schedule.add_noise(backdrops[colours[step]], start, t[None])
            views = views * visible + noised * (1 - visible)
            prediction = model.guided(views, t, texts, own, guidance)
        else:
            prediction = model.guided(latents, t, texts, shared, guidance)
        views = schedule.step(prediction, t, views).prev_sample
        latents = torch.zeros_like(latents).index_add_(0, owner, views * masks) / weight
        yield latents


class MultiDiffusion(SamplingMethod):
    """One latent, denoised under the caption outside the regions and under "a {label}" in each."""

    Options = Options

    @classmethod
    def cost(cls, options, layouts):
        """Each region alone while bootstrapping, then each distinct prompt."""
        alone = round(options.bootstrapping * options.steps)
        total = 0
        for layout in layouts:
            prompts = [layout.caption, *(region.prompt for region in layout.regions)]
            total += alone * evaluations(prompts, options)
            total += (options.steps - alone) * len({*prompts, options.negative})
        return Cost(total)

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once; the regions of a step are one batch."""
        options, model, rngs = self.options, self.model, generators(seeds)
        latents = self.start(rngs)
        bootstrapped = round(options.bootstrapping * options.steps)
        colours = [
            torch.randint(BACKDROPS, (bootstrapped, len(layout.regions) + 1), generator=rng)
            for layout, rng in zip(layouts, rngs, strict=True)
        ]
        steps = sample(
            model,
            model.schedule(options.steps),
            latents,
            self.regions(layouts),
            options.guidance,
            self.backdrops if bootstrapped else latents[:0],
            torch.cat(colours, 1),
        )
        latents = Progress(callback, options.steps).last(steps)
        return to_images(model.decode(latents))

    def regions(self, layouts: Sequence[Layout]) -> Regions:
        """Background and regions of each layout.

        The background's mask is what the regions leave (l. 201-203).
        """
        masks, prompts, owner, background = [], [], [], []
        for number, layout in enumerate(layouts):
            own = grid_masks(layout, self.side, self.options.coverage)
            masks += [(1 - own.sum(0, keepdim=True)).clamp(min=0), own]
            prompts += [layout.caption, *(region.prompt for region in layout.regions)]
            owner += [number] * (len(own) + 1)
            background += [True] + [False] * len(own)
        texts, rows = self.model.encode_prompts([*prompts, self.options.negative])
        device = self.model.device
        return Regions(
            masks=torch.cat(masks).to(device),
            sample=torch.tensor(owner, device=device),
            background=torch.tensor(background, device=device),
            texts=texts,
            positive=rows[:-1],
            negative=rows[-1].expand(len(prompts)),
        )

    @cached_property
    def backdrops(self) -> Tensor:
        """The pool of random colours as latents, (BACKDROPS, C, side, side), encoded once.

        One pool from a seed of its own serves all samples. The released code draws a pool for every
        image (l. 110-112) and notes that it need not.
        """
        rng = torch.Generator().manual_seed(0)
        colours = torch.rand(BACKDROPS, 3, 1, 1, generator=rng) * 2 - 1
        images = colours.expand(-1, -1, self.context.size, self.context.size)
        return torch.cat([self.model.encode(image[None], [rng]) for image in images])
