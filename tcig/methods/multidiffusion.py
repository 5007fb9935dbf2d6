"""MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113), region-based, with bootstrapping.

Reference: omerbt/MultiDiffusion 69bcdce, region_based.py (lines cited below).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from tcig.methods.base import Cost, Progress
from tcig.methods.draws import generators
from tcig.methods.regions import grid_masks
from tcig.methods.sampling import SamplingMethod, SamplingOptions, evaluations
from tcig.models.diffusion import Diffusion, plan, to_images

BOOTSTRAPPING = {"paper": 0.2, "code": 0.4, "off": 0.0}
"""Share of the steps. The paper's 20% (T_init = 800 of 1000), the 20 of 50 steps of
the released code (l. 191), and none, the ablation of its Table 2."""
BACKDROPS = 20
"""Random colours in the pool: as many as the released code draws (l. 112)."""


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Options of `multidiffusion`."""

    bootstrapping: float | str = "paper"
    """Share of the steps in which a foreground region sees a constant random colour outside its
    mask: `paper`, `code`, `off`, or a number from 0 to 1."""
    coverage: float | None = None
    """Share of a latent cell from which on a region has it; None: nearest, as the code."""

    def __post_init__(self):
        super().__post_init__()
        share = BOOTSTRAPPING.get(self.bootstrapping, self.bootstrapping)
        try:
            within = 0 <= float(share) <= 1
        except ValueError:
            within = False
        if not within:
            names = ", ".join(BOOTSTRAPPING)
            raise ValueError(f"{self.bootstrapping!r} is none of {names} and no share from 0 to 1")
        object.__setattr__(self, "bootstrapping", float(share))


@dataclass(frozen=True)
class Regions:
    """N regions of B samples, each sample's background among them."""

    masks: Tensor
    """(N, 1, h, w): 0 and 1."""
    sample: Tensor
    """Of which sample each is, (N,)."""
    background: Tensor
    """Whether it is its sample's background, (N,) bool."""
    texts: Tensor
    """(K, L, D)."""
    positive: Tensor
    """Text of each region's prompt, (N,), on the processor, as is the next."""
    negative: Tensor
    """Text of each region's negative prompt, (N,)."""


def sample(
    model: Diffusion,
    schedule: DDIMScheduler,
    latents: Tensor,
    regions: Regions,
    guidance: float,
    backdrops: Tensor,
    colours: Tensor,
    callback: Callable[..., None] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Samples B latents, each step fusing the denoised regions (l. 125-157).

    While bootstrapping, every foreground region has a latent of its own. After it, all regions of a
    sample denoise the same latent, and what they share is evaluated once: the unconditional
    pass of a negative prompt, and equal prompts.

    Args:
        model: as said.
        schedule: with its timesteps set.
        latents: of pure noise, (B, C, h, w); also noises the backdrops (l. 119, 136).
        regions: of all samples.
        guidance: its scale.
        backdrops: latents of constant colours, (P, C, h, w).
        colours: for each bootstrapped step and region the backdrop that it sees, (steps, N); those
            of the backgrounds are not read.
        callback: called with `step` and `latents` after each step.
        progress: is told of each step.

    Returns:
        (B, C, h, w).
    """
    masks, of = regions.masks, regions.sample
    own = plan(torch.arange(len(of)), regions.positive, regions.negative)
    shared = plan(of.cpu(), regions.positive, regions.negative)
    seen = masks.masked_fill(regions.background[:, None, None, None], 1)
    start = latents[of]
    weight = torch.zeros_like(latents[:, :1]).index_add_(0, of, masks).clamp(min=1)
    # Where nothing lies (never, as backgrounds fill) the published code leaves 0 as well (l. 157).
    for step, t in enumerate((progress or Progress()).over(schedule.timesteps)):
        current = latents[of]
        if step < len(colours):
            noised = schedule.add_noise(backdrops[colours[step]], start, t[None])
            current = current * seen + noised * (1 - seen)
            noise = model.guided(current, t, regions.texts, own, guidance)
        else:
            noise = model.guided(latents, t, regions.texts, shared, guidance)
        denoised = schedule.step(noise, t, current).prev_sample
        latents = torch.zeros_like(latents).index_add_(0, of, denoised * masks) / weight
        if callback:
            callback("step", step=step, latents=latents)
    return latents


class MultiDiffusion(SamplingMethod):
    """One latent, denoised under the caption outside the regions and under "a {label}" in each."""

    Options = Options

    @classmethod
    def cost(cls, options, layouts):
        """Each region alone while bootstrapping, then each distinct prompt."""
        alone = round(options.bootstrapping * options.steps)
        found = 0
        for each in layouts:
            prompts = [each.caption, *(region.prompt for region in each.regions)]
            found += alone * sum(evaluations(prompt, options) for prompt in prompts)
            found += (options.steps - alone) * len({*prompts, options.negative})
        return Cost(found)

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Draws all layouts at once; the regions of a step are one batch."""
        options, model = self.options, self.model
        draws = generators(seeds)
        latents = self.start(draws)
        regions = self.regions(layouts)
        schedule = model.schedule(options.steps)
        steps = round(options.bootstrapping * options.steps)
        counts = [len(layout.regions) + 1 for layout in layouts]
        picked = [
            torch.randint(BACKDROPS, (steps, count), generator=draw)
            for draw, count in zip(draws, counts, strict=True)
        ]
        backdrops = self.backdrops() if steps else latents[:0]
        colours = torch.cat(picked, 1)
        progress = Progress(callback, options.steps)
        arguments = options.guidance, backdrops, colours, callback, progress
        fused = sample(model, schedule, latents, regions, *arguments)
        return to_images(model.decode(fused))

    def regions(self, layouts: Sequence) -> Regions:
        """Background and regions of each layout.

        The background's mask is what the regions leave (l. 201-203).
        """
        masks, prompts, sample_of, background = [], [], [], []
        for number, layout in enumerate(layouts):
            own = grid_masks(layout, self.side, self.options.coverage)
            masks += [(1 - own.sum(0, keepdim=True)).clamp(min=0), own]
            prompts += [layout.caption, *(region.prompt for region in layout.regions)]
            sample_of += [number] * (len(own) + 1)
            background += [True] + [False] * len(own)
        texts, rows = self.model.encode_prompts([*prompts, self.options.negative])
        place = self.model.device
        return Regions(
            masks=torch.cat(masks).to(place),
            sample=torch.tensor(sample_of, device=place),
            background=torch.tensor(background, device=place),
            texts=texts,
            positive=rows[:-1],
            negative=rows[-1].expand(len(prompts)),
        )

    def backdrops(self) -> Tensor:
        """The pool of random colours as latents, (BACKDROPS, C, side, side), encoded once.

        One pool serves all samples, its draws come from a seed of its own; the released code
        draws a pool for every image (l. 110-112) and notes that it need not.
        """
        if not hasattr(self, "_backdrops"):
            draw = torch.Generator().manual_seed(0)
            colours = torch.rand(BACKDROPS, 3, 1, 1, generator=draw) * 2 - 1
            images = colours.expand(-1, -1, self.context.size, self.context.size)
            encoded = [self.model.encode(image[None], [draw]) for image in images]
            self._backdrops = torch.cat(encoded)
        return self._backdrops
