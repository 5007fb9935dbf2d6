"""Segmentation networks: images (B, 3, H, W) in [0, 1] -> logits (B, C, H, W) of VOC's classes.

Each comes with the identity of its weights, so that a score names what judged it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tcig.data.files import InputError, sha256
from tcig.data.voc import INDICES
from tcig.models.mini import WEIGHTS
from tcig.models.weights import fill, identity_of, locate, read_state, refused


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode without gradients, its input side and its weights' identity.

    `labels` are the label indices of its C logits, background first; all 21 unless it is an expert.
    """

    module: nn.Module
    size: int
    identity: str
    labels: tuple[int, ...] = INDICES


def miniature(name: str) -> Network:
    """A shipped segmenter of `LABELS_OF`, trained at 128x128 on the embedded data."""
    # torchvision's layers take as long to import as torch: only where they are built
    from tcig.models.mini.segmenters import LABELS_OF, load_segmenter

    if name not in LABELS_OF:
        raise InputError(f"no miniature segmenter {name!r}: there are {', '.join(LABELS_OF)}.")
    identity = sha256(WEIGHTS / f"{name}.safetensors")
    return Network(load_segmenter(name), 128, identity, LABELS_OF[name])


DEEPLABV3 = "deeplabv3_resnet101"
"""In the catalogue of weights, as judge, and as guide."""


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
        weights: a checkpoint file (.pth or .safetensors) in place of torchvision's.

    Raises:
        InputError: the file cannot be had or read, or does not fit the network.
    """
    from torchvision.models.segmentation import DeepLabV3_ResNet101_Weights
    from torchvision.models.segmentation import deeplabv3_resnet101 as build

    entry = DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1
    preset = entry.transforms()
    network = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    if weights is None:
        file = locate(DEEPLABV3) / Path(entry.url).name
        state, identity = read_state(file), identity_of(DEEPLABV3)
    else:
        state, identity = read_state(weights), sha256(weights)
    fill(network, state, weights or file)
    module = _DeepLabV3(network, preset.mean, preset.std).eval().requires_grad_(False)
    return Network(module, preset.resize_size[0], identity)


MASK2FORMER = {
    "mask2former": "facebook/mask2former-swin-large-coco-panoptic",
    "mask2former-instance": "facebook/mask2former-swin-large-coco-instance",
}
MASK2FORMER |= {f"{name}-800": source for name, source in MASK2FORMER.items()}
"""Judge -> hub id. MultiDiffusion names Mask2Former as its judge, not the checkpoint."""
PUBLISHED_SIZE = {"size": {"shortest_edge": 800, "longest_edge": 1333}, "size_divisor": 32}
"""Input of Mask2Former's own evaluation, and of the judges `-800`: its configuration for COCO
(Base-COCO-PanopticSegmentation.yaml) leaves detectron2's test size. The others take what the hub's
preprocessor says: 384 x 384."""
UNUSED = "swin.layernorm."
"""Of the backbone's parameters, those that the published files lack and nothing uses."""


def mask2former(name: str, source: Path | None = None):
    """A Mask2Former of `MASK2FORMER` through transformers, safetensors only.

    Args:
        name: a key of `MASK2FORMER`.
        source: a local folder in place of the hub id.

    Returns:
        The image processor, the model, and the identity of weights and input size.

    Raises:
        InputError: it cannot be fetched, or the folder lacks a part.
    """
    from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

    parts = ("config.json", "preprocessor_config.json", "model.safetensors")
    missing = [part for part in parts if source is not None and not (source / part).is_file()]
    if missing:
        raise InputError(
            f"{source} lacks {missing[0]}: give `--judge {name}=FOLDER`, a folder of "
            f"{', '.join(parts)}."
        )
    place = source or locate(MASK2FORMER[name])
    with refused(f"{name} in {place}"):
        size = PUBLISHED_SIZE if name.endswith("-800") else {}
        processor = AutoImageProcessor.from_pretrained(place, trust_remote_code=False, **size)
        model, loading = Mask2FormerForUniversalSegmentation.from_pretrained(
            place, use_safetensors=True, output_loading_info=True
        )
        missing = sorted(key for key in loading["missing_keys"] if UNUSED not in key)
        if missing:
            raise ValueError(f"the weights lack {missing[0]}")
    if source is not None:
        hashes = {part: sha256(source / part) for part in reversed(parts)}
        identity = " ".join([hashes.pop(parts[-1]), *(f"{p} {h}" for p, h in hashes.items())])
    else:
        identity = identity_of(MASK2FORMER[name])
    sides = "x".join(map(str, sorted(filter(None, dict(processor.size).values()))))
    return processor, model.eval().requires_grad_(False), f"{identity} input {sides}"
