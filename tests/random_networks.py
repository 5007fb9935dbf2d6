"""Rows with few steps, and random weights of networks that have no miniature."""

from contextlib import contextmanager

import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)

from tcig.data.emoji import FOLDER
from tcig.methods import views
from tcig.methods.base import gaussian
from tcig.methods.registry import ROWS
from tcig.methods.two_stage import cutouts
from tcig.models.devices import Compute
from tcig.models.mini import WEIGHTS
from tcig.profiles import load_profile
from tcig.run.spec import prepare

BASE = WEIGHTS / "stable-diffusion"
FEW = {
    "text-only": {"steps": 3},
    "si": {"steps": 3},
    "bld": {"steps": 4},
    "multidiffusion": {"steps": 5},
    "controlnet": {"steps": 3},
    "t2i-adapter": {"steps": 3},
    "gligen": {"steps": 4},
    "tcig": {"first.iterations": 2, "first.cutouts": 2, "second.steps": 5},
    "direct-guidance": {"steps": 2, "recurrence": 2},
}
"""Method -> options for few steps; fewer amplify less of the rounding."""


def row_of_few_steps(row, open_rows, settings, **compute):
    """A row of the profile `smoke`, ready to generate on a device."""
    profile = load_profile("smoke").model_copy(update={"compute": Compute(**compute)})
    settings = FEW.get(ROWS[row].method, {}) | open_rows.get(row, {}) | settings
    return prepare(row, profile, FOLDER, "0" * 64, settings)[1]


@contextmanager
def noise_of_the_cpu():
    """Noise of cutouts and views, which a GPU draws itself, is the CPU's."""

    def drawn_here(device, generators, shape):
        return gaussian(generators, shape).to(device)

    with pytest.MonkeyPatch.context() as patch:
        for module in (views, cutouts):
            patch.setattr(module, "gaussian_on", drawn_here)
        yield


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
