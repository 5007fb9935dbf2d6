"""Networks beside a diffusion model's UNet that steer it by an image: ControlNet, T2I-Adapter.

Each is a folder in diffusers' layout: config.json and its safetensors.
"""

from typing import NamedTuple

from diffusers import ControlNetModel, T2IAdapter
from torch import nn

from tcig.data.errors import InputError
from tcig.models.devices import PLAIN, Compute
from tcig.models.kept import kept
from tcig.models.loading import quiet, read_part, refused
from tcig.models.weights import identity_of, locate

KINDS = {"controlnet": ControlNetModel, "t2i-adapter": T2IAdapter}


class Steering(NamedTuple):
    """A network in evaluation mode, without gradients, and its weights' identity."""

    network: nn.Module
    identity: str


def load_steering(source: str, kind: str, compute: Compute = PLAIN) -> Steering:
    """A network of one of `KINDS`: `mini:NAME`, a folder, or a hub id.

    It stays on the device, `offload` or not: the UNet needs it at every step.

    Raises:
        InputError: it is no such network, or does not load.
    """
    return _load(source, kind, compute)


@kept
def _load(source: str, kind: str, compute: Compute) -> Steering:
    place, wanted = locate(source), KINDS[kind]
    if not (place / "config.json").is_file():
        raise InputError(f"{source} lacks config.json: the folder of one {wanted.__name__} has it.")
    with quiet(), refused(f"{source}: {wanted.__name__}"):
        network = read_part(place, wanted, compute.dtype)
    network.eval().requires_grad_(False).to(compute.device)
    network.to(memory_format=compute.memory_format)
    return Steering(network, identity_of(source))
