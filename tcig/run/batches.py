"""Generates batches of samples with a method, as large as the memory of the device allows."""

import gc
import inspect
import io
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from PIL import Image

from tcig.data.files import DeviceLostError, describe
from tcig.data.layout import Layout, seed_of
from tcig.eval.provenance import revision
from tcig.methods.base import Method
from tcig.models.devices import name_of
from tcig.models.plugins import guard, source_of

MEMORY_SHARE = 0.9
"""Fraction of free memory a batch may use, extrapolated from one sample (our choice)."""
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
)
"""Messages of torch, cuDNN and cuBLAS when memory runs out."""
DEVICE_LOST = (
    "an illegal memory access was encountered",
    "device-side assert triggered",
    "unspecified launch failure",
    "misaligned address",
    "an illegal instruction was encountered",
    "uncorrectable ECC error encountered",
)
"""Messages of the CUDA errors after which a process cannot use the device any more (CUDA Runtime
API, cudaError: "must be terminated and relaunched")."""
_MIB = 2**20 if sys.platform == "darwin" else 2**10
"""Units of getrusage's ru_maxrss in a MiB: bytes on macOS, KiB elsewhere."""

Sample = tuple[Layout, int]
"""A layout and the index of one of its samples."""


class GeneratedSample(NamedTuple):
    """A sample's record, which has the error where there is no image, and the image as PNG."""

    record: dict
    png: bytes | None


class CudaMemory:
    """Memory of the current CUDA device by torch's allocator, in bytes."""

    def start(self) -> None:
        """Begins a measurement."""
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def used(self) -> int:
        """Returns the most that was allocated since the start, beyond what was then."""
        return self.peak() - self._before

    def peak(self) -> int:
        """Returns the most that was allocated since the start."""
        return torch.cuda.max_memory_allocated()

    def free(self) -> int:
        """Returns what can be allocated: what the driver has, and what torch holds unused."""
        unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + unused


class BatchSizer:
    """The size of the next batch.

    With a `memory` the first sample is generated alone and measured, unless the size is fixed.
    Whenever memory runs out the size is halved for good.
    """

    def __init__(self, largest: int, memory: CudaMemory | None, fixed: bool = False):
        self.largest, self.memory = largest, memory
        self.measured = fixed or memory is None
        self.size = largest if self.measured else 1

    def start(self) -> None:
        """Begins a batch."""
        if self.memory:
            self.memory.start()

    def finish(self, count: int) -> int | None:
        """Ends a batch of `count` samples, and returns its peak in MiB, if it is measured."""
        if self.memory is None:
            return None
        if not self.measured:
            self.measured = True
            each = max(self.memory.used() // count, 1)
            self.size = max(1, min(self.largest, int(MEMORY_SHARE * self.memory.free()) // each))
        return self.memory.peak() // 2**20

    def halve(self, count: int) -> int:
        """Returns the size to try after a batch of `count` samples ran out of memory."""
        self.measured = True
        self.size = max(1, count // 2)
        if self.memory:
            torch.cuda.empty_cache()
        return self.size


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether a device or the machine has too little memory for a batch."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


class BatchGenerator:
    """Generates samples with a method, at most `largest` in a call."""

    def __init__(self, method: Method, largest: int):
        self.method, compute = method, method.context.compute
        memory = CudaMemory() if compute.device.type == "cuda" else None
        self.sizer = BatchSizer(largest, memory, compute.fixed_batch)
        self._device = name_of(compute)

    def generate(
        self, samples: Sequence[Sample], progress: Callable[[float], None] | None = None
    ) -> Iterator[GeneratedSample]:
        """Generates samples.

        A batch that fails is tried again sample by sample, so that one bad layout costs no other. A
        batch that runs out of memory is halved, as are those after it. Where the first sample
        measures memory, it is one of the layout with the most regions.

        Args:
            samples: what to generate.
            progress: called with the number of samples of the current call that are done.

        Raises:
            DeviceLostError: a CUDA error has made the device unusable for this process.
        """
        if not self.sizer.measured and samples:
            largest = max(samples, key=lambda pair: len(pair[0].regions))
            samples = [largest, *(pair for pair in samples if pair is not largest)]
        while samples:
            size = self.sizer.size
            yield from self._generate(samples[:size], progress)
            samples = samples[size:]

    def _generate(
        self, samples: Sequence[Sample], progress: Callable[[float], None] | None
    ) -> Iterator[GeneratedSample]:
        seeds = [seed_of(layout.id, sample) for layout, sample in samples]
        layouts = [layout for layout, _ in samples]
        images, reason, halve = [None], None, False
        started = time.perf_counter()
        self.sizer.start()
        try:
            tell = progress and (lambda share: progress(share * len(samples)))
            images = generate_batch(self.method, layouts, seeds, tell)
        except Exception as error:
            reason = describe(error, source_of(self.method.generate))
            if isinstance(error, RuntimeError) and any(t in str(error) for t in DEVICE_LOST):
                raise DeviceLostError(
                    f"the GPU failed ({reason}). What is finished is kept: run the same command "
                    "again to go on."
                ) from None
            halve = is_out_of_memory(error)
            traceback.clear_frames(error.__traceback__)  # they hold the failed batch's tensors
        if reason and len(samples) > 1:
            gc.collect()
            size = self.sizer.halve(len(samples)) if halve else 1
            for first in range(0, len(samples), size):
                yield from self._generate(samples[first : first + size], progress)
            return
        peak = self.sizer.finish(len(samples))
        seconds = round((time.perf_counter() - started) / len(samples), 4)
        for (layout, sample), image in zip(samples, images, strict=True):
            record = failed_record(layout, sample, reason) | {
                "seconds": seconds,
                "batch": len(samples),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB,
                "peak_device_mib": peak,
                "device": self._device,
            }
            yield GeneratedSample(record, None if image is None else encode_png(image))


def generate_batch(
    method: Method,
    layouts: Sequence[Layout],
    seeds: Sequence[int],
    progress: Callable[[float], None] | None = None,
) -> list[Image.Image]:
    """Calls a method for a batch, and checks its images.

    Args:
        method: any, also a plug-in's.
        layouts: one for each image.
        seeds: one for each image.
        progress: called with the share of the batch that is done, in [0, 1].

    Raises:
        Exception: the method's own, or that of `check_images`.
    """

    def watch(event: Any = None, *_: Any, **values: Any) -> None:
        with suppress(TypeError, ValueError, KeyError):  # a plug-in may pass anything
            if event == "progress" and progress:
                progress(min(max(float(values["done"]), 0.0), 1.0))

    parameters = inspect.signature(method.generate).parameters.values()
    watched = any(each.name == "callback" or each.kind is each.VAR_KEYWORD for each in parameters)
    with guard(type(method).__name__):
        images = method.generate(layouts, seeds, **({"callback": watch} if watched else {}))
        check_images(images, len(layouts), method.context.size)
    return images


def check_images(images: Sequence[Image.Image], count: int, size: int) -> None:
    """Checks that a method returned `count` RGB images of `size` pixels a side.

    Raises:
        ValueError: too few or many, or of another size or mode.
        TypeError: something else than an image.
    """
    if not isinstance(images, Sequence) or len(images) != count:
        found = f"list of {len(images)}" if isinstance(images, Sequence) else type(images).__name__
        raise ValueError(
            f"the method gave a {found} for {count} layout{'s' * (count > 1)}: a list of as many "
            "images is needed"
        )
    for image in images:
        if not isinstance(image, Image.Image):
            raise TypeError(f"the method gave a {type(image).__name__}, a PIL image is needed")
        image.load()  # a file opened lazily fails here, as the method's fault
        if image.size != (size, size) or image.mode != "RGB":
            raise ValueError(
                f"the method gave a {image.mode} image of {image.width}x{image.height}, "
                f"RGB of {size}x{size} is needed"
            )


def failed_record(layout: Layout, sample: int, reason: str | None) -> dict:
    """Returns the record of a sample about which no process could report more."""
    return {
        "layout": layout.id,
        "sample": sample,
        "seed": seed_of(layout.id, sample),
        "error": reason,
        "seconds": None,
        "batch": 1,
        "peak_mib": None,
        "peak_device_mib": None,
        "versions": _versions(),
        "device": None,
    }


def encode_png(image: Image.Image) -> bytes:
    """Returns an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@cache
def _versions() -> dict[str, str]:
    """Returns the versions of packages, and the git commit in a checkout."""
    packages = {name: version(name) for name in ("tcig", "torch", "diffusers", "numpy", "pillow")}
    commit, dirty = revision()
    if commit:
        packages["revision"] = commit[:12] + (" and changes" if dirty else "")
    return packages | {"python": platform.python_version()}
