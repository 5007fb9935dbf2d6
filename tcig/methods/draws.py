"""Random draws of samples: each from its own generator, so that batching never changes one."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def generators(seeds: Sequence[int]) -> list[Generator]:
    """A CPU generator for each seed: the same numbers on every device."""
    return [Generator().manual_seed(seed) for seed in seeds]


def gaussian_on(device: torch.device, draws: Sequence[Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise on a device, (len(draws), *shape), for what needs much of it.

    On the CPU it is `gaussian`. On another device each sample's generator seeds one of the device's
    own, so that no processor has to draw millions of numbers in each iteration. The numbers then
    depend on the kind of device.
    """
    if device.type == "cpu":
        return gaussian(draws, shape)
    noise = torch.empty(len(draws), *shape, device=device)
    for row, draw in zip(noise, draws, strict=True):
        seed = int(torch.randint(2**62, (), generator=draw))
        row.normal_(generator=Generator(device).manual_seed(seed))
    return noise


def gaussian(draws: Sequence[Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, (len(draws), *shape)."""
    noise = torch.empty(len(draws), *shape)
    for row, draw in zip(noise, draws, strict=True):
        row.normal_(generator=draw)
    return noise
