"""Descent of a VQGAN's latents by losses of their images.

Reference: nerdyrodent/VQGAN-CLIP 592d555, generate.py (lines cited below).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from tcig.methods.base import Progress
from tcig.models.devices import PLAIN, Compute
from tcig.models.vqgan import VQGAN

Loss: TypeAlias = Callable[[Tensor, int], Tensor]
"""Of images (B, 3, H, W) at an iteration: (B,), differentiable."""


def slopes(
    terms: Mapping[str, Loss], images: Tensor, iteration: int
) -> tuple[dict[str, Tensor], Tensor]:
    """The losses at an iteration, and the gradient of their sum, (B, 3, H, W).

    One after another, so that no graph is held longer than its own loss takes.

    Args:
        terms: by name, at least one.
        images: (B, 3, H, W).
        iteration: as said.
    """
    found, gradients = {}, []
    for name, term in terms.items():
        given = images.detach().requires_grad_()
        loss = term(given, iteration)
        found[name] = loss.detach()
        gradients += torch.autograd.grad(loss.sum(), given)
        del loss
    return found, sum(gradients)


class _ClampPixels(torch.autograd.Function):
    """Clamps to [0, 1]; the gradient passes unless it would leave further (l. 258-269)."""

    @staticmethod
    def forward(ctx, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        return images.clamp(0, 1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        return gradient * (gradient * (images - images.clamp(0, 1)) >= 0)


def synthesise(vqgan: VQGAN, latents: Tensor, compute: Compute = PLAIN) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] of the codes nearest to `latents`, differentiable (synth)."""
    codes = vqgan.quantise(latents)
    with compute.autocast():
        images = vqgan.decode(codes)
    return _ClampPixels.apply(images.to(latents.dtype).add(1).div(2))


def optimise(
    vqgan: VQGAN,
    latents: Tensor,
    terms: Mapping[str, Loss],
    rates: Sequence[float],
    callback: Callable[..., None] | None = None,
    compute: Compute = PLAIN,
    progress: Progress | None = None,
) -> Tensor:
    """Descends the sum of `terms` from `latents`, each sample as if alone.

    After every step a latent is clamped to the codebook's range, per channel (l. 753-754).

    Args:
        vqgan: as said.
        latents: to start from, (B, D, h, w).
        terms: by name, of images in [0, 1]; at least one.
        rates: Adam's learning rate of each iteration.
        callback: called with each `iteration`, the `images` and `latents` before its step and its
            `losses`, and at the end with the last ones and no losses.
        compute: in what arithmetic the decoder runs.
        progress: is told of each iteration.

    Returns:
        Images (B, 3, H, W) in [0, 1].

    Raises:
        FloatingPointError: in an iteration a sample's gradient is not finite, or zero.
    """
    low = vqgan.codebook.amin(0)[:, None, None]
    high = vqgan.codebook.amax(0)[:, None, None]
    latents = latents.clone().requires_grad_()
    adam = torch.optim.Adam([latents], lr=0.0)
    broken = torch.full((len(latents),), len(rates), device=latents.device)  # its first iteration
    for iteration, rate in enumerate((progress or Progress()).over(rates)):
        adam.param_groups[0]["lr"] = rate
        images = synthesise(vqgan, latents, compute)
        found, gradient = slopes(terms, images, iteration)
        before = latents.detach().clone() if callback else None
        adam.zero_grad()
        images.backward(gradient)
        adam.step()
        with torch.no_grad():
            latents.copy_(latents.clamp(low, high))
            # Read after the last iteration only, because reading makes a GPU wait.
            largest = latents.grad.flatten(1).abs().amax(1)
            usable = largest.isfinite() & (largest > 0) & latents.isfinite().flatten(1).all(1)
            broken = torch.minimum(broken, torch.where(usable, len(rates), iteration))
        if callback:
            seen = {"images": images.detach(), "latents": before, "losses": found}
            callback("iteration", iteration=iteration, **seen)
    first = int(broken.min())
    if first < len(rates):
        raise FloatingPointError(
            f"stage 1, iteration {first}: the gradient or the latents are not finite, or the "
            "gradient is zero"
        )
    with torch.no_grad():
        images = synthesise(vqgan, latents, compute)
    if callback:
        seen = {"images": images, "latents": latents.detach(), "losses": {}}
        callback("iteration", iteration=len(rates), **seen)
    return images
