"""The photographs that layouts were made from."""

from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.masks import centre_square
from tcig.data.pictures import eight_bits, open_picture


def open_photograph(layout: Layout, coco: Path, size: int) -> Image.Image:
    """The centre square of `coco/layout.image`, resized (Lanczos) to `size` x `size` RGB.

    Raises:
        InputError: it is missing, cannot be read, or is not the annotated one.
    """
    path = coco / layout.image
    fix = f"layout {layout.id} was made from it: fetch it with `tcig layouts --download`"
    picture = open_picture(path, fix=fix)
    photograph = as_annotated(picture, layout.size)
    if photograph is None or min(photograph.size) != layout.side:
        masks = "{}x{}".format(*layout.size) if layout.size else f"side {layout.side}"
        raise InputError(
            f"{path} is {picture.width}x{picture.height}, layout {layout.id} has masks of {masks}: "
            "the photograph is not the annotated one."
        )
    top, left, side = centre_square(photograph.height, photograph.width)
    square = eight_bits(photograph, path).crop((left, top, left + side, top + side))
    return square.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)


def as_annotated(picture: Image.Image, size: tuple[int, int] | None) -> Image.Image | None:
    """The picture in the annotation's width and height; turned as its EXIF says only if that fits.

    Args:
        picture: as stored in its file.
        size: width and height of the annotation, None if unknown or square.

    Returns:
        None if it fits neither way.
    """
    if size is None or picture.size == size:
        return picture
    with suppress(Exception):  # of damaged EXIF
        turned = ImageOps.exif_transpose(picture)
        return turned if turned.size == size else None
    return None
