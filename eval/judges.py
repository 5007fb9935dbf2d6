"""Judges: they segment an image again into the 21 VOC labels.

`load_judge` takes a name, or name=PATH for weights from disk:

- `miniature`, `guide`: the two segmenters shipped for the embedded data;
- `deeplabv3_resnet101`: torchvision's, the network that guides TCIG in the paper;
- `mask2former`, `mask2former-instance`: transformers', MultiDiffusion's judge;
- `colours`: reads flat colours of the VOC palette exactly, for checking the plumbing.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tcig.data.errors import InputError
from tcig.data.masks import encode
from tcig.data.voc import BY_LABEL, COLOURS, VOC_WORDS
from tcig.models import segmentation
from tcig.models.devices import PLAIN
from tcig.models.frozen import frozen
from tcig.models.kept import keep_memory
from tcig.models.weights import locate


@dataclass(frozen=True)
class Instance:
    """One object that an instance judge found: class, confidence 0..1, mask as RLE."""

    label: str
    score: float
    mask: dict


@dataclass(frozen=True)
class Segmentation:
    """`labels` (H, W) uint8 at the judge's own output size; `instances` None if it knows none."""

    labels: np.ndarray
    instances: tuple[Instance, ...] | None = None


class Judge(Protocol):
    """What scoring needs of a judge."""

    identity: str
    """Of its weights and settings; scores under another identity are not reused."""

    def segment(self, images: Sequence[Image.Image]) -> list[Segmentation]:
        """Segments RGB images of one size."""


class SemanticJudge:
    """A network of `tcig.models.segmentation`: the argmax of its logits at its input size."""

    def __init__(self, network: segmentation.Network):
        self.identity, self.side = network.identity, network.size
        self.device = PLAIN.device
        self.module = frozen(network.module).to(self.device, memory_format=torch.channels_last)
        keep_memory()

    @torch.inference_mode()
    def segment(self, images: Sequence[Image.Image]) -> list[Segmentation]:
        """Segments RGB images, resized (bilinear) to the network's input size."""
        size = (self.side,) * 2
        resized = [np.asarray(image.resize(size, Image.Resampling.BILINEAR)) for image in images]
        batch = torch.from_numpy(np.stack(resized)).to(self.device).movedim(-1, 1) / 255
        # `max` finds the same as `argmax`, four times as fast on a processor
        labels = self.module(batch).max(1).indices.to(torch.uint8).cpu().numpy()
        return [Segmentation(each) for each in labels]


class Mask2FormerJudge:
    """Mask2Former, its COCO categories mapped to VOC's classes by name.

    Segments below `THRESHOLD` are dropped; for the panoptic output, so are those of which less
    than `OVERLAP` survives the others. For it the values are those of Mask2Former's own
    configurations (OBJECT_MASK_THRESHOLD, OVERLAP_THRESHOLD); that the instance output takes the
    same threshold is ours, its own code keeps the best 100 whatever their score. Where instances
    overlap, the more confident lies on top.
    """

    THRESHOLD = OVERLAP = 0.8

    def __init__(self, name: str, source: Path | None = None):
        self.processor, self.model, weights = segmentation.mask2former(name, source)
        self.panoptic = name == "mask2former"
        self.identity = f"{weights} threshold {self.THRESHOLD} overlap {self.OVERLAP}"
        self.device = PLAIN.device
        self.model.to(self.device)
        names = {number: text.lower() for number, text in self.model.config.id2label.items()}
        words = {number: VOC_WORDS.get(text, text) for number, text in names.items()}
        self.labels = {number: word for number, word in words.items() if word in BY_LABEL}
        missing = set(BY_LABEL) - set(self.labels.values())
        if missing:
            raise InputError(
                f"{source or name} does not know {', '.join(sorted(missing))}: "
                "a judge must name COCO's categories."
            )

    @torch.inference_mode()
    def segment(self, images: Sequence[Image.Image]) -> list[Segmentation]:
        """Segments RGB images; label maps and masks are of the images' own size."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        sizes = [(image.height, image.width) for image in images]
        if self.panoptic:
            found = [
                self._panoptic(classes, masks, size)
                for classes, masks, size in zip(
                    outputs.class_queries_logits, outputs.masks_queries_logits, sizes, strict=True
                )
            ]
        else:
            found = self.processor.post_process_instance_segmentation(
                SimpleNamespace(  # its maps are made on the processor
                    class_queries_logits=outputs.class_queries_logits.cpu(),
                    masks_queries_logits=outputs.masks_queries_logits.cpu(),
                ),
                self.THRESHOLD,
                target_sizes=sizes,
                return_binary_maps=True,
            )
        return [self._classes(each, size) for each, size in zip(found, sizes, strict=True)]

    def _panoptic(self, classes: Tensor, masks: Tensor, size: tuple[int, int]) -> dict:
        """Panoptic inference of Mask2Former's own code (maskformer_model.py, panoptic_inference).

        transformers' post-processing differs: it gives a segment all the pixels that it wins, also
        those that its mask does not cover.

        Args:
            classes: logits of the queries, (Q, C + 1), the last for "no object".
            masks: logits of the queries' masks, (Q, h, w).
            size: height and width of the result.
        """
        scores, labels = classes.softmax(-1).max(-1)
        kept = (labels != classes.shape[-1] - 1) & (scores > self.THRESHOLD)
        masks = F.interpolate(masks[None].float(), size, mode="bilinear", align_corners=False)[0]
        scores, labels, masks = scores[kept], labels[kept], masks[kept].sigmoid()
        maps, segments = torch.full(size, -1), []
        if len(masks):
            winner = (scores[:, None, None] * masks).argmax(0)
        for k, mask in enumerate(masks >= 0.5):
            won = winner == k
            seen = won & mask
            if seen.any() and won.sum() >= self.OVERLAP * mask.sum():
                maps[seen.cpu()] = k
                segments.append({"id": k, "label_id": int(labels[k]), "score": float(scores[k])})
        return {"segmentation": maps, "segments_info": segments}

    def _classes(self, found: dict, size: tuple[int, int]) -> Segmentation:
        labels = np.zeros(size, np.uint8)
        instances = []
        maps = found["segmentation"].cpu().numpy()
        known = [s for s in found["segments_info"] if s["label_id"] in self.labels]
        for segment in sorted(known, key=lambda s: s["score"]):
            mask = maps == segment["id"] if self.panoptic else maps[segment["id"]] > 0
            if not mask.any():
                continue
            label = self.labels[segment["label_id"]]
            labels[mask] = BY_LABEL[label].index
            instances.append(Instance(label, round(float(segment["score"]), 6), encode(mask)))
        return Segmentation(labels, tuple(reversed(instances)))


@dataclass(frozen=True)
class ColourJudge:
    """Each pixel is the class whose VOC palette colour it has, background where it has none."""

    identity: str = field(default="VOC palette", init=False)

    def segment(self, images: Sequence[Image.Image]) -> list[Segmentation]:
        """Segments RGB images at their own size."""
        found = []
        for image in images:
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
    "mask2former": Mask2FormerJudge,
    "mask2former-instance": Mask2FormerJudge,
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
