"""Networks that a process keeps, so that rows in turn share them."""

import gc
from collections.abc import Callable
from functools import cache
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
_loaders: list = []


def kept(load: Callable[P, T]) -> Callable[P, T]:
    """Makes a loader keep what it loaded, by its hashable arguments, until `release`."""
    loader = cache(load)
    _loaders.append(loader)
    return loader


def release() -> None:
    """Lets go of all networks, so that others have the memory."""
    if not any(loader.cache_info().currsize for loader in _loaders):
        return
    for loader in _loaders:
        loader.cache_clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
