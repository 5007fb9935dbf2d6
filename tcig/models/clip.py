"""CLIP through open_clip, and the Inception on whose features FID and KID were published."""

import copy
import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from tcig.data.files import InputError
from tcig.models.devices import PLAIN, Compute, fuse_batchnorm
from tcig.models.weights import fill, identity_of, locate, read_state, refused


@dataclass(frozen=True)
class Clip:
    """A CLIP in evaluation mode without gradients, its tokenizer and its weights' identity."""

    module: nn.Module
    tokenizer: open_clip.tokenizer.SimpleTokenizer
    identity: str
    size: int
    """Side of the images that `encode_images` takes."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the channels, for normalisation."""
    layout: torch.memory_format = torch.contiguous_format
    """Of the images in memory."""

    def encode_images(self, images: Tensor) -> Tensor:
        """Images (B, 3, size, size) in [0, 1] -> unit vectors (B, D), differentiable."""
        mean, std = (
            torch.tensor(values, device=images.device).view(3, 1, 1)
            for values in (self.mean, self.std)
        )
        normalised = ((images - mean) / std).contiguous(memory_format=self.layout)
        return F.normalize(self.module.encode_image(normalised).to(images.dtype), dim=-1)

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Unit vectors (len(texts), D); a longer text is cut, with a warning that says where."""
        room = self.tokenizer.context_length - 2
        for text in dict.fromkeys(texts):
            if len(tokens := self.tokenizer.encode(text)) > room:
                lost = self.tokenizer.decode(tokens[room:]).strip()
                warnings.warn(
                    f"CLIP takes {room} tokens: {lost!r} was cut off {text!r}", stacklevel=2
                )
        device = next(self.module.parameters()).device
        return F.normalize(self.module.encode_text(self.tokenizer(texts).to(device)), dim=-1)


def load_clip(source: str | Path, compute: Compute = PLAIN) -> Clip:
    """A CLIP from `open_clip_config.json` and `open_clip_model.safetensors`, in float32.

    A `merges.txt.gz` beside them replaces CLIP's own byte-pair merges.

    Args:
        source: see `tcig.models.weights.locate`.
        compute: names the device.

    Raises:
        InputError: a file is lacking, or the weights do not fit the configuration.
    """
    folder = locate(source)
    weights, merges = folder / "open_clip_model.safetensors", folder / "merges.txt.gz"
    for needed in (folder / "open_clip_config.json", weights):
        if not needed.is_file():
            raise InputError(f"{folder} is no CLIP folder: {needed.name} is missing.")
    name = f"local-dir:{folder}"
    own = {"bpe_path": str(merges)} if merges.is_file() else {}
    with refused(f"{folder}", "cannot be loaded as a CLIP"):
        # OpenAI's weights were trained with QuickGELU, whatever a configuration says
        # (open_clip/pretrained.py, the entries `openai`).
        module = open_clip.create_model(name, force_quick_gelu=str(source).endswith(".openai"))
        tokenizer = open_clip.get_tokenizer(name, **own)
    visual = module.eval().requires_grad_(False).visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    mean, std = tuple(visual.image_mean), tuple(visual.image_std)
    module.to(compute.device)
    return Clip(module, tokenizer, identity_of(source), size, mean, std)


def fuse_clip(clip: Clip) -> Clip:
    """The same CLIP for optimising through: BatchNorms fused, images channels last.

    A CLIP without BatchNorms in its image encoder is returned as it is. The miniature's forward and
    backward pass takes 0.63 times as long. Results differ by rounding only.
    """
    visual = fuse_batchnorm(clip.module.visual)
    if visual is clip.module.visual:
        return clip
    module = copy.copy(clip.module)
    module._modules = clip.module._modules | {
        "visual": visual.to(memory_format=torch.channels_last)
    }
    return replace(clip, module=module, layout=torch.channels_last)


INCEPTION_FILE = URL_INCEPTION_V3.rpartition("/")[2]
"""Name of the weights."""


class Inception(FeatureExtractorInceptionV3):
    """(B, 3, H, W) uint8 -> a tuple of (B, 2048) float32, the pooled features; random weights.

    torch-fidelity's constructor unpickles a file: here it is one that holds None.
    """

    def __init__(self):
        nothing = io.BytesIO()
        torch.save(None, nothing)
        nothing.seek(0)
        super().__init__("inception", ["2048"], feature_extractor_weights_path=nothing)

    def load_state_dict(self, state_dict, **options):
        """Does the same as any module's, but nothing with None."""
        if state_dict is not None:
            return super().load_state_dict(state_dict, **options)
        return None


def load_inception(source: str | Path, compute: Compute = PLAIN) -> tuple[Inception, str]:
    """The network of `weights-inception-2015-12-05-6726825d.pth`, and the weights' identity.

    Args:
        source: see `tcig.models.weights.locate`.
        compute: names the device.

    Raises:
        InputError: the file cannot be had or read, or does not fit the network.
    """
    file = locate(source) / INCEPTION_FILE
    network = Inception()
    fill(network, read_state(file), file)
    return network.to(compute.device), identity_of(source)
