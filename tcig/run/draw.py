"""A method at work on batches of samples: what a process that draws does, whoever keeps it."""

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

from PIL import Image

from tcig.data.errors import DeviceLostError, describe
from tcig.data.layout import Layout
from tcig.data.seeds import seed_of
from tcig.eval.provenance import revision
from tcig.methods.base import Method
from tcig.models.devices import name_of
from tcig.models.plugins import guard, source_of
from tcig.run.batches import Batches, context_lost, meter_of, out_of_memory

_MIB = 2**20 if sys.platform == "darwin" else 2**10
"""Units of getrusage's ru_maxrss in a MiB: bytes on macOS, KiB elsewhere."""

Sample = tuple[Layout, int]
"""A layout and the number of a sample of it."""


class Drawn(NamedTuple):
    """A sample's row, which has the error where there is no image, and the image as PNG."""

    row: dict
    png: bytes | None


class Painter:
    """Draws samples with a method, as many in a call as asked for and as memory allows."""

    def __init__(self, method: Method, most: int):
        self.method, compute = method, method.context.compute
        self._batches = Batches(most, meter_of(compute), compute.fixed_batch)
        self._device = name_of(method.context.compute)

    def draw(
        self, samples: Sequence[Sample], progress: Callable[[float], None] | None = None
    ) -> Iterator[Drawn]:
        """Each sample's row and image.

        A batch that fails is tried again sample by sample, so that one bad layout costs no other;
        one that runs out of memory is halved, as are those after it. Where the first sample
        measures memory, that is one of the layout with the most regions.

        Args:
            samples: what to draw.
            progress: is told how many samples of the call under way are done, a fraction too.

        Raises:
            DeviceLostError: a CUDA error has made the device unusable for this process.
        """
        if not self._batches.measured and samples:
            largest = max(samples, key=lambda pair: len(pair[0].regions))
            samples = [largest, *(pair for pair in samples if pair is not largest)]
        while samples:
            size = self._batches.size
            yield from self._call(samples[:size], progress)
            samples = samples[size:]

    def _call(
        self, samples: Sequence[Sample], progress: Callable[[float], None] | None
    ) -> Iterator[Drawn]:
        seeds = [seed_of(layout.id, sample) for layout, sample in samples]
        started = time.perf_counter()
        self._batches.start()
        images, reason, halve = [None], None, False
        layouts = [layout for layout, _ in samples]
        try:
            tell = progress and (lambda share: progress(share * len(samples)))
            images = generate_batch(self.method, layouts, seeds, tell)
        except Exception as error:
            reason = describe(error, source_of(self.method.generate))
            if context_lost(error):
                raise DeviceLostError(
                    f"the GPU failed ({reason}). What is finished is kept: run the same command "
                    "again to go on."
                ) from None
            halve = out_of_memory(error)
            traceback.clear_frames(error.__traceback__)  # they hold the failed batch's tensors
        if reason and len(samples) > 1:
            gc.collect()
            part = self._batches.halve(len(samples)) if halve else 1
            for first in range(0, len(samples), part):
                yield from self._call(samples[first : first + part], progress)
            return
        peak = self._batches.done(len(samples))
        seconds = round((time.perf_counter() - started) / len(samples), 4)
        for (layout, sample), image in zip(samples, images, strict=True):
            row = failed_row(layout, sample, reason) | {
                "seconds": seconds,
                "batch": len(samples),
                "peak_mib": _peak_mib(),
                "peak_device_mib": peak,
                "versions": versions(),
                "device": self._device,
            }
            yield Drawn(row, None if image is None else encoded(image))


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


def failed_row(layout: Layout, sample: int, reason: str | None) -> dict:
    """What every row has, also that of a sample of which no process came back to tell more."""
    return {
        "layout": layout.id,
        "sample": sample,
        "seed": seed_of(layout.id, sample),
        "error": reason,
        "seconds": None,
        "batch": 1,
        "peak_mib": None,
        "peak_device_mib": None,
        "versions": versions(),
        "device": None,
    }


def encoded(image: Image.Image) -> bytes:
    """As PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@cache
def versions() -> dict[str, str]:
    """Of what draws, and the checkout's commit where there is one."""
    packages = {name: version(name) for name in ("tcig", "torch", "diffusers", "numpy", "pillow")}
    commit, dirty = revision()
    if commit:
        packages["revision"] = commit[:12] + (" and changes" if dirty else "")
    return packages | {"python": platform.python_version()}


def _peak_mib() -> int:
    """The process's peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB
