"""Segmentation networks: images (B, 3, H, W) in [0, 1] -> logits (B, 21, H, W) of VOC's classes.

Each comes with the identity of its weights, so that a score names what judged it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.models.mini.segmenters import SEGMENTERS, WEIGHTS, load_segmenter


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode without gradients, its input side and its weights' identity."""

    module: nn.Module
    size: int
    identity: str


def miniature(name: str) -> Network:
    """The shipped segmenter `guide` or `judge`, trained at 128x128 on the embedded data."""
    if name not in SEGMENTERS:
        raise InputError(f"no miniature segmenter {name!r}: there are {', '.join(SEGMENTERS)}.")
    return Network(load_segmenter(name), 128, sha256(WEIGHTS / f"{name}.safetensors"))


class _DeepLabV3(nn.Module):
    """torchvision's network behind its own normalisation."""

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std)["out"]


def deeplabv3_resnet101(weights: Path | None = None) -> Network:
    """torchvision's DeepLabV3-ResNet101, COCO_WITH_VOC_LABELS_V1 (input side 520).

    Args:
        weights: a checkpoint file (.pth or .safetensors) in place of torchvision's download,
            which is checked against the hash in its name.

    Raises:
        InputError: the file cannot be read or does not fit the network.
    """
    from torchvision.models.segmentation import DeepLabV3_ResNet101_Weights
    from torchvision.models.segmentation import deeplabv3_resnet101 as build

    entry = DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1
    preset = entry.transforms()
    network = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    if weights is None:
        state = _downloaded(entry)
        identity = Path(entry.url).name
    else:
        state, identity = _state(weights), sha256(weights)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise InputError(f"{weights} does not fit deeplabv3_resnet101: {reason}") from None
    module = _DeepLabV3(network, preset.mean, preset.std).eval().requires_grad_(False)
    return Network(module, preset.resize_size[0], identity)


def _downloaded(entry) -> dict[str, Tensor]:
    try:
        return entry.get_state_dict(check_hash=True, progress=True, weights_only=True)
    except OSError as error:
        raise InputError(
            f"{entry.url} cannot be fetched ({error}): give a local file as "
            "`--judge deeplabv3_resnet101=FILE`."
        ) from None


def _state(path: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as weights ({reason}).") from None


MASK2FORMER = {
    "mask2former": "facebook/mask2former-swin-large-coco-panoptic",
    "mask2former-instance": "facebook/mask2former-swin-large-coco-instance",
}
"""Judge -> hub id. MultiDiffusion names Mask2Former as its judge, not the checkpoint."""


def mask2former(name: str, source: Path | None = None):
    """A Mask2Former of `MASK2FORMER` through transformers, safetensors only.

    Args:
        name: a key of `MASK2FORMER`.
        source: a local folder in place of the hub id.

    Returns:
        The image processor, the model, and the identity of the weights.

    Raises:
        InputError: it cannot be fetched, or the folder lacks a part.
    """
    from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

    place = str(source or MASK2FORMER[name])
    try:
        processor = AutoImageProcessor.from_pretrained(place)
        model = Mask2FormerForUniversalSegmentation.from_pretrained(place, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{name} cannot be loaded from {place} ({reason}): give a local folder as "
            f"`--judge {name}=FOLDER`."
        ) from None
    if source is not None:
        identity = sha256(source / "model.safetensors")
    else:
        identity = f"{place}@{model.config._commit_hash}"
    return processor, model.eval().requires_grad_(False), identity
