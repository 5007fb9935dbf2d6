"""Judges: they segment an image again into the 21 VOC labels.

`load_judge` takes

- a name of `JUDGES`, or NAME=PATH for weights from disk:
  `miniature`, `guide`: the two segmenters shipped for the embedded data;
  `deeplabv3_resnet101`: torchvision's, the network that guides TCIG in the paper;
  `mask2former`, `mask2former-instance`: transformers', MultiDiffusion's judge, at the input size
  that the hub's preprocessor says; with `-800` at the size of its published evaluation;
  `colours`: reads flat colours of the VOC palette exactly, for checking the plumbing;
- the name of an installed package's entry point;
- path/to/file.py:Class, a `Judge` of your own.
"""

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter

from tcig.data.files import InputError, shown
from tcig.data.voc import COLOURS, NUM_LABELS
from tcig.eval.records import Instance, Kind
from tcig.models import segmentation
from tcig.models.devices import PLAIN
from tcig.models.plugins import PluginError, class_in_file, load_class, refusing, source_of
from tcig.models.weights import locate

GROUP = "tcig.judges"
"""Entry points by which an installed package adds judges, as `name = "module:Class"`."""
INSTANCES = TypeAdapter(tuple[Instance, ...] | None)


@dataclass(frozen=True)
class Segmentation:
    """A label map, (H, W) uint8 of 0..20, and the objects found; `instances` None if unknown."""

    labels: np.ndarray
    instances: tuple[Instance, ...] | None = None


class Judge(ABC):
    """Segments images into VOC's classes: what generated images are scored by.

    A subclass of your own is called without arguments, sets `identity` and defines `segment`; then
    `--judge path/to/file.py:Class` takes it wherever a judge is named. `tcig check` tries it.
    """

    identity: str
    """Names the weights and settings: scores under another identity are not reused."""
    kind: Kind = "plug-in"

    @abstractmethod
    def segment(self, images: Sequence[Image.Image]) -> Sequence[np.ndarray]:
        """Segments a batch of images; each map depends on its image alone.

        Args:
            images: RGB, all of one size.

        Returns:
            For each image its label map, an (H, W) array of integers: 0 for background, 1 to 20 for
            the classes of `tcig.data.voc.CLASSES`. It has the image's size, or another of the same
            shape, which is brought to the size of the comparison by nearest neighbour. In place of
            an array it may be a `Segmentation`, with the objects found, each a dictionary as
            `tcig.eval.records.Instance`.
        """


class PluginJudge(Judge):
    """A judge from outside, called under guard, its label maps checked."""

    def __init__(self, name: str, judge: Judge, identity: str):
        self.name, self.judge, self.identity = name, judge, identity
        self._source = source_of(judge.segment)

    def segment(self, images: Sequence[Image.Image]) -> list[Segmentation]:
        """Calls the judge.

        Raises:
            PluginError: it raises something, or does not return label maps.
        """
        where, found = f"the judge {self.name}", []
        with refusing(where, "failed", self._source):
            maps = self.judge.segment(list(images))
            if not hasattr(maps, "__len__") or len(maps) != len(images):
                count = len(maps) if hasattr(maps, "__len__") else f"a {type(maps).__name__}"
                raise PluginError(
                    f"{where} gave {count} label maps for {len(images)} images; expected one for "
                    "each."
                )
            for each, image in zip(maps, images, strict=True):
                each = each if isinstance(each, Segmentation) else Segmentation(each)
                labels = np.asarray(each.labels)
                check_labels(where, labels, image.size)
                instances = INSTANCES.validate_python(each.instances)
                found.append(Segmentation(labels.astype(np.uint8), instances))
        return found


def check_labels(where: str, labels: np.ndarray, size: tuple[int, int]) -> None:
    """Checks one label map of an image of `size`, width and height in pixels.

    Raises:
        PluginError: it is not an (H, W) array of integers 0..20 in the image's shape.
    """
    width, height = size
    if labels.ndim != 2 or not labels.size or labels.shape[0] * width != labels.shape[1] * height:
        raise PluginError(
            f"{where} gave a label map of shape {labels.shape} for an image of {width}x{height}; "
            f"expected ({height}, {width}), one label a pixel."
        )
    if labels.dtype.kind not in "iu":
        raise PluginError(f"{where} gave labels of type {labels.dtype}; expected integers.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= NUM_LABELS:
        worst = low if low < 0 else high
        hint = "; map 255, VOC's unlabelled border, to 0, the background" if worst == 255 else ""
        raise PluginError(f"{where} gave the label {worst}; expected integers from 0 to 20{hint}.")


class SemanticJudge(Judge):
    """A network of `tcig.models.segmentation`: the argmax of its logits at its input size."""

    kind = "built-in"

    def __init__(self, network: segmentation.Network):
        self.identity, self.side = network.identity, network.size
        self.device = PLAIN.device
        self.module = network.module.to(self.device)

    @torch.inference_mode()
    def segment(self, images: Sequence[Image.Image]) -> list[Segmentation]:
        """Segments RGB images, resized (bilinear) to the network's input size."""
        size = (self.side,) * 2
        resized = [np.asarray(image.resize(size, Image.Resampling.BILINEAR)) for image in images]
        pixels = torch.from_numpy(np.stack(resized)).movedim(-1, 1) / 255
        logits = self.module(pixels.to(self.device))
        # `max` finds the same as `argmax`, four times as fast on a processor
        labels = logits.max(1).indices.to(torch.uint8).cpu().numpy()
        return [Segmentation(each) for each in labels]


class ColourJudge(Judge):
    """Each pixel has the class of its colour in VOC's palette; other colours are background."""

    kind, identity = "built-in", "VOC palette"

    def segment(self, images: Sequence[Image.Image]) -> list[Segmentation]:
        """Segments images at their own size."""
        found = []
        for image in images:
            pixels = np.asarray(image.convert("RGB"))
            labels = np.zeros(pixels.shape[:2], np.uint8)
            for index, colour in enumerate(COLOURS):
                labels[(pixels == colour).all(-1)] = index
            found.append(Segmentation(labels))
        return found


def _mask2former(name: str, path: Path | None) -> Judge:
    from tcig.eval.mask2former import Mask2FormerJudge

    return Mask2FormerJudge(name, path)


JUDGES = {
    "miniature": lambda name, path: SemanticJudge(segmentation.miniature("judge")),
    "guide": lambda name, path: SemanticJudge(segmentation.miniature("guide")),
    "deeplabv3_resnet101": lambda name, path: SemanticJudge(segmentation.deeplabv3_resnet101(path)),
    **dict.fromkeys(segmentation.MASK2FORMER, _mask2former),
    "colours": lambda name, path: ColourJudge(),
}
SOURCES = {"deeplabv3_resnet101": segmentation.DEEPLABV3} | segmentation.MASK2FORMER
"""Judge -> the weights that it takes where no path is given; others have weights of their own."""


def check_judges(specs: Sequence[str]) -> None:
    """Fetches missing weights of judges; loads the code of those from outside.

    Raises:
        InputError: a judge is unknown, two have one name, a path is given where none is taken, or
            weights cannot be fetched.
    """
    names = [judge_name(spec) for spec in specs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"the judge {twice} is named twice, of {', '.join(specs)}; rename one.")
    for spec in specs:
        name, target, path = _find(spec)
        if target:
            load_class(target, Judge)
        elif path is None and name in SOURCES:
            locate(SOURCES[name])


def load_judge(spec: str) -> tuple[str, Judge]:
    """Loads a judge; returns its name and itself. The module's text says what is taken.

    Raises:
        InputError: the judge is unknown, a path is given where none is taken, or weights cannot be
            loaded.
        PluginError: a judge from outside cannot be set up, or has no identity.
    """
    name, target, path = _find(spec)
    if not target:
        return name, JUDGES[name](name, path)
    kind, code = load_class(target, Judge)
    with refusing(f"the judge {name}", "cannot be set up", source_of(kind.segment)):
        judge = kind()
        identity = judge.identity
    if not isinstance(identity, str) or not identity:
        raise PluginError(f"the judge {name} has the identity {shown(identity)}; expected a text.")
    return name, PluginJudge(name, judge, f"{identity} code {code}")


def judge_name(spec: str) -> str:
    """Returns the name under which a judge's scores are kept.

    Raises:
        InputError: the judge is unknown, or a path is given where none is taken.
    """
    return _find(spec)[0]


def _find(spec: str) -> tuple[str, str | None, Path | None]:
    """Returns name, `module:Class` or `file.py:Class` if from outside, and path of weights."""
    if name := class_in_file(spec):
        if name in JUDGES:
            raise InputError(f"{spec}: tcig has a judge {name} of its own, rename the class.")
        return check_name(name), spec, None
    name, _, path = spec.partition("=")
    if name in JUDGES:
        if path and name not in SOURCES:
            raise InputError(f"the judge {name} takes no weights from {path}: leave out ={path}.")
        return name, None, Path(path) if path else None
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    if spec in installed:
        return check_name(spec), installed[spec], None
    known = [*JUDGES, *installed]
    near = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(
        f"unknown judge {spec!r}{hint}; available: {', '.join(known)}, or path/to/file.py:Class."
    )


def check_name(name: str) -> str:
    """Returns a judge's name, which also names the folder of its scores.

    Raises:
        InputError: it has other characters than letters, digits, _, - and dots.
    """
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise InputError(f"judge {name!r}: expected a name of letters, digits, _, - and dots.")
    return name
