"""CLIP through open_clip, from a model folder."""

from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcig.data.errors import InputError
from tcig.data.files import sha256


@dataclass(frozen=True)
class Clip:
    """A CLIP in evaluation mode without gradients, its tokenizer and its weights' identity."""

    module: nn.Module
    tokenizer: open_clip.tokenizer.SimpleTokenizer
    identity: str

    @property
    def size(self) -> int:
        """Side of the images that `encode_images` takes."""
        size = self.module.visual.image_size
        return size[0] if isinstance(size, tuple) else size

    def encode_images(self, images: Tensor) -> Tensor:
        """Images (B, 3, size, size) in [0, 1] -> unit vectors (B, D), differentiable."""
        mean, std = (
            torch.tensor(values, device=images.device).view(3, 1, 1)
            for values in (self.module.visual.image_mean, self.module.visual.image_std)
        )
        return F.normalize(self.module.encode_image((images - mean) / std), dim=-1)

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Unit vectors (len(texts), D)."""
        device = next(self.module.parameters()).device
        return F.normalize(self.module.encode_text(self.tokenizer(texts).to(device)), dim=-1)


def load_clip(folder: Path) -> Clip:
    """A CLIP from `open_clip_config.json` and `open_clip_model.safetensors` in a folder.

    A `merges.txt.gz` beside them replaces CLIP's own byte-pair merges.

    Raises:
        InputError: the folder lacks a file, or the weights do not fit the configuration.
    """
    weights, merges = folder / "open_clip_model.safetensors", folder / "merges.txt.gz"
    for needed in (folder / "open_clip_config.json", weights):
        if not needed.is_file():
            raise InputError(f"{folder} is no CLIP folder: {needed.name} is missing.")
    name = f"local-dir:{folder}"
    own = {"bpe_path": str(merges)} if merges.is_file() else {}
    try:
        module = open_clip.create_model(name)
        tokenizer = open_clip.get_tokenizer(name, **own)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{folder} cannot be loaded as a CLIP ({reason}).") from None
    return Clip(module.eval().requires_grad_(False), tokenizer, sha256(weights))
