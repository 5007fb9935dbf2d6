"""The reference rows: the photographs themselves, the truth in flat colours, a grey image."""

from pathlib import Path

import numpy as np
from PIL import Image

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.masks import centre_square
from tcig.data.voc import COLOURS
from tcig.methods.base import Method


class Real(Method):
    """The photographs, cropped to the centre square and resized (Lanczos): the upper bound."""

    def __init__(self, context, options):
        super().__init__(context, options)
        if context.coco is None:
            raise InputError("the row `real` needs the photographs: give --coco FOLDER.")

    def generate(self, layouts, seeds, callback=None):
        """Draws nothing: reads `layout.image` from the COCO folder."""
        return [self._photograph(layout) for layout in layouts]

    def _photograph(self, layout: Layout) -> Image.Image:
        path: Path = self.context.coco / layout.image
        try:
            with Image.open(path) as file:
                photograph = file.convert("RGB")
        except OSError as error:
            raise InputError(
                f"the photograph {path} of layout {layout.id} cannot be read "
                f"({error.strerror or error}): fetch it with `tcig layouts --download`."
            ) from None
        top, left, side = centre_square(photograph.height, photograph.width)
        if side != layout.side:
            raise InputError(
                f"{path} is {photograph.width}x{photograph.height}, layout {layout.id} has masks "
                f"of side {layout.side}: the photograph is not the annotated one."
            )
        square = photograph.crop((left, top, left + side, top + side))
        return square.resize((self.context.size,) * 2, Image.Resampling.LANCZOS)


class Paste(Method):
    """The truth in flat VOC colours: an oracle for the plumbing, no method."""

    def generate(self, layouts, seeds, callback=None):
        """Paints the layouts' class maps."""
        palette = np.array(COLOURS, np.uint8)
        return [Image.fromarray(palette[layout.class_map(self.context.size)]) for layout in layouts]


class Empty(Method):
    """A mid-grey image: what a method scores that draws nothing.

    Not (128, 128, 128), which is the car of the VOC palette.
    """

    def generate(self, layouts, seeds, callback=None):
        """Paints every layout grey."""
        return [Image.new("RGB", (self.context.size,) * 2, (127, 127, 127)) for _ in layouts]
