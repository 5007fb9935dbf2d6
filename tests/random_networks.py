"""Folders of random weights of networks that fit the miniature models and have no miniature."""

import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)

from tcig.models.mini import WEIGHTS

BASE = WEIGHTS / "stable-diffusion"


def stirred(network):
    """The network with noise for those of its weights that start at zero."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def unet_of(base=BASE):
    return UNet2DConditionModel.from_pretrained(base / "unet")


def write_controlnet(folder, **changes):
    """A copy of the miniature's encoder whose outputs are stirred."""
    torch.manual_seed(1)
    settings = {"conditioning_embedding_out_channels": (8, 16, 32)} | changes
    stirred(ControlNetModel.from_unet(unet_of(), **settings)).save_pretrained(folder)
    return folder


def write_adapter(folder, **changes):
    """An untrained adapter; its outputs are as large as the features that they are added to."""
    torch.manual_seed(2)
    settings = T2IAdapter.load_config(WEIGHTS / "t2i-adapter") | changes
    T2IAdapter.from_config(settings).save_pretrained(folder)
    return folder


def write_gligen(folder):
    """The miniature with gated attention, whose gates are open and whose objects are loud: else
    boxes would move nothing."""
    torch.manual_seed(3)
    pipeline = StableDiffusionPipeline.from_pretrained(BASE)
    gated = UNet2DConditionModel.from_config(pipeline.unet.config, attention_type="gated")
    lacking, beyond = gated.load_state_dict(pipeline.unet.state_dict(), strict=False)
    assert lacking
    assert not beyond
    with torch.no_grad():
        for name, parameter in gated.named_parameters():
            if name.endswith(("alpha_attn", "alpha_dense")):
                parameter.fill_(0.8)
        gated.position_net.linears[-1].weight.mul_(50)
    pipeline.register_modules(unet=stirred(gated))
    pipeline.save_pretrained(folder)
    return folder
