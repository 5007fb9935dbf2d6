"""Label maps made elsewhere: a folder of pictures in place of a judge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tcig.data.files import InputError
from tcig.data.pictures import open_picture
from tcig.data.records import Pair
from tcig.eval.judges import JUDGES, Segmentation, check_labels, check_name

MODES = ("P", "L", "I;16", "I")
"""Pillow's modes of a picture with one value a pixel."""


class LabelMaps:
    """A folder of LAYOUT-SAMPLE.png made elsewhere, in place of a judge: a label 0..20 a pixel.

    It is named after the folder. Its maps are read anew at each scoring.
    """

    kind = "label maps"

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder of label maps.")
        self.folder, self.name = folder, check_name(folder.resolve().name)
        if self.name in JUDGES:
            raise InputError(
                f"{folder} is named as tcig's judge {self.name}: rename the folder of label maps."
            )
        self.identity = f"label maps {self.name}"

    def read(self, pairs: Sequence[Pair], size: int) -> list[Segmentation]:
        """Reads the maps of samples, of images of `size` pixels a side.

        Raises:
            InputError: one is missing, cannot be read or is not a label map.
        """
        return [
            self._read(self.folder / f"{layout}-{sample}.png", size) for layout, sample in pairs
        ]

    def _read(self, path: Path, size: int) -> Segmentation:
        picture = open_picture(path, fix="a label map of each image is needed")
        if picture.mode not in MODES:
            raise InputError(
                f"{path} is in colours ({picture.mode}); expected one value a pixel, the label, as "
                "a palette or a grey picture has."
            )
        labels = np.array(picture)
        check_labels(str(path), labels, (size, size))
        return Segmentation(labels.astype(np.uint8))
