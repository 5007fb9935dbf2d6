"""Losses of the same images and the gradient of their sum, side by side on a processor."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

Loss = Callable[[Tensor, int], Tensor]
"""Of images (B, 3, H, W) at an iteration: (B,), differentiable."""
Slopes = Callable[[Tensor, int], tuple[dict[str, Tensor], Tensor]]
"""Of images at an iteration: each loss, and the gradient of their sum, (B, 3, H, W)."""


@contextmanager
def side_by_side(losses: Mapping[str, Loss], device: torch.device) -> Iterator[Slopes]:
    """Gives what finds the losses and their gradient.

    On a processor each loss has a thread of its own, and that its share of torch's, there and
    back: twice the threads make a network less than twice as fast, and what stands before or after
    one is done while another's runs. Elsewhere, or with fewer threads than losses, they are found
    one after another; either way no graph is held longer than its own loss takes.

    Args:
        losses: by name; they change nothing that they share.
        device: of the images.
    """
    threads = torch.get_num_threads()
    if len(losses) == 1 or device.type != "cpu" or threads < len(losses):
        yield partial(_slopes, losses, map)
        return
    share = threads // len(losses)
    try:
        with ThreadPoolExecutor(len(losses), "loss", torch.set_num_threads, (share,)) as pool:
            yield partial(_slopes, losses, pool.map)
    finally:
        torch.set_num_threads(threads)  # what one thread sets, threads that come later begin with


def _slopes(
    losses: Mapping[str, Loss], each: Callable[..., Iterator], images: Tensor, iteration: int
) -> tuple[dict[str, Tensor], Tensor]:
    def slope(loss: Loss) -> tuple[Tensor, Tensor]:
        given = images.detach().requires_grad_()
        found = loss(given, iteration)
        return found.detach(), torch.autograd.grad(found.sum(), given)[0]

    found, gradients = zip(*each(slope, losses.values()), strict=True)
    return dict(zip(losses, found, strict=True)), sum(gradients)
