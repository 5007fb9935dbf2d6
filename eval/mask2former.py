"""The judge Mask2Former."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tcig.data.files import InputError
from tcig.data.masks import encode
from tcig.data.voc import BY_LABEL, VOC_WORDS
from tcig.eval.judges import Instance, Judge, Segmentation
from tcig.models import segmentation
from tcig.models.devices import PLAIN


class Mask2FormerJudge(Judge):
    """Mask2Former, its COCO categories mapped to VOC's classes by name.

    Segments below `THRESHOLD` are dropped; for the panoptic output, so are those of which less
    than `OVERLAP` survives the others. For it the values are those of Mask2Former's own
    configurations (OBJECT_MASK_THRESHOLD, OVERLAP_THRESHOLD); that the instance output takes the
    same threshold is ours, its own code keeps the best 100 whatever their score. Where instances
    overlap, the more confident lies on top.
    """

    kind = "built-in"
    THRESHOLD = OVERLAP = 0.8

    def __init__(self, name: str, source: Path | None = None):
        self.processor, self.model, weights = segmentation.mask2former(name, source)
        self.panoptic = not name.startswith("mask2former-instance")
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
        """Segments RGB images; label maps and masks have the images' own size."""
        sizes = [(image.height, image.width) for image in images]
        inputs = self.processor(images=list(images), return_tensors="pt")
        outputs = self.model(**inputs.to(self.device))
        classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
        if self.panoptic:
            found = [self._panoptic(*each) for each in zip(classes, masks, sizes, strict=True)]
        else:
            found = self.processor.post_process_instance_segmentation(
                SimpleNamespace(  # its maps are made on the CPU
                    class_queries_logits=classes.cpu(), masks_queries_logits=masks.cpu()
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
