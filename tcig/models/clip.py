"""CLIP through open_clip."""

import copy
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.files import InputError
from tcig.models.devices import PLAIN, Compute
from tcig.models.fuse import fuse_batchnorm
from tcig.models.weights import identity_of, locate


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
    try:
        # OpenAI's weights were trained with QuickGELU, whatever a configuration says
        # (open_clip/pretrained.py, the entries `openai`).
        module = open_clip.create_model(name, force_quick_gelu=str(source).endswith(".openai"))
        tokenizer = open_clip.get_tokenizer(name, **own)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{folder} cannot be loaded as a CLIP ({reason}).") from None
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
