"""ControlNet and T2I-Adapter: text to image, steered by the class map in colours.

The papers (Zhang et al. 2023, arXiv 2302.05543; Mou et al. 2023, arXiv 2302.08453) condition on a
segmentation map that gives every pixel a class. A layout knows only its objects, so the rest is
black, which is no class in any palette.

Rounding aside, images are those of diffusers' StableDiffusionControlNetPipeline and
StableDiffusionAdapterPipeline (tests/methods/test_control.py). Unlike those, an adapter may steer a
share of the steps, and latents stay float32 whatever the dtype of the networks.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from tcig.data.files import InputError
from tcig.data.layout import Layout
from tcig.data.voc import Palette, painted
from tcig.methods.base import Progress, Weights, generators
from tcig.methods.sampling import SamplingMethod, SamplingOptions
from tcig.models.diffusion import Control, to_images
from tcig.models.loading import load_control

COPIED = (
    "in_channels",
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
)
"""Settings that a ControlNet has of the UNet that it copies."""


@dataclass(frozen=True)
class ControlOptions(SamplingOptions):
    """Options of `controlnet` and `t2i-adapter`."""

    weights: Annotated[str, Weights("diffusion")] = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """A model of the family that the network was trained on."""
    control: Annotated[str, Weights("control")] = ""
    """The network: `mini:NAME`, a folder in diffusers' layout, or a hub id."""
    palette: Palette = "voc"
    """Colours in which the network reads the class map; see `tcig.data.palettes`."""
    scale: float = 1.0
    """Factor on what the network adds to the UNet; 1 is the default of diffusers' pipelines."""
    share: float = 1.0
    """Share of the steps, the first ones, in which it steers; 1 is the default of diffusers'
    pipelines (`control_guidance_end`; SDXL's `adapter_conditioning_factor`)."""

    def __post_init__(self):
        super().__post_init__()
        if not self.control:
            raise ValueError(
                "control is empty: name a network, as this profile has none for the row"
            )
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {self.share}")


@dataclass(frozen=True)
class ControlNetOptions(ControlOptions):
    """Options of `controlnet`."""

    control: Annotated[str, Weights("control")] = "lllyasviel/control_v11p_sd15_seg"
    palette: Palette = "coco"
    """This checkpoint was trained on `coco` and on `ade20k` (README of ControlNet 1.1); `coco` has
    a colour for each class."""


@dataclass(frozen=True)
class T2IAdapterOptions(ControlOptions):
    """Options of `t2i-adapter`."""

    control: Annotated[str, Weights("control")] = "TencentARC/t2iadapter_seg_sd14v1"
    """Trained on Stable Diffusion 1.4 (its docs/AdapterZoo.md); to steer 1.5 is our choice."""
    palette: Palette = "coco-stuff"
    """The one in which this checkpoint was trained."""


class Controlled(SamplingMethod):
    """Text to image from the caption; a network beside the UNet reads the class map."""

    kind: ClassVar[str]
    """A key of `tcig.models.loading.CONTROLS`."""

    def __init__(self, context, options):
        super().__init__(context, options)
        self.network = load_control(options.control, self.kind, context.compute)
        if mismatch := self.mismatch():
            raise InputError(f"{options.control} does not fit {options.weights}: {mismatch}.")

    @abstractmethod
    def mismatch(self) -> str | None:
        """Says why the network cannot steer this UNet, if so."""

    @abstractmethod
    def control(self, maps: Tensor) -> Control:
        """Returns what steers the latents of class maps, (N, 3, size, size) in [0, 1]."""

    def maps(self, layouts: Sequence[Layout]) -> Tensor:
        """Class maps in the option's palette, (N, 3, size, size) in [0, 1], of the UNet's dtype."""
        labels = np.stack([layout.class_map(self.context.size) for layout in layouts])
        colours = torch.from_numpy(painted(labels, self.options.palette)).movedim(-1, 1)
        return (colours / 255).to(self.model.device, self.model.dtype)

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once."""
        options, progress = self.options, Progress(callback, self.options.steps)
        captions = [layout.caption for layout in layouts]
        control = self.control(self.maps(layouts))
        latents = self.text_to_image(
            generators(seeds), captions, progress, control=control, share=options.share
        )
        return to_images(self.model.decode(latents))


class ControlNet(Controlled):
    """A copy of the UNet's encoder reads the map; its outputs are added to the skip connections."""

    Options = ControlNetOptions
    kind = "controlnet"

    def mismatch(self):
        """Compares its settings with the UNet's."""
        config, model = self.network.config, self.model
        for key in COPIED:
            own, unet = (
                list(value) if isinstance(value, list | tuple) else value
                for value in (config[key], model.unet.config[key])
            )
            if own != unet:
                return f"its {key} is {own}, the UNet's {unet}"
        factor = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
        if factor != model.factor:
            return f"it reads {factor} pixels of a map a latent, the VAE makes {model.factor}"
        return None

    def control(self, maps):
        """Evaluates the network wherever the UNet is evaluated."""

        def steer(latents, timestep, texts, calls):
            down, middle = self.network(
                latents,
                timestep,
                encoder_hidden_states=texts,
                controlnet_cond=maps[calls.latents],
                conditioning_scale=self.options.scale,
                return_dict=False,
            )
            return {
                "down_block_additional_residuals": down,
                "mid_block_additional_residual": middle,
            }

        return steer


class T2IAdapter(Controlled):
    """A small network reads the map once; its features are added in the UNet's encoder."""

    Options = T2IAdapterOptions
    kind = "t2i-adapter"

    @torch.inference_mode()
    def mismatch(self):
        """Compares its features of a blank map with the UNet's levels."""
        size, unet, config = self.context.size, self.model.unet, self.network.config
        if config.in_channels != 3:
            return f"it reads maps of {config.in_channels} channels, not colours"
        if size % config.downscale_factor:
            return f"it reads maps of a multiple of {config.downscale_factor} px, not of {size}"
        blank = torch.zeros(1, 3, size, size, device=self.model.device, dtype=self.model.dtype)
        features = [tuple(feature.shape[1:3]) for feature in self.network(blank)]
        levels, side = [], self.side
        for block, channels in zip(unet.down_blocks, unet.config.block_out_channels, strict=True):
            lower = side if block.downsamplers is None else side // 2
            attends = getattr(block, "has_cross_attention", False)
            levels.append((channels, side if attends else lower))  # where diffusers adds them
            side = lower
        if features != levels:
            return f"its features have (channels, side) {features}, the UNet's levels {levels}"
        return None

    def control(self, maps):
        """Evaluates the network once."""
        features = [feature * self.options.scale for feature in self.network(maps)]

        def steer(latents, timestep, texts, calls):
            rows = [feature[calls.latents] for feature in features]
            return {"down_intrablock_additional_residuals": rows}

        return steer
