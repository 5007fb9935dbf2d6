"""T2I-Adapter (Mou et al. 2023, arXiv 2302.08453) on segmentation maps.

A small network reads the map once; its features are added in the UNet's encoder at each evaluation,
as diffusers' StableDiffusionAdapterPipeline does.
"""

from dataclasses import dataclass

import torch

from tcig.data.palettes import Palette
from tcig.methods.control import Controlled, ControlOptions


@dataclass(frozen=True)
class Options(ControlOptions):
    """Options of `t2i-adapter`."""

    control: str = "TencentARC/t2iadapter_seg_sd14v1"
    """Trained on Stable Diffusion 1.4 (its docs/AdapterZoo.md); that it steers 1.5 is ours."""
    palette: Palette = "coco-stuff"
    """In which this checkpoint was trained."""


class T2IAdapter(Controlled):
    """Stable Diffusion under the caption, an adapter under the class map."""

    Options = Options
    network = "t2i-adapter"

    @torch.inference_mode()
    def fault(self):
        """See `Controlled`: by a blank map."""
        size, unet, config = self.context.size, self.model.unet, self.steering.network.config
        if config.in_channels != 3:
            return f"it reads maps of {config.in_channels} channels, not colours"
        if size % config.downscale_factor:
            return f"it reads maps of a multiple of {config.downscale_factor} px, not of {size}"
        blank = torch.zeros(1, 3, size, size, device=self.model.device, dtype=self.model.dtype)
        found = [(each.shape[1], each.shape[2]) for each in self.steering.network(blank)]
        wanted, side = [], self.side
        for block, channels in zip(unet.down_blocks, unet.config.block_out_channels, strict=True):
            lower = side if block.downsamplers is None else side // 2
            attends = getattr(block, "has_cross_attention", False)
            wanted.append((channels, side if attends else lower))  # where diffusers adds them
            side = lower
        if found != wanted:
            return f"its features have (channels, side) {found}, the UNet's levels {wanted}"
        return None

    def control(self, maps):
        """See `Controlled`."""
        features = [each * self.options.scale for each in self.steering.network(maps)]

        def steer(latents, timestep, texts, calls):
            given = [each[calls.latents] for each in features]
            return {"down_intrablock_additional_residuals": given}

        return steer
