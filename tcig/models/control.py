"""Networks that steer a diffusion model's UNet by an image: ControlNet, T2I-Adapter."""

from diffusers import ControlNetModel, T2IAdapter
from torch import nn

from tcig.data.files import InputError
from tcig.models.devices import PLAIN, Compute
from tcig.models.kept import kept
from tcig.models.loading import quiet, read_part, refused
from tcig.models.weights import locate

KINDS = {"controlnet": ControlNetModel, "t2i-adapter": T2IAdapter}


@kept
def load_control(source: str, kind: str, compute: Compute = PLAIN) -> nn.Module:
    """Loads a network in diffusers' layout, in evaluation mode, without gradients.

    It stays on the device even with `offload`, because the UNet needs it at every step.

    Args:
        source: `mini:NAME`, a folder, or a hub id.
        kind: a key of `KINDS`.
        compute: device, dtype and memory format.

    Raises:
        InputError: the folder is not such a network, or does not load.
    """
    folder, wanted = locate(source), KINDS[kind]
    if not (folder / "config.json").is_file():
        raise InputError(f"{source} lacks config.json: the folder of one {wanted.__name__} has it.")
    with quiet(), refused(f"{source}: {wanted.__name__}"):
        network = read_part(folder, wanted, compute.dtype)
    network.eval().requires_grad_(False).to(compute.device)
    return network.to(memory_format=compute.memory_format)
