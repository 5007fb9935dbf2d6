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


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether a device or the machine has too little memory for a batch."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


class BatchGenerator:
    """Generates samples with a method, at most `largest` in a call.

    On CUDA the first sample is generated alone and measured, unless the profile fixes the size.
    Whenever memory runs out, the size is halved for good.
    """

    def __init__(self, method: Method, largest: int):
        self.method, compute = method, method.context.compute
        self.cuda = torch.cuda if compute.device.type == "cuda" else None
        self.measured = compute.fixed_batch or self.cuda is None
        self.largest, self.size = largest, largest if self.measured else 1
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
        if not self.measured and samples:
            largest = max(samples, key=lambda pair: len(pair[0].regions))
            samples = [largest, *(pair for pair in samples if pair is not largest)]
        while samples:
            size = self.size
            yield from self._generate(samples[:size], progress)
            samples = samples[size:]

    def _generate(
        self, samples: Sequence[Sample], progress: Callable[[float], None] | None
    ) -> Iterator[GeneratedSample]:
        count = len(samples)
        layouts = [layout for layout, _ in samples]
        seeds = [seed_of(layout.id, sample) for layout, sample in samples]
        images, reason, halve = [None], None, False
        started = time.perf_counter()
        if self.cuda:
            self.cuda.reset_peak_memory_stats()
            allocated = self.cuda.memory_allocated()
        try:
            tell = progress and (lambda share: progress(share * count))
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
        if reason and count > 1:
            gc.collect()
            if halve:
                self.size, self.measured = count // 2, True
                if self.cuda:
                    self.cuda.empty_cache()
            size = self.size if halve else 1
            for first in range(0, count, size):
                yield from self._generate(samples[first : first + size], progress)
            return
        measured = {
            "seconds": round((time.perf_counter() - started) / count, 4),
            "batch": count,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB,
            "peak_device_mib": self._measure(allocated, count) if self.cuda else None,
            "device": self._device,
        }
        for (layout, sample), image in zip(samples, images, strict=True):
            record = failed_record(layout, sample, reason) | measured
            yield GeneratedSample(record, None if image is None else encode_png(image))

    def _measure(self, allocated: int, count: int) -> int:
        """Returns the peak of a batch in MiB; the first one gives the size of the others.

        Args:
            allocated: bytes that torch held before the batch.
            count: samples in the batch.
        """
        peak = self.cuda.max_memory_allocated()
        if not self.measured:
            self.measured = True
            unused = self.cuda.memory_reserved() - self.cuda.memory_allocated()
            free = self.cuda.mem_get_info()[0] + unused  # of the driver and of torch
            each = max((peak - allocated) // count, 1)
            self.size = max(1, min(self.largest, int(MEMORY_SHARE * free) // each))
        return peak // 2**20


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
