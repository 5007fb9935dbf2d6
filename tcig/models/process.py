"""The state of the process that plug-ins share with tcig's own code: saved, and put back."""

import gc
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import backends


class Setting(NamedTuple):
    """Something that code of the process may change for all other code."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _attribute(owner: Any, name: str, title: str = "") -> Setting:
    write = partial(setattr, owner, name)
    return Setting(title or f"{owner.__name__}.{name}", lambda: getattr(owner, name), write)


def _set_device(device: torch.device) -> None:
    torch.set_default_device(None if device == torch.device("cpu") else device)


_contexts: list = []


def _set_inference_mode(enabled: bool) -> None:
    context = torch.inference_mode(enabled)
    context.__enter__()
    _contexts.append(context)  # torch leaves the mode when the object is collected


def _autocast(device: str) -> Setting:
    def read() -> tuple:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def write(state: tuple) -> None:
        torch.set_autocast_enabled(device, state[0])
        torch.set_autocast_dtype(device, state[1])

    return Setting(f"torch's autocast on {device}", read, write)


def _flushes_denormals() -> bool:
    return not torch.full((1,), 1e-310, dtype=torch.float64, device="cpu").mul(1.0).item()


def _folder() -> str | None:
    with suppress(OSError):  # it was removed
        return os.getcwd()  # noqa: PTH109
    return None


def _set_folder(folder: str | None) -> None:
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)


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


def _set_interrupt(handler: Any) -> None:
    with suppress(ValueError, TypeError):  # outside the main thread
        signal.signal(signal.SIGINT, handler)


JSON = ("dump", "dumps", "load", "loads")

SETTINGS = (
    Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("torch's default device", torch.get_default_device, _set_device),
    Setting("torch's inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
    Setting("torch's gradients", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    Setting("torch's threads", torch.get_num_threads, torch.set_num_threads),
    Setting("torch's denormals", _flushes_denormals, torch.set_flush_denormal),
    Setting(
        "torch's deterministic algorithms",
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    _autocast("cpu"),
    _autocast("cuda"),
    _attribute(backends, "fp32_precision"),
    _attribute(backends.cuda.matmul, "fp32_precision", "TF32 of CUDA's products"),
    _attribute(backends.cudnn.conv, "fp32_precision", "TF32 of cuDNN's convolutions"),
    _attribute(backends.cudnn.rnn, "fp32_precision", "TF32 of cuDNN's recurrent networks"),
    _attribute(backends.mkldnn.matmul, "fp32_precision", "precision of oneDNN's products"),
    _attribute(backends.mkldnn.conv, "fp32_precision", "precision of oneDNN's convolutions"),
    _attribute(backends.mkldnn, "enabled", "oneDNN"),
    _attribute(backends.cudnn, "enabled", "cuDNN"),
    _attribute(backends.cudnn, "benchmark", "cuDNN's benchmark"),
    _attribute(backends.cudnn, "deterministic", "cuDNN's determinism"),
    *(
        Setting(
            f"torch's {name} attention",
            getattr(backends.cuda, f"{name}_sdp_enabled"),
            getattr(backends.cuda, f"enable_{name}_sdp"),
        )
        for name in ("flash", "mem_efficient", "math", "cudnn")
    ),
    Setting("numpy's errors", np.geterr, lambda value: np.seterr(**value)),
    Setting("the working directory", _folder, _set_folder),
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    Setting("the filters of warnings", _general_filters, _set_general_filters),
    _attribute(warnings, "showwarning"),
    _attribute(warnings, "formatwarning"),
    Setting("Ctrl-C", lambda: signal.getsignal(signal.SIGINT), _set_interrupt),
    _attribute(sys, "stdout"),
    _attribute(sys, "stderr"),
    _attribute(Image, "MAX_IMAGE_PIXELS"),
    _attribute(ImageFile, "LOAD_TRUNCATED_IMAGES"),
    *(_attribute(json, name) for name in JSON),
    _attribute(json.JSONEncoder, "default", "json.JSONEncoder.default"),
    _attribute(json.JSONEncoder, "encode", "json.JSONEncoder.encode"),
    _attribute(json, "_default_encoder", "json's encoder"),
    _attribute(json, "_default_decoder", "json's decoder"),
)


def save() -> list[Any]:
    """The values of all `SETTINGS`."""
    return [setting.read() for setting in SETTINGS]


def restore(values: list[Any]) -> list[str]:
    """Puts the settings back that differ from `values`; their names."""
    moved = []
    for setting, value in zip(SETTINGS, values, strict=True):
        if setting.read() != value:
            setting.write(value)
            moved.append(setting.name)
    return moved
