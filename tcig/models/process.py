"""The settings of the process that plug-ins share with tcig's own code."""

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from signal import SIGINT, getsignal, signal
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import backends

Setting = tuple[Callable[[], Any], Callable[[Any], object]]
"""Functions that read and write a setting of the process."""


def _attribute(owner: Any, name: str) -> Setting:
    return partial(getattr, owner, name), partial(setattr, owner, name)


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device == torch.device("cpu") else device)


_contexts: list = []


def _set_inference_mode(enabled: bool) -> None:
    context = torch.inference_mode(enabled)
    context.__enter__()
    _contexts.append(context)  # torch leaves the mode when the object is collected


def _flushes_denormals() -> bool:
    return not torch.full((1,), 1e-310, dtype=torch.float64, device="cpu").mul(1.0).item()


def _autocast(device: str) -> Setting:
    def read() -> tuple:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def write(state: tuple) -> None:
        torch.set_autocast_enabled(device, state[0])
        torch.set_autocast_dtype(device, state[1])

    return read, write


def _folder() -> str | None:
    with suppress(OSError):  # it was removed
        return os.getcwd()  # noqa: PTH109
    return None


def _set_folder(folder: str | None) -> None:
    with suppress(OSError):
        os.chdir(folder or os.sep)


def _general_filters() -> list:
    """Filters for warnings of Python's own kinds from any module, which libraries do not set."""
    return [
        each
        for each in warnings.filters
        if each[1] is None and each[3] is None and each[2].__module__ == "builtins"
    ]


def _set_general_filters(general: list) -> None:
    own = [each for each in warnings.filters if each not in _general_filters()]
    warnings.filters[:] = own + general
    warnings._filters_mutated()


SETTINGS: dict[str, Setting] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, _set_default_device),
    "torch's inference mode": (torch.is_inference_mode_enabled, _set_inference_mode),
    "torch's gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's denormals": (_flushes_denormals, torch.set_flush_denormal),
    "torch's determinism": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "torch's autocast on cpu": _autocast("cpu"),
    "torch's autocast on cuda": _autocast("cuda"),
    "torch's precision": _attribute(backends, "fp32_precision"),
    "precision of CUDA's products": _attribute(backends.cuda.matmul, "fp32_precision"),
    "precision of cuDNN's convolutions": _attribute(backends.cudnn.conv, "fp32_precision"),
    "precision of cuDNN's recurrent networks": _attribute(backends.cudnn.rnn, "fp32_precision"),
    "precision of oneDNN's products": _attribute(backends.mkldnn.matmul, "fp32_precision"),
    "precision of oneDNN's convolutions": _attribute(backends.mkldnn.conv, "fp32_precision"),
    "oneDNN": _attribute(backends.mkldnn, "enabled"),
    "cuDNN": _attribute(backends.cudnn, "enabled"),
    "cuDNN's benchmark": _attribute(backends.cudnn, "benchmark"),
    "cuDNN's determinism": _attribute(backends.cudnn, "deterministic"),
    **{
        f"torch's {name} attention": (
            getattr(backends.cuda, f"{name}_sdp_enabled"),
            getattr(backends.cuda, f"enable_{name}_sdp"),
        )
        for name in ("flash", "mem_efficient", "math", "cudnn")
    },
    "numpy's errors": (np.geterr, lambda value: np.seterr(**value)),
    "the working directory": (_folder, _set_folder),
    "the filters of warnings": (_general_filters, _set_general_filters),
    "Ctrl-C": (partial(getsignal, SIGINT), partial(signal, SIGINT)),
    "sys.stdout": _attribute(sys, "stdout"),
    "sys.stderr": _attribute(sys, "stderr"),
    "PIL's largest image": _attribute(Image, "MAX_IMAGE_PIXELS"),
    "PIL's reading of truncated images": _attribute(ImageFile, "LOAD_TRUNCATED_IMAGES"),
}
"""Settings that all code of the process shares, and on which numbers of other rows depend."""
