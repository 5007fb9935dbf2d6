"""Losses of the same images and the gradient of their sum, one after another or at once."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tcig.models.devices import Compute


class Term(NamedTuple):
    """A summand of what is descended."""

    loss: Callable[[Tensor, int], Tensor]
    """Of images (B, 3, H, W) at an iteration: (B,), differentiable."""
    every: int = 1
    """It counts in iterations that this divides."""


Slopes = Callable[[Tensor, int], tuple[dict[str, Tensor], Tensor]]
"""Of images at an iteration: the losses that count, and their sum's gradient, (B, 3, H, W)."""


@contextmanager
def side_by_side(terms: Mapping[str, Term], compute: Compute) -> Iterator[Slopes]:
    """The losses and their gradient, at each iteration.

    Where `compute.beside` asks for it, and there are as many of a processor's threads as terms,
    each has a thread of its own, there and back, and that an equal share of torch's: what stands
    before and after one's networks is done while another's run. Elsewhere they are found one after
    another. Either way no graph is held longer than its own loss takes.

    Args:
        terms: by name; they change neither the images nor what they share.
        compute: where they are found.

    Yields:
        What finds them; at least one must count.
    """
    threads = torch.get_num_threads()
    on_cpu = compute.device.type == "cpu"
    if not compute.beside or not on_cpu or not 1 < len(terms) <= threads:
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
