"""The loop of a run: what is not done yet, in batches, each sample committed on its own."""

import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version

from PIL import Image
from tqdm import tqdm

from tcig.data.errors import describe
from tcig.data.layout import Layout
from tcig.eval.provenance import revision
from tcig.methods.base import Method
from tcig.methods.loading import source_of
from tcig.models.devices import PLAIN, Compute, name_of
from tcig.run.batches import Batches, meter_of, out_of_memory
from tcig.run.store import RunStore
from tcig.seeds import seed_of

_MIB = 2**20 if sys.platform == "darwin" else 2**10
"""Units of getrusage's ru_maxrss in a MiB: bytes on macOS, KiB elsewhere."""


def generate(
    method: Method,
    layouts: Sequence[Layout],
    samples: int,
    batch: int,
    store: RunStore,
    compute: Compute = PLAIN,
) -> int:
    """Generates the samples that the store lacks.

    A batch that fails is tried again sample by sample, so that one bad layout costs no other; one
    that runs out of memory is halved, as are those after it.

    Args:
        method: as said.
        layouts: in this order.
        samples: of each layout.
        batch: the most samples in a call.
        store: of the run.
        compute: names the device, whose memory may bound a batch.

    Returns:
        How many samples failed; each has a row with its error.

    Raises:
        OSError: the store cannot be written; what it holds stays good.
    """
    pairs = [(layout, sample) for layout in layouts for sample in range(samples)]
    pending = [pair for pair in pairs if (pair[0].id, pair[1]) not in store.done]
    device = name_of(compute)
    failures, batches = Counter(), Batches(batch, meter_of(compute))
    with tqdm(
        total=len(pairs),
        initial=len(pairs) - len(pending),
        desc=store.spec.method,
        unit="image",
        disable=None,
    ) as bar:
        while pending:
            chunk, pending = pending[: batches.size], pending[batches.size :]
            for row, image in _draw(method, chunk, store.spec.size, batches):
                row["device"] = device
                if image is None:
                    failures[row["error"]] += 1
                    if failures[row["error"]] == 1:  # the same again is counted below
                        name = f"{store.spec.method} {row['layout']}-{row['sample']}"
                        tqdm.write(f"{name} failed: {row['error']}", file=sys.stderr)
                store.add(row, image)
                bar.update()
    failed = failures.total()
    if failed > len(failures) or failed == len(pairs):
        print(
            f"{store.spec.method}: {failed} of {len(pairs)} samples failed; each one's error is in "
            f"{store.folder / 'rows.jsonl'}, and `tcig check-method` tries a method alone.",
            file=sys.stderr,
        )
    return failed


def _draw(
    method: Method, chunk: list[tuple[Layout, int]], size: int, batches: Batches
) -> Iterator[tuple[dict, Image.Image | None]]:
    """Each sample's row and image; the row has the error where there is no image."""
    seeds = [seed_of(layout.id, sample) for layout, sample in chunk]
    started = time.perf_counter()
    batches.start()
    try:
        images = method.generate([layout for layout, _ in chunk], seeds)
        check_images(images, len(chunk), size)
    except Exception as error:
        if len(chunk) > 1:
            part = batches.halve(len(chunk)) if out_of_memory(error) else 1
            for first in range(0, len(chunk), part):
                yield from _draw(method, chunk[first : first + part], size, batches)
            return
        images, reason = [None], describe(error, source_of(type(method)))
    else:
        reason = None
    peak = batches.done(len(chunk))
    seconds = round((time.perf_counter() - started) / len(chunk), 4)
    for (layout, sample), seed, image in zip(chunk, seeds, images, strict=True):
        row = {
            "layout": layout.id,
            "sample": sample,
            "seed": seed,
            "error": reason,
            "seconds": seconds,
            "batch": len(chunk),
            "peak_mib": _peak_mib(),
            "peak_device_mib": peak,
            "versions": _versions(),
        }
        yield row, image


@cache
def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("tcig", "torch", "diffusers", "numpy", "pillow")}
    commit, dirty = revision()
    if commit:
        packages["revision"] = commit[:12] + (" and changes" if dirty else "")
    return packages | {"python": platform.python_version()}


def _peak_mib() -> int:
    """The process's peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB


def check_images(images: list[Image.Image], count: int, size: int) -> None:
    """Whether a method gave `count` RGB images of `size` pixels a side.

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
