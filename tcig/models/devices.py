"""Where networks run, and how: a profile's `[compute]`; networks kept in memory, and fused."""

import contextlib
import gc
import os
import platform
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.fx.experimental import optimization
from torch.nn import functional as F

from tcig.data.files import InputError

P = ParamSpec("P")
T = TypeVar("T")
_loaders: list = []

DEVICE = "TCIG_DEVICE"
"""Environment variable: `cuda`, `mps` or `cpu`, in place of the profile's device."""


class Compute(BaseModel):
    """Device and dtype of the networks that generate; judges always run in plain float32.

    Latents, optimisers and losses are float32 whatever the networks are in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: Literal["auto", "gpu", "cuda", "mps", "cpu"] = "auto"
    """Device; auto: a GPU if there is one, else the CPU; gpu: a GPU, see `check_device`."""
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "float32"
    """Of the diffusion models; auto: float16 on a GPU, bfloat16 on a processor where that pays,
    else float32. Under bfloat16 the networks of stage 1 run in it too; under float16 they stay in
    float32, as the gradients of Eq. 1, a mean over all pixels, are below what float16 can hold."""
    tf32: bool = False
    """Whether CUDA may round the factors of float32 products to TF32's 10 bits."""
    channels_last: bool | Literal["auto"] = False
    """Memory format of the diffusion models' convolutions; auto: unless a processor computes them
    in bfloat16, where it takes longer."""
    compile: bool = False
    """torch.compile of the UNets: minutes at the start, then faster."""
    tiling: bool = False
    """The VAE decodes image by image and, above its own size, in tiles: less memory."""
    fixed_batch: bool = False
    """Batches of the profile's size whatever memory is free, so that images do not depend on it."""
    offload: bool = False
    """Each network is on the GPU only while it runs: less memory, slower."""

    @property
    def requested(self) -> str:
        """The device as asked for: by `TCIG_DEVICE`, else by the profile.

        Raises:
            InputError: the variable has another value than `cuda`, `mps` or `cpu`.
        """
        asked = os.environ.get(DEVICE)
        if asked and asked not in ("cuda", "mps", "cpu"):
            raise InputError(f"{DEVICE}: unknown device {asked!r}; expected cuda, mps or cpu.")
        return asked or self.on

    @property
    def device(self) -> torch.device:
        """The device itself.

        `RuntimeError` by torch where it is named but not there.
        """
        if self.requested not in ("auto", "gpu"):
            return torch.device(self.requested)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    def check_device(self) -> None:
        """Refuses a missing GPU where one is required, and one that this torch has no kernels for.

        Raises:
            InputError: the GPU is missing or too old.
        """
        if self.requested == "gpu" and self.device.type == "cpu":
            raise InputError(
                f"this profile needs a GPU, and torch finds none: {_build()}. Update the driver, "
                "or install torch for an older CUDA (results/paper.md). To run on the CPU all the "
                f"same, which takes weeks, set {DEVICE}=cpu."
            )
        if self.device.type != "cuda" or not torch.cuda.is_available():
            return
        major, minor = torch.cuda.get_device_capability()
        kernels = [re.search(r"sm_(\d+)", each) for each in torch.cuda.get_arch_list()]
        oldest = min((int(each[1]) for each in kernels if each), default=0)
        if 10 * major + minor < oldest:
            raise InputError(
                f"{torch.cuda.get_device_name()} has compute capability {major}.{minor}, and this "
                f"torch has kernels from {oldest // 10}.{oldest % 10} on: {_build()}. Install "
                "torch for an older CUDA (results/paper.md)."
            )

    def check_named(self) -> None:
        """Refuses a device that was named and is missing.

        Raises:
            InputError: torch does not find the device.
        """
        there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
        kind = self.requested
        if kind in there and not there[kind]():
            raise InputError(
                f"the device {kind} was asked for, and torch finds none: {_build()}; choose "
                f"another one, or set {DEVICE}=cpu."
            )

    @property
    def dtype(self) -> torch.dtype:
        """Of the diffusion models."""
        if self.precision != "auto":
            return getattr(torch, self.precision)
        if self.device.type != "cpu":
            return torch.float16
        return torch.bfloat16 if has_bf16() else torch.float32

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the diffusion models' convolutions."""
        chosen = self.channels_last
        if chosen == "auto":
            chosen = self.device.type != "cpu" or self.dtype is not torch.bfloat16
        return torch.channels_last if chosen else torch.contiguous_format

    @property
    def arithmetic(self) -> str:
        """The settings that move results beyond rounding, for a run's specification."""
        return f"{self.dtype}".removeprefix("torch.") + (" tf32" if self.tf32 else "")

    def autocast(self) -> contextlib.AbstractContextManager:
        """Context for the networks of stage 1, see `precision`."""
        if self.dtype is not torch.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


@cache
def has_bf16() -> bool:
    """Whether this processor computes in bfloat16 (AVX-512 BF16 or AMX), where it pays."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text()


def set_tf32(allowed: bool) -> None:
    """TF32 in CUDA's matrix products and convolutions, for the process.

    torch's own default is off for products and on for convolutions.
    """
    chosen = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = chosen
    torch.backends.cudnn.conv.fp32_precision = chosen
    torch.backends.cudnn.rnn.fp32_precision = chosen


def _build() -> str:
    """CUDA version of this torch, and the NVIDIA driver's as Linux's kernel module states it."""
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    file = Path("/proc/driver/nvidia/version")
    version = re.search(r"\d+\.\d+[.\d]*", file.read_text()) if file.exists() else None
    driver = f"the NVIDIA driver is {version[0]}" if version else "no NVIDIA driver was found"
    return f"torch {torch.__version__} is built for {cuda}, {driver}"


def name_of(compute: Compute) -> str:
    """Name of the hardware for records, such as "cpu x86_64"."""
    if compute.device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{compute.device.type} {platform.machine()}"


PLAIN = Compute()
"""float32 on a GPU if there is one, else on the CPU."""


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


def fuse_batchnorm(module: nn.Module) -> nn.Module:
    """Copies a network, with its BatchNorms fused and its bilinear resizing by `resize`.

    The copy computes the same but for rounding. Each BatchNorm becomes part of the convolution
    before it.

    Args:
        module: in evaluation mode; one without BatchNorms is returned as it is.
    """
    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return module
    with torch.no_grad():
        fused = optimization.fuse(module).eval().requires_grad_(False)
    for node in fused.graph.find_nodes(op="call_function", target=F.interpolate):
        if node.kwargs["mode"] == "bilinear":
            node.target = resize
            names = "size", "align_corners", "antialias"
            node.kwargs = {name: node.kwargs[name] for name in names}
    fused.recompile()
    return fused


def resize(images: Tensor, size: tuple[int, int], **how: bool | None) -> Tensor:
    """Computes `F.interpolate(images, size, mode="bilinear", **how)` by two matrix products.

    On CUDA its gradient is the same at every call. That of torch's own adds in any order
    (`torch.use_deterministic_algorithms` lists it). On a CPU, enlarging 32x32 to 128x128 takes a
    sixth of the time.

    Args:
        images: (B, C, h, w).
        size: (H, W) of the result.
        how: `align_corners`, `antialias`.
    """
    settings = images.dtype, images.device, *sorted(how.items())
    vertical, horizontal = (
        _interpolation_matrix(before, after, *settings)
        for before, after in zip(images.shape[-2:], size, strict=True)
    )
    return vertical @ (images @ horizontal.mT)


@kept
def _interpolation_matrix(
    before: int, after: int, dtype: torch.dtype, device: torch.device, *how
) -> Tensor:
    """One-dimensional interpolation matrix, (after, before)."""
    with torch.inference_mode(False):  # later callers may want a gradient
        identity = torch.eye(before)[None, None]
        matrix = F.interpolate(identity, (after, before), mode="bilinear", **dict(how))
        return matrix[0, 0].to(device, dtype)
