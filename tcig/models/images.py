"""From numbers to images. What is not finite is an error, never a black image that scores 0."""

import numpy as np
from PIL import Image
from torch import Tensor


def check_finite(values: Tensor, what: str) -> None:
    """Refuses NaN and infinite values.

    Raises:
        FloatingPointError: a value is not finite; the message begins with `what`.
    """
    if not values.isfinite().all():
        raise FloatingPointError(f"{what}: NaN or infinite values")


def to_pil(pixels: Tensor) -> list[Image.Image]:
    """Converts (N, 3, H, W) in [0, 255] to RGB images.

    Raises:
        FloatingPointError: a value is not finite.
    """
    check_finite(pixels, "image")
    levels = pixels.round().byte().movedim(1, -1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(each)) for each in levels]
