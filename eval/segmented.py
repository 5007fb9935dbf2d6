"""What a judge sees in an image, and the steps in which it looks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image


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


class Judge(ABC):
    """Segments images in three steps, of which the first and the last can stand beside others'."""

    identity: str
    """Of its weights and settings; scores under another identity are not reused."""

    def prepare(self, images: Sequence[Image.Image]) -> Any:
        """RGB images of one size as `look` takes them."""
        return images

    @abstractmethod
    def look(self, prepared: Any) -> Any:
        """What its network finds in them."""

    def read(self, found: Any) -> list[Segmentation]:
        """That, image by image."""
        return found

    def segment(self, images: Sequence[Image.Image]) -> list[Segmentation]:
        """All three."""
        return self.read(self.look(self.prepare(images)))
