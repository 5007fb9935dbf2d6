"""How many samples a call of a method takes: as many as the GPU's memory holds."""

from typing import Protocol

import torch

from tcig.models.devices import Compute

SHARE = 0.9
"""Of the free memory that a batch may fill by what one sample took; ours."""


NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
)
"""How torch, cuDNN and cuBLAS say that memory ran out."""
LOST = (
    "an illegal memory access was encountered",
    "device-side assert triggered",
    "unspecified launch failure",
    "misaligned address",
    "an illegal instruction was encountered",
    "uncorrectable ECC error encountered",
)
"""Texts of the CUDA errors after which a process cannot use the device any more (CUDA Runtime API,
cudaError: "must be terminated and relaunched")."""


class Meter(Protocol):
    """Memory of a device, in bytes."""

    def start(self) -> None:
        """Begins a measurement."""

    def used(self) -> int:
        """The most that was allocated since, beyond what was at its start."""

    def peak(self) -> int:
        """The most that was allocated since."""

    def free(self) -> int:
        """What can be allocated now."""


class CudaMeter:
    """Of the current CUDA device, by torch's own allocator."""

    def start(self) -> None:
        """See `Meter`."""
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def used(self) -> int:
        """See `Meter`."""
        return self.peak() - self._before

    def peak(self) -> int:
        """See `Meter`."""
        return torch.cuda.max_memory_allocated()

    def free(self) -> int:
        """See `Meter`: what the driver has, and what torch holds without need."""
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + kept


def meter_of(compute: Compute) -> Meter | None:
    """A meter where the device has one; elsewhere batches are as large as asked for."""
    return CudaMeter() if compute.device.type == "cuda" else None


class Batches:
    """The size of the next batch.

    With a meter the first sample goes alone and tells what one takes, unless the size is fixed.
    Whenever memory runs out the size is halved for good.
    """

    def __init__(self, most: int, meter: Meter | None, fixed: bool = False):
        self.most, self.meter = most, meter
        self.measured = fixed or meter is None
        self.size = most if self.measured else 1

    def start(self) -> None:
        """Before a call."""
        if self.meter:
            self.meter.start()

    def done(self, count: int) -> int | None:
        """After a call with `count` samples: its peak in MiB, None where there is no meter."""
        if self.meter is None:
            return None
        if not self.measured:
            self.measured = True
            each = max(self.meter.used() // count, 1)
            self.size = max(1, min(self.most, int(SHARE * self.meter.free()) // each))
        return self.meter.peak() // 2**20

    def halve(self, count: int) -> int:
        """After a call with `count` samples ran out of memory: the size to try."""
        self.measured = True
        self.size = max(1, count // 2)
        if self.meter:
            torch.cuda.empty_cache()
        return self.size


def out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine has too little memory for a batch."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in NO_MEMORY)


def context_lost(error: BaseException) -> bool:
    """Whether a CUDA error has made every later call on the device fail too."""
    return isinstance(error, RuntimeError) and any(each in str(error) for each in LOST)
