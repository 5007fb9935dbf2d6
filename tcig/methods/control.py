"""ControlNet, T2I-Adapter and GLIGEN: text to image from the caption, steered by the layout.

ControlNet (Zhang et al. 2023, arXiv 2302.05543) and T2I-Adapter (Mou et al. 2023, arXiv 2302.08453)
read a segmentation map that gives every pixel a class. A layout knows only its objects, so the rest
is black, which is no class in any palette. GLIGEN (Li et al. 2023, arXiv 2301.07093) reads boxes
with phrases, not masks.

Rounding aside, images are those of diffusers' StableDiffusionControlNetPipeline,
StableDiffusionAdapterPipeline and StableDiffusionGLIGENPipeline (tests/methods/test_control.py).
Unlike those, an adapter may steer a share of the steps, each sample of a batch has its own boxes,
and latents stay float32 whatever the dtype of the networks.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from tcig.data.files import InputError, describe
from tcig.data.layout import Layout
from tcig.data.voc import Palette, painted
from tcig.methods.base import Cost, Weights, generators
from tcig.methods.sampling import SamplingOptions, TextOnly
from tcig.models.diffusion import Control, plan
from tcig.models.loading import load_control

MAX_BOXES = 30
"""GLIGEN's objects, as in diffusers' pipeline; unused ones hold the network's null object."""


@dataclass(frozen=True)
class ControlOptions(SamplingOptions):
    """Options of `controlnet` and `t2i-adapter`."""

    weights: Annotated[str, Weights("diffusion")] = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """A model of the family that the network was trained on."""
    control: Annotated[str, Weights("control")] = ""
    """The network: `mini:NAME`, a folder in diffusers' layout, or a hub id."""
    palette: Palette = "voc"
    """Colours in which the network reads the class map; see `tcig.data.voc`."""
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


class Controlled(TextOnly):
    """Text to image; a network beside the UNet reads the class map."""

    kind: ClassVar[str]
    """A key of `tcig.models.loading.CONTROLS`."""

    def __init__(self, context, options):
        super().__init__(context, options)
        self.network = load_control(options.control, self.kind, context.compute)
        self._try_network()

    @torch.inference_mode()
    def _try_network(self) -> None:
        """Predicts once under a blank map.

        Raises:
            InputError: the network cannot steer this UNet.
        """
        maps = torch.zeros(1, 3, self.context.size, self.context.size)
        try:
            control = self.control(maps.to(self.model.device, self.model.dtype))
            timestep = self.model.schedule(1).timesteps[0]
            self.predictor(["a"])(self.start(generators([0])), timestep, control=control)
        except (FloatingPointError, torch.OutOfMemoryError):
            return  # the fault of a sample or of a batch, not of the network
        except (RuntimeError, TypeError, ValueError) as error:
            if "CUDA error" in str(error):
                return  # the first batch fails as well, and says that the GPU is lost
            names = f"{self.options.control} does not fit {self.options.weights}"
            raise InputError(f"{names}: {describe(error, '')}.") from error

    @abstractmethod
    def control(self, maps: Tensor) -> Control:
        """Returns what steers the latents of class maps, (N, 3, size, size) in [0, 1]."""

    def steer(self, layouts):
        """Steers by the class maps in the option's palette."""
        labels = np.stack([layout.class_map(self.context.size) for layout in layouts])
        colours = torch.from_numpy(painted(labels, self.options.palette)).movedim(-1, 1)
        maps = (colours / 255).to(self.model.device, self.model.dtype)
        return self.control(maps), self.options.share


class ControlNet(Controlled):
    """A copy of the UNet's encoder reads the map; its outputs are added to the skip connections."""

    Options = ControlNetOptions
    kind = "controlnet"

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

    def control(self, maps):
        """Evaluates the network once."""
        features = [feature * self.options.scale for feature in self.network(maps)]
        levels = len(self.model.unet.down_blocks)
        if len(features) != levels:  # diffusers takes as many as there are
            raise ValueError(f"it has features of {len(features)} levels, the UNet has {levels}")

        def steer(latents, timestep, texts, calls):
            rows = [feature[calls.latents] for feature in features]
            return {"down_intrablock_additional_residuals": rows}

        return steer


@dataclass(frozen=True)
class GligenOptions(SamplingOptions):
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


class Gligen(TextOnly):
    """The UNet's gated attention reads each region's box and "a {label}"."""

    Options = GligenOptions

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
        """Text embeddings and evaluations; the negative prompt is a text of its own, the last."""
        texts, rows = self.model.encode_prompts(prompts)
        negative, _ = self.model.encode_prompts([self.options.negative])
        last = torch.tensor(len(texts)).expand(len(prompts))
        return torch.cat([texts, negative]), plan(torch.arange(len(prompts)), rows, last)

    def steer(self, layouts):
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

        def control(latents, timestep, texts, calls):
            positive = torch.zeros(len(calls.latents), 1)
            positive[calls.positive] = 1
            objects = {
                "boxes": boxes[calls.latents],
                "positive_embeddings": phrases[calls.latents],
                "masks": present[calls.latents] * positive.to(present),
            }
            return {"cross_attention_kwargs": {"gligen": objects}}

        return control, self.options.grounded


def bounding_boxes(layout: Layout) -> Tensor:
    """The regions' boxes, (R, 4): left, top, right, bottom as shares of the layout's side."""
    boxes = np.stack([coco_mask.toBbox(region.mask) for region in layout.regions])
    boxes[:, 2:] += boxes[:, :2]
    return torch.from_numpy(boxes / layout.side).float()
