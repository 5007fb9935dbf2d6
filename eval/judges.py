"""Judges: they segment an image again into the 21 VOC labels.

`load_judge` takes a name, or name=PATH for weights from disk:

- `miniature`, `guide`: the two segmenters shipped for the embedded data;
- `deeplabv3_resnet101`: torchvision's, the network that guides TCIG in the paper;
- `mask2former`, `mask2former-instance`: transformers', MultiDiffusion's judge, at the input size
  that the hub's preprocessor says; with `-800` at the size of its published evaluation;
- `colours`: reads flat colours of the VOC palette exactly, for checking the plumbing.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcig.data.errors import InputError
from tcig.data.voc import COLOURS
from tcig.eval.mask2former import Mask2FormerJudge
from tcig.eval.segmented import Judge, Segmentation
from tcig.models import segmentation
from tcig.models.devices import PLAIN
from tcig.models.weights import locate


class SemanticJudge(Judge):
    """A network of `tcig.models.segmentation`: the argmax of its logits at its input size."""

    def __init__(self, network: segmentation.Network):
        self.identity, self.side = network.identity, network.size
        self.device = PLAIN.device
        self.module = network.module.to(self.device)

    def prepare(self, images: Sequence[Image.Image]) -> Tensor:
        """Resized (bilinear) to the network's input size, (B, 3, side, side) in [0, 1]."""
        size = (self.side,) * 2
        resized = [np.asarray(image.resize(size, Image.Resampling.BILINEAR)) for image in images]
        return torch.from_numpy(np.stack(resized)).movedim(-1, 1) / 255

    @torch.inference_mode()
    def look(self, prepared: Tensor) -> Tensor:
        """Logits (B, 21, side, side)."""
        return self.module(prepared.to(self.device))

    def read(self, found: Tensor) -> list[Segmentation]:
        """The label of the largest logit of each pixel."""
        # `max` finds the same as `argmax`, four times as fast on a processor
        labels = found.max(1).indices.to(torch.uint8).cpu().numpy()
        return [Segmentation(each) for each in labels]


@dataclass(frozen=True)
class ColourJudge(Judge):
    """Each pixel is the class whose VOC palette colour it has, background where it has none."""

    identity: str = field(default="VOC palette", init=False)

    def look(self, prepared: Sequence[Image.Image]) -> list[Segmentation]:
        """Segments RGB images at their own size."""
        found = []
        for image in prepared:
            pixels = np.asarray(image.convert("RGB"))
            labels = np.zeros(pixels.shape[:2], np.uint8)
            for index, colour in enumerate(COLOURS):
                labels[(pixels == colour).all(-1)] = index
            found.append(Segmentation(labels))
        return found


JUDGES = {
    "miniature": lambda name, path: SemanticJudge(segmentation.miniature("judge")),
    "guide": lambda name, path: SemanticJudge(segmentation.miniature("guide")),
    "deeplabv3_resnet101": lambda name, path: SemanticJudge(segmentation.deeplabv3_resnet101(path)),
    **dict.fromkeys(segmentation.MASK2FORMER, Mask2FormerJudge),
    "colours": lambda name, path: ColourJudge(),
}
WITHOUT_PATH = ("miniature", "guide", "colours")
"""Judges that have no other weights than their own."""


SOURCES = {"deeplabv3_resnet101": segmentation.DEEPLABV3} | segmentation.MASK2FORMER
"""Judge -> the weights that it takes where no path is given."""


def check_judge(spec: str) -> None:
    """Fetches the weights of a judge where they lack.

    Raises:
        InputError: no such name, a path where none is taken, or weights that cannot be had.
    """
    name, path = _parsed(spec)
    if path is None and name in SOURCES:
        locate(SOURCES[name])


def load_judge(spec: str) -> tuple[str, Judge]:
    """The judge of `NAME` or `NAME=PATH`, with its name.

    Raises:
        InputError: no such name, a path where none is taken, or weights that cannot be loaded.
    """
    name, path = _parsed(spec)
    return name, JUDGES[name](name, path)


def _parsed(spec: str) -> tuple[str, Path | None]:
    name, _, path = spec.partition("=")
    if name not in JUDGES:
        near = difflib.get_close_matches(name, JUDGES, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"no judge {name!r}{hint}: there are {', '.join(JUDGES)}.")
    if path and name in WITHOUT_PATH:
        raise InputError(f"the judge {name} takes no weights from {path}: leave out ={path}.")
    return name, Path(path) if path else None
