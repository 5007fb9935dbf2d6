"""Networks that a process keeps, so that rows in turn share them, and memory that it keeps."""

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import cache
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
_loaders: list = []
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3), as its malloc.h numbers them."""
LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""Bytes; mallopt(3) allows no more on 64 bits."""


def kept(load: Callable[P, T]) -> Callable[P, T]:
    """Makes a loader keep what it loaded, by its arguments, until `release`."""
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
    if libc := _glibc():
        libc.malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def keep_memory() -> None:
    """Lets the process keep memory that it frees, where glibc gives it, until `release`.

    By default what a layer frees goes back to the system, and the next layer's pages are cleared
    anew: up to a fifth of a miniature network's time.
    """
    if libc := _glibc():
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") else None
