"""Random draws of samples: each from its own generator, so that batching never changes one."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def generators(seeds: Sequence[int]) -> list[Generator]:
    """A CPU generator for each seed: the same numbers on every device."""
    return [Generator().manual_seed(seed) for seed in seeds]


def gaussian(draws: Sequence[Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, (len(draws), *shape)."""
    noise = torch.empty(len(draws), *shape)
    for row, draw in zip(noise, draws, strict=True):
        row.normal_(generator=draw)
    return noise
