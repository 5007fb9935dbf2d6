"""What ControlNet and T2I-Adapter share: text to image, steered by the class map in colours.

Both papers condition on a segmentation map (arXiv 2302.05543; 2302.08453). Theirs gives every pixel
a class; a layout knows its objects alone, so what they leave is black, no class, in every palette.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.palettes import Palette, painted
from tcig.methods.base import Cost, Progress
from tcig.methods.draws import generators
from tcig.methods.sampling import SamplingMethod, SamplingOptions, evaluations
from tcig.models.control import load_steering
from tcig.models.diffusion import Control, to_images


@dataclass(frozen=True)
class ControlOptions(SamplingOptions):
    """Options of `controlnet` and `t2i-adapter`."""

    weights: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """Of the family that the network was trained on."""
    control: str = ""
    """The network: `mini:NAME`, a folder in diffusers' layout, or a hub id."""
    palette: Palette = "voc"
    """In which the network reads the class map; see `tcig.data.palettes`."""
    scale: float = 1.0
    """Of what the network adds to the UNet; 1 is the default of diffusers' pipelines."""
    share: float = 1.0
    """Of the steps, the first ones, in which it steers; 1 is the default of diffusers' pipelines
    (`control_guidance_end`; of SDXL's `adapter_conditioning_factor`)."""

    def __post_init__(self):
        super().__post_init__()
        if not self.control:
            raise ValueError(
                "control is empty: name a network, as this profile has none for the row"
            )
        if not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share} is no share from 0 to 1")


class Controlled(SamplingMethod):
    """Text to image from the caption, DDIM; a network beside the UNet reads the class map."""

    network: ClassVar[str]
    """Of `tcig.models.control.KINDS`."""

    def __init__(self, context, options):
        super().__init__(context, options)
        self.steering = load_steering(options.control, self.network, context.compute)
        if fault := self.fault():
            raise InputError(f"{options.control} does not fit {options.weights}: {fault}.")

    @abstractmethod
    def fault(self) -> str | None:
        """Why the network cannot steer this UNet, if so."""

    @abstractmethod
    def control(self, maps: Tensor) -> Control:
        """What steers the latents of class maps, (N, 3, size, size) in [0, 1]."""

    @classmethod
    def sources(cls, options) -> tuple[str, ...]:
        """The diffusion model and the network."""
        return (options.weights, options.control)

    @property
    def weights(self) -> dict[str, str]:
        """Identities of both."""
        return super().weights | {"control": self.steering.identity}

    @classmethod
    def cost(cls, options, layouts):
        """The caption, in every step."""
        return Cost(sum(options.steps * evaluations(each.caption, options) for each in layouts))

    def maps(self, layouts: Sequence[Layout]) -> Tensor:
        """Class maps in the option's palette, (N, 3, size, size) in [0, 1], of the network's
        dtype."""
        labels = np.stack([layout.class_map(self.context.size) for layout in layouts])
        colours = torch.from_numpy(painted(labels, self.options.palette)).movedim(-1, 1)
        return (colours / 255).to(self.model.device, self.model.dtype)

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Draws all layouts at once."""
        captions = [layout.caption for layout in layouts]
        control = self.control(self.maps(layouts))
        share, progress = self.options.share, Progress(callback, self.options.steps)
        latents = self.text_to_image(generators(seeds), captions, control, share, progress)
        return to_images(self.model.decode(latents))
