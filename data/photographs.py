"""The photographs that layouts were made from."""

from pathlib import Path

from PIL import Image

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.masks import centre_square


def open_photograph(layout: Layout, coco: Path, size: int) -> Image.Image:
    """The centre square of `coco/layout.image`, resized (Lanczos) to `size` x `size` RGB.

    Raises:
        InputError: it is missing, cannot be read, or is not the annotated one.
    """
    path = coco / layout.image
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
    return square.resize((size, size), Image.Resampling.LANCZOS)
