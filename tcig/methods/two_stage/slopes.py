"""Losses of the same images and the gradient of their sum, side by side on a processor."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor


class Term(NamedTuple):
    """A summand of what is descended."""

    loss: Callable[[Tensor, int], Tensor]
    """Of images (B, 3, H, W) at an iteration: (B,), differentiable."""
    every: int = 1
    """It counts in iterations that this divides."""


Slopes = Callable[[Tensor, int], tuple[dict[str, Tensor], Tensor]]
"""Of images at an iteration: the losses that count, and their sum's gradient, (B, 3, H, W)."""


@contextmanager
def side_by_side(terms: Mapping[str, Term], device: torch.device) -> Iterator[Slopes]:
    """Gives what finds losses and their gradient.

    On a processor each loss has a thread of its own, and that its share of torch's, there and
    back: twice the threads make a network less than twice as fast, and what stands before or after
    one is done while another's runs. Elsewhere, or with fewer threads than losses, they are found
    one after another; either way no graph is held longer than its own loss takes.

    Args:
        terms: by name; they change nothing that they share.
        device: of the images.
    """
    threads = torch.get_num_threads()
    if len(terms) == 1 or device.type != "cpu" or threads < len(terms):
        yield partial(_slopes, terms, map)
        return
    share = threads // len(terms)
    try:
        with ThreadPoolExecutor(len(terms), "loss", torch.set_num_threads, (share,)) as pool:
            yield partial(_slopes, terms, pool.map)
    finally:
        torch.set_num_threads(threads)  # what one thread sets, threads that come later begin with


def _slopes(
    terms: Mapping[str, Term], beside: Callable[..., Iterator], images: Tensor, iteration: int
) -> tuple[dict[str, Tensor], Tensor]:
    def slope(term: Term) -> tuple[Tensor, Tensor]:
        given = images.detach().requires_grad_()
        found = term.loss(given, iteration)
        return found.detach(), torch.autograd.grad(found.sum(), given)[0]

    due = {name: term for name, term in terms.items() if iteration % term.every == 0}
    each = beside if len(due) > 1 else map  # one alone has all of torch's threads
    found, gradients = zip(*each(slope, due.values()), strict=True)
    return dict(zip(due, found, strict=True)), sum(gradients)
