"""ControlNet (Zhang et al. 2023, arXiv 2302.05543) on segmentation maps.

A copy of the UNet's encoder reads the map beside the latents, at each evaluation; what it finds is
added to the UNet's skip connections, as diffusers' StableDiffusionControlNetPipeline does.
"""

from dataclasses import dataclass

from tcig.data.palettes import Palette
from tcig.methods.control import Controlled, ControlOptions

ALIKE = (
    "in_channels",
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
)
"""Settings that a ControlNet has of the UNet that it copies."""


@dataclass(frozen=True)
class Options(ControlOptions):
    """Options of `controlnet`."""

    control: str = "lllyasviel/control_v11p_sd15_seg"
    palette: Palette = "coco"
    """Both `coco` and `ade20k` are what this checkpoint was trained on (README of ControlNet 1.1);
    `coco` has a colour for each class."""


class ControlNet(Controlled):
    """Stable Diffusion under the caption, a ControlNet under the class map."""

    Options = Options
    network = "controlnet"

    def fault(self):
        """See `Controlled`."""
        config, model = self.steering.network.config, self.model
        for key in ALIKE:
            own, unet = (_plain(each[key]) for each in (config, model.unet.config))
            if own != unet:
                return f"its {key} is {own}, the UNet's {unet}"
        factor = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
        if factor != model.factor:
            return f"it reads {factor} pixels of a map a latent, the VAE makes {model.factor}"
        return None

    @classmethod
    def cost(cls, options, layouts):
        """The ControlNet runs where the UNet does, while it steers."""
        cost = super().cost(options, layouts)
        each = cost.unet // options.steps
        return cost._replace(control=each * int(options.share * options.steps))

    def control(self, maps):
        """See `Controlled`."""

        def steer(latents, timestep, texts, calls):
            down, middle = self.steering.network(
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


def _plain(setting):
    return list(setting) if isinstance(setting, list | tuple) else setting
