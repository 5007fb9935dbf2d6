"""GLIGEN (Li et al. 2023, arXiv 2301.07093): boxes with phrases, by gated attention in the UNet.

As diffusers' StableDiffusionGLIGENPipeline: grounded in the first steps (scheduled sampling), the
unconditional evaluation without boxes. It is told boxes, not masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.methods.base import Cost, Progress
from tcig.methods.draws import generators
from tcig.methods.sampling import SamplingMethod, SamplingOptions
from tcig.models.diffusion import Calls, Control, plan, to_images

PLACES = 30
"""For objects, as in diffusers' pipeline; those left over hold the network's null object."""


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Options of `gligen`."""

    weights: str = "masterful/gligen-1-4-generation-text-box"
    """With a UNet of gated attention."""
    grounded: float = 0.3
    """Share of the steps, the first ones, that see the boxes: `gligen_scheduled_sampling_beta` of
    diffusers' pipeline with its default."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.grounded <= 1:
            raise ValueError(f"grounded {self.grounded} is no share from 0 to 1")


class Gligen(SamplingMethod):
    """Stable Diffusion under the caption, its UNet told each region's box and "a {label}"."""

    Options = Options

    def __init__(self, context, options):
        super().__init__(context, options)
        if self.model.unet.config.attention_type != "gated":
            raise InputError(
                f"{options.weights}: its UNet takes no boxes: give a GLIGEN model for texts and "
                "boxes (attention_type gated)."
            )

    @classmethod
    def cost(cls, options, layouts):
        """Both evaluations of each step, equal prompts or not: one of them sees no boxes."""
        return Cost(2 * options.steps * len(layouts))

    def prompted(self, prompts: Sequence[str]) -> tuple[Tensor, Calls]:
        """As of every method, but the negative prompt is a text of its own, the last."""
        texts, rows = self.model.encode_prompts(prompts)
        negative, _ = self.model.encode_prompts([self.options.negative])
        last = torch.tensor(len(texts)).expand(len(prompts))
        return torch.cat([texts, negative]), plan(torch.arange(len(prompts)), rows, last)

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Draws all layouts at once."""
        captions = [layout.caption for layout in layouts]
        control, share = self.control(layouts), self.options.grounded
        progress = Progress(callback, self.options.steps)
        latents = self.text_to_image(generators(seeds), captions, control, share, progress)
        return to_images(self.model.decode(latents))

    def control(self, layouts: Sequence[Layout]) -> Control:
        """What tells the UNet of the layouts' boxes.

        Raises:
            InputError: a layout has more than `PLACES` regions.
        """
        model = self.model
        boxes = torch.zeros(len(layouts), PLACES, 4)
        phrases = torch.zeros(len(layouts), PLACES, model.unet.config.cross_attention_dim)
        present = torch.zeros(len(layouts), PLACES)
        phrases = phrases.to(model.device, model.dtype)
        for row, layout in enumerate(layouts):
            count = len(layout.regions)
            if count > PLACES:
                raise InputError(
                    f"layout {layout.id} has {count} regions, GLIGEN takes {PLACES}: drop some."
                )
            boxes[row, :count] = torch.tensor([box_of(each.pixels) for each in layout.regions])
            present[row, :count] = 1
            prompts = [each.prompt for each in layout.regions]
            phrases[row, :count] = model.pool_prompts(prompts).to(model.dtype)
        boxes, present = (x.to(model.device, model.dtype) for x in (boxes, present))

        def steer(latents, timestep, texts, calls):
            seen = torch.zeros(len(calls.latents), 1)
            seen[calls.positive] = 1
            objects = {
                "boxes": boxes[calls.latents],
                "positive_embeddings": phrases[calls.latents],
                "masks": present[calls.latents] * seen.to(present),
            }
            return {"cross_attention_kwargs": {"gligen": objects}}

        return steer


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The bounding box of an (S, S) mask: left, top, right, bottom as shares of its side."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return tuple(float(each) / len(mask) for each in edges)
