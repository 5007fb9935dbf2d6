"""Label maps made elsewhere: a folder of pictures in place of a judge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tcig.data.errors import InputError
from tcig.data.pictures import open_picture
from tcig.eval.judges import JUDGES, Segmentation, StagedJudge, check_labels, check_name

MODES = ("P", "L", "I;16", "I")
"""Pillow's modes of a picture with one value a pixel."""


class LabelMaps(StagedJudge):
    """A folder of LAYOUT-SAMPLE.png, a label 0 to 20 at each pixel, named after the folder.

    Its maps are read anew at each scoring, so nothing of an earlier one is reused.
    """

    kind = "label maps"

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder of label maps.")
        self.folder, self.name = folder, check_name(folder.resolve().name)
        if self.name in JUDGES:
            raise InputError(
                f"{folder} is named as tcig's judge {self.name}: rename the folder of label maps."
            )
        self.identity = f"label maps {self.name}"

    def maps(self, samples: Sequence[tuple[str, int]], size: int) -> list[Segmentation]:
        """The maps of (layout, sample) pairs, of images of `size` pixels a side.

        Raises:
            InputError: one is missing, cannot be read or is no label map.
        """
        return [self._map(f"{layout}-{sample}.png", size) for layout, sample in samples]

    def _map(self, name: str, size: int) -> Segmentation:
        path = self.folder / name
        picture = open_picture(path, fix="a label map of each image is needed")
        if picture.mode not in MODES:
            raise InputError(
                f"{path} is in colours ({picture.mode}); expected one value a pixel, the label, as "
                "a palette or a grey picture has."
            )
        labels = np.array(picture)
        check_labels(str(path), labels, (size, size))
        return Segmentation(labels.astype(np.uint8))

    def look(self, prepared: list[Segmentation]) -> list[Segmentation]:
        """The maps as they were read."""
        return prepared
