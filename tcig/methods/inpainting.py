"""Stable Inpainting (SI), progressive: the background, then each region in its mask.

As MultiDiffusion's paper uses it (arXiv 2302.08113): auto-regressive, the background from the
caption, then every object with its mask and "a {label}". Order and checkpoint are not published.

The nine channels are those of Rombach et al.'s inpainting model: noisy latent, mask, latent of the
masked image.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch.nn import functional as F

from tcig.methods.base import Cost, Progress, Weights, generators
from tcig.methods.regions import Order, passes
from tcig.methods.sampling import SamplingMethod, SamplingOptions, evaluations
from tcig.models.diffusion import to_images


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Options of `si`."""

    weights: Annotated[str, Weights("diffusion")] = "sd2-community/stable-diffusion-2-inpainting"
    """A model whose UNet has nine channels."""
    order: Order = "large-first"
    """Order in which the regions are painted."""
    handover: Literal["latent", "pixels", "pasted"] = "latent"
    """What one pass leaves to the next. `latent`: the latent itself, blanked in the next mask.
    `pixels`: the decoded image, masked and encoded again, as diffusers' pipeline does. `pasted`:
    the same, with the earlier pixels put back outside the mask, which also puts the mask's
    silhouette into the image and so into its IoU."""
    coverage: float | None = None
    """Share of a latent cell that a region must cover to own it; None: nearest."""


class Inpainting(SamplingMethod):
    """Stable Diffusion inpainting, once for the background and once for each region."""

    Options = Options
    masked = True

    @classmethod
    def cost(cls, options, layouts):
        """All steps for the background and for each region."""
        regions = (region.prompt for layout in layouts for region in layout.regions)
        background = super().cost(options, layouts)
        return Cost(background.unet + options.steps * evaluations(regions, options))

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once, pass by pass."""
        options, model = self.options, self.model
        rngs = generators(seeds)
        regions = passes(layouts, options.order, self.side, options.coverage)
        progress = Progress(callback, options.steps * (1 + len(regions)))
        blank = model.encode(torch.zeros(1, 3, self.context.size, self.context.size))
        everywhere = torch.ones(len(layouts), 1, self.side, self.side, device=model.device)
        extra = torch.cat([everywhere, blank.expand(len(layouts), -1, -1, -1)], 1)
        captions = [layout.caption for layout in layouts]
        latents = self.text_to_image(rngs, captions, progress, extra)
        images = None if options.handover == "latent" else model.decode(latents)
        for rows, mask, prompts in regions:
            mask = mask.to(model.device)
            if images is None:
                masked = latents[rows] * (1 - mask) + blank * mask
            else:
                hole = F.interpolate(mask, scale_factor=model.factor)
                masked = model.encode(images[rows] * (1 - hole))
            own_rngs = [rngs[row] for row in rows]
            extra = torch.cat([mask, masked], 1)
            latents[rows] = self.text_to_image(own_rngs, prompts, progress, extra)
            if images is not None:
                decoded = model.decode(latents[rows])
                if options.handover == "pasted":
                    decoded = decoded * hole + images[rows] * (1 - hole)
                images[rows] = decoded
        return to_images(model.decode(latents) if images is None else images)
