"""Stable Inpainting (SI), progressive: the background, then each region in its mask.

As MultiDiffusion's paper uses it (arXiv 2302.08113): auto-regressive, the background from the
caption, then every object with its mask and "a {label}". Order and checkpoint are not published.

The nine channels are those of Rombach et al.'s inpainting model: noisy latent, mask, latent of the
masked image.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.nn import functional as F

from tcig.methods.base import Cost, Progress
from tcig.methods.draws import generators
from tcig.methods.regions import Order, grid_masks, passes
from tcig.methods.sampling import SamplingMethod, SamplingOptions, evaluations
from tcig.models.diffusion import Calls, Diffusion, to_images


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Options of `si`."""

    weights: str = "sd2-community/stable-diffusion-2-inpainting"
    """With a UNet of nine channels."""
    order: Order = "large-first"
    """Of the regions."""
    handover: Literal["latent", "pixels", "pasted"] = "latent"
    """What one pass leaves to the next. `latent`: the latent itself, blanked in the next mask.
    `pixels`: the decoded image, masked and encoded again, as diffusers' pipeline does. `pasted`:
    the same, with the earlier pixels put back outside the mask, which also puts the mask's
    silhouette into the image and so into its IoU."""
    coverage: float | None = None
    """Share of a latent cell from which on a region has it; None: nearest."""


def sample(
    model: Diffusion,
    schedule: DDIMScheduler,
    latents: Tensor,
    mask: Tensor,
    masked: Tensor,
    texts: Tensor,
    calls: Calls,
    guidance: float,
    progress: Progress | None = None,
) -> Tensor:
    """Inpaints N latents (N, C, h, w) from noise; all of the image is sampled, nothing is pasted.

    Args:
        model: with a UNet of nine channels.
        schedule: with its timesteps set.
        latents: noise, (N, C, h, w).
        mask: 1 where to paint, (N, 1, h, w).
        masked: latents of the masked image, (N, C, h, w).
        texts: (K, L, D).
        calls: of each latent under its prompt.
        guidance: its scale.
        progress: is told of each step.
    """
    extra = torch.cat([mask, masked], 1)
    for t in (progress or Progress()).over(schedule.timesteps):
        noise = model.guided(latents, t, texts, calls, guidance, extra)
        latents = schedule.step(noise, t, latents).prev_sample
    return latents


class Inpainting(SamplingMethod):
    """Stable Diffusion inpainting, once for the background and once for each region."""

    Options = Options
    masked = True

    @classmethod
    def cost(cls, options, layouts):
        """All steps for the background and for each region."""
        prompts = [p for each in layouts for p in (each.caption, *(r.prompt for r in each.regions))]
        return Cost(sum(options.steps * evaluations(prompt, options) for prompt in prompts))

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Draws all layouts at once, pass by pass."""
        draws = generators(seeds)
        masks = [grid_masks(layout, self.side, self.options.coverage) for layout in layouts]
        blank = self.model.encode(torch.zeros(1, 3, self.context.size, self.context.size))
        whole = torch.ones(len(layouts), 1, self.side, self.side)
        captions = [layout.caption for layout in layouts]
        most = max(len(layout.regions) for layout in layouts)
        progress = Progress(callback, self.options.steps * (1 + most))
        empty = blank.expand(len(layouts), -1, -1, -1)
        latents = self._paint(draws, whole, empty, captions, progress)
        images = None if self.options.handover == "latent" else self.model.decode(latents)
        for painted in passes(layouts, self.options.order):
            rows = torch.tensor([n for n, _ in painted])
            mask = torch.stack([masks[n][r] for n, r in painted]).to(self.model.device)
            prompts = [layouts[n].regions[r].prompt for n, r in painted]
            if images is None:
                masked = latents[rows] * (1 - mask) + blank * mask
            else:
                hole = F.interpolate(mask, scale_factor=self.model.factor)
                masked = self.model.encode(images[rows] * (1 - hole))
            new = self._paint([draws[n] for n, _ in painted], mask, masked, prompts, progress)
            latents[rows] = new
            if images is not None:
                decoded = self.model.decode(new)
                if self.options.handover == "pasted":
                    decoded = decoded * hole + images[rows] * (1 - hole)
                images[rows] = decoded
            if callback:
                callback("pass", rows=rows.tolist(), latents=latents)
        return to_images(self.model.decode(latents) if images is None else images)

    def _paint(
        self, draws, mask: Tensor, masked: Tensor, prompts: list[str], progress: Progress
    ) -> Tensor:
        texts, calls = self.prompted(prompts)
        schedule = self.model.schedule(self.options.steps)
        start = self.start(draws)
        mask = mask.to(self.model.device)
        guidance = self.options.guidance
        latents = start, mask, masked
        return sample(self.model, schedule, *latents, texts, calls, guidance, progress)
