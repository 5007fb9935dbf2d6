"""Jitter of colours: brightness, contrast, saturation and hue of images, with its derivative.

The dearest of the augmentations. Its derivative is written out, so that forward and backward
passes work in place; derived automatically they take twice as long.
"""

import torch
from torch import Tensor

NEUTRAL = 1.0, 1.0, 1.0, 0.0
"""Factors that leave the colours."""
NEGLIGIBLE = 1e-6, 1e-12
"""Added to the value (as kornia does) and to the chroma where they divide."""


def recolour(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in this order.

    As ColorJitter of kornia 0.5.4, which requirements.txt of nerdyrodent/VQGAN-CLIP 592d555 pins:
    brightness is added and contrast multiplied, each clamped to [0, 1]; saturation multiplies
    HSV's S, clamped likewise.

    Args:
        images: (N, 3, H, W).
        factors: brightness less 1 to add, factors of contrast and saturation (none negative),
            turns of hue in [-1, 1], (N, 4). No gradient reaches them.
    """
    return _Recolour.apply(images, factors)


class _Recolour(torch.autograd.Function):
    """HSV and back without HSV: channel n is value - colour * tint_n.

    With the chroma (largest less smallest channel) and the hue in sixths of a turn, `colour` is the
    chroma after saturation and tint_n, in [0, 1], falls and rises with the hue's distance from the
    channel's opposite. The hue is the largest channel's place (0, 2 or 4) plus the `lean` of the
    other two, their difference over the chroma.
    """

    @staticmethod
    def forward(ctx, images: Tensor, factors: Tensor) -> Tensor:
        rows = (factors != factors.new_tensor(NEUTRAL)).any(1).nonzero()[:, 0]
        brightness, contrast, saturation, turn = factors[rows, :, None, None, None].unbind(1)
        lit = images[rows].add_(brightness - 1).clamp_(0, 1).mul_(contrast).clamp_(max=1)
        value, smallest = lit.amax(1, keepdim=True), lit.amin(1, keepdim=True)
        top, bottom = _equal(lit, value), _equal(lit, smallest)
        top[:, 1:] *= 1 - top[:, :1]  # the first, where several are the largest
        top[:, 2:] *= 1 - top[:, 1:2]
        bottom /= bottom.sum(1, keepdim=True)
        chroma = value - smallest
        red, green, blue = lit.split(1, 1)
        of_red, of_green, of_blue = top.split(1, 1)
        lean = (green - blue).mul_(of_red)
        lean.addcmul_(blue - red, of_green).addcmul_(red - green, of_blue)
        lean /= chroma + NEGLIGIBLE[1]
        hue = (lean + 6 * turn).add_(of_green, alpha=2).add_(of_blue, alpha=4)
        away = hue - torch.tensor([0.0, 2.0, 4.0], device=lit.device).view(3, 1, 1)
        away.sub_((away / 6).round_(), alpha=6)  # on the circle, in [-3, 3]
        near = away.abs().sub_(1)
        tint = near.clamp(0, 1)
        slope = away.sign_().mul_(_equal(near, tint))
        pure = (chroma / (value + NEGLIGIBLE[0])).mul_(saturation)
        # Zero where a clamp holds the channel: at 0, at 1, or at the contrast of what was 1.
        free = lit.mul_(contrast.clamp(max=1) - lit).sign_()
        ctx.save_for_backward(
            rows, free, contrast, saturation, value, chroma, top, bottom, lean, tint, slope, pure
        )
        found = torch.addcmul(value, pure.clamp(max=1).mul_(value), tint, value=-1)
        return images.index_copy(0, rows, found)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        rows, free, contrast, saturation, value, chroma, top, bottom, lean, tint, slope, pure = (
            ctx.saved_tensors
        )
        whole, gradient = gradient, gradient[rows].contiguous()  # CLIP's comes channels last
        share, safe = pure.clamp(max=1), value + NEGLIGIBLE[0]
        to_value = gradient.sum(1, keepdim=True)
        to_colour = (gradient * tint).sum(1, keepdim=True).neg_()
        to_lean = gradient.mul_(slope).sum(1, keepdim=True).neg_().mul_(share).mul_(value)
        to_pure = (to_colour * value).mul_((pure > 0) & (pure < 1))
        to_chroma = to_pure * saturation / safe
        to_others = to_lean.div_(chroma + NEGLIGIBLE[1])
        to_chroma.addcmul_(to_others, lean, value=-1)
        to_value.addcmul_(to_colour, share).sub_(to_pure.mul_(pure).div_(safe)).add_(to_chroma)
        found = (top * to_value).addcmul_(bottom, to_chroma, value=-1)
        red, green, blue = (top * to_others).unbind(1)
        found.add_(torch.stack([blue - green, red - blue, green - red], 1))
        return whole.index_copy(0, rows, found.mul_(contrast).mul_(free)), None


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """1 where a and b are equal, else 0, as numbers: comparing to bool takes longer."""
    return torch.eq(a, b, out=torch.empty_like(a))
