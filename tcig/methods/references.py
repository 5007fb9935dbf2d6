"""The reference rows: the photographs themselves, the truth in flat colours, a grey image."""

import numpy as np
from PIL import Image

from tcig.data.files import InputError
from tcig.data.layout import open_photograph
from tcig.data.voc import COLOURS
from tcig.methods.base import Method


class Real(Method):
    """The photographs, cropped to the centre square and resized (Lanczos): the upper bound."""

    reads_captions = False

    def __init__(self, context, options):
        super().__init__(context, options)
        if context.coco is None:
            raise InputError("the row `real` needs the photographs: give --coco FOLDER.")

    def generate(self, layouts, seeds, callback=None):
        """Draws nothing: reads `layout.image` from the COCO folder."""
        coco, size = self.context.coco, self.context.size
        return [open_photograph(layout, coco, size) for layout in layouts]


class Paste(Method):
    """The truth in flat VOC colours: an oracle for the plumbing, no method."""

    reads_captions = False

    def generate(self, layouts, seeds, callback=None):
        """Paints the layouts' class maps."""
        palette = np.array(COLOURS, np.uint8)
        return [Image.fromarray(palette[layout.class_map(self.context.size)]) for layout in layouts]


class Empty(Method):
    """A mid-grey image: what a method scores that draws nothing.

    Not (128, 128, 128), which is the car of the VOC palette.
    """

    reads_captions = False

    def generate(self, layouts, seeds, callback=None):
        """Paints every layout grey."""
        return [Image.new("RGB", (self.context.size,) * 2, (127, 127, 127)) for _ in layouts]
