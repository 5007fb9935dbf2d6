"""GLIGEN (Li et al. 2023, arXiv 2301.07093): boxes with phrases, by gated attention in the UNet.

It is told boxes, not masks. Rounding aside, images are those of diffusers'
StableDiffusionGLIGENPipeline (tests/methods/test_control.py), which takes the same boxes for all
prompts of a call. Here each sample of a batch has its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from tcig.data.files import InputError
from tcig.data.layout import Layout
from tcig.methods.base import Cost, Progress, Weights, generators
from tcig.methods.sampling import SamplingMethod, SamplingOptions
from tcig.models.diffusion import Control, plan, to_images

MAX_BOXES = 30
"""Objects, as in diffusers' pipeline; unused ones hold the network's null object."""


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Options of `gligen`."""

    weights: Annotated[str, Weights("diffusion")] = "masterful/gligen-1-4-generation-text-box"
    """A model whose UNet has gated attention."""
    grounded: float = 0.3
    """Share of the steps, the first ones, that see the boxes: `gligen_scheduled_sampling_beta` of
    diffusers' pipeline with its default."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.grounded <= 1:
            raise ValueError(f"grounded must be from 0 to 1, got {self.grounded}")


class Gligen(SamplingMethod):
    """The UNet's gated attention reads each region's box and "a {label}"."""

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
        """Two evaluations a step even of equal prompts: one of them sees no boxes."""
        return Cost(2 * options.steps * len(layouts))

    def prompted(self, prompts):
        """As of every method, but the negative prompt is a text of its own, the last."""
        texts, rows = self.model.encode_prompts(prompts)
        negative, _ = self.model.encode_prompts([self.options.negative])
        last = torch.tensor(len(texts)).expand(len(prompts))
        return torch.cat([texts, negative]), plan(torch.arange(len(prompts)), rows, last)

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once."""
        options, progress = self.options, Progress(callback, self.options.steps)
        captions = [layout.caption for layout in layouts]
        control, rngs = self.control(layouts), generators(seeds)
        latents = self.text_to_image(
            rngs, captions, progress, control=control, share=options.grounded
        )
        return to_images(self.model.decode(latents))

    def control(self, layouts: Sequence[Layout]) -> Control:
        """Tells the UNet of the boxes, except in the evaluations of the negative prompt.

        Raises:
            InputError: a layout has more than `MAX_BOXES` regions.
        """
        model = self.model
        boxes = torch.zeros(len(layouts), MAX_BOXES, 4)
        phrases = torch.zeros(len(layouts), MAX_BOXES, model.unet.config.cross_attention_dim)
        present = torch.zeros(len(layouts), MAX_BOXES)
        boxes, phrases, present = (
            part.to(model.device, model.dtype) for part in (boxes, phrases, present)
        )
        for row, layout in enumerate(layouts):
            count = len(layout.regions)
            if count > MAX_BOXES:
                raise InputError(
                    f"layout {layout.id} has {count} regions, GLIGEN takes {MAX_BOXES}: drop some."
                )
            boxes[row, :count] = bounding_boxes(layout).to(boxes)
            phrases[row, :count] = model.pool_prompts([r.prompt for r in layout.regions]).to(boxes)
            present[row, :count] = 1

        def steer(latents, timestep, texts, calls):
            positive = torch.zeros(len(calls.latents), 1)
            positive[calls.positive] = 1
            objects = {
                "boxes": boxes[calls.latents],
                "positive_embeddings": phrases[calls.latents],
                "masks": present[calls.latents] * positive.to(present),
            }
            return {"cross_attention_kwargs": {"gligen": objects}}

        return steer


def bounding_boxes(layout: Layout) -> Tensor:
    """The regions' boxes, (R, 4): left, top, right, bottom as shares of the layout's side."""
    boxes = np.stack([coco_mask.toBbox(region.mask) for region in layout.regions])
    boxes[:, 2:] += boxes[:, :2]
    return torch.from_numpy(boxes / layout.side).float()
