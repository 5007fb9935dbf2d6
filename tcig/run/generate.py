"""The loop of a run: what is not done yet, in batches, each sample committed on its own."""

import platform
import resource
import sys
import time
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version

from PIL import Image
from tqdm import tqdm

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.methods.base import Method
from tcig.run.store import RunStore
from tcig.seeds import seed_of

_MIB = 2**20 if sys.platform == "darwin" else 2**10
"""Units of getrusage's ru_maxrss in a MiB: bytes on macOS, KiB elsewhere."""


def generate(
    method: Method, layouts: Sequence[Layout], samples: int, batch: int, store: RunStore
) -> int:
    """Generates the samples that the store lacks.

    A batch that fails is tried again sample by sample, so that one bad layout costs no other.

    Returns:
        How many samples failed; each has a row with its error.
    """
    pairs = [(layout, sample) for layout in layouts for sample in range(samples)]
    pending = [pair for pair in pairs if (pair[0].id, pair[1]) not in store.done]
    failed = 0
    with tqdm(
        total=len(pairs),
        initial=len(pairs) - len(pending),
        desc=store.spec.method,
        unit="image",
        disable=None,
    ) as bar:
        for first in range(0, len(pending), batch):
            chunk = pending[first : first + batch]
            try:
                _commit(method, chunk, store)
            except Exception as error:
                if len(chunk) == 1:
                    failed += _record_failure(chunk[0], error, store)
                else:
                    failed += sum(_alone(method, pair, store) for pair in chunk)
            bar.update(len(chunk))
            bar.set_postfix(failed=failed, refresh=False)
    return failed


def _alone(method: Method, pair: tuple[Layout, int], store: RunStore) -> int:
    try:
        _commit(method, [pair], store)
    except Exception as error:
        return _record_failure(pair, error, store)
    return 0


def _commit(method: Method, chunk: list[tuple[Layout, int]], store: RunStore) -> None:
    seeds = [seed_of(layout.id, sample) for layout, sample in chunk]
    started = time.perf_counter()
    images = method.generate([layout for layout, _ in chunk], seeds)
    seconds = (time.perf_counter() - started) / len(chunk)
    _check(images, len(chunk), store.spec.size)
    for (layout, sample), image in zip(chunk, images, strict=True):
        row = _row(layout, sample) | {"seconds": round(seconds, 4), "peak_mib": _peak_mib()}
        store.add(row, image)


def _record_failure(pair: tuple[Layout, int], error: Exception, store: RunStore) -> int:
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        raise error  # the disk, not the sample
    text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    tqdm.write(f"{store.spec.method}: {pair[0].id}-{pair[1]} failed: {text}", file=sys.stderr)
    store.add(_row(*pair) | {"seconds": None, "peak_mib": _peak_mib(), "error": text}, None)
    return 1


def _row(layout: Layout, sample: int) -> dict:
    return {
        "layout": layout.id,
        "sample": sample,
        "seed": seed_of(layout.id, sample),
        "error": None,
        "versions": _versions(),
    }


@cache
def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("tcig", "torch", "numpy", "pillow")}
    return packages | {"python": platform.python_version()}


def _peak_mib() -> int:
    """The process's peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB


def _check(images: list[Image.Image], count: int, size: int) -> None:
    if len(images) != count:
        raise ValueError(f"the method gave {len(images)} images for {count} layouts")
    for image in images:
        if image.size != (size, size) or image.mode != "RGB":
            raise ValueError(
                f"the method gave a {image.mode} image of {image.width}x{image.height}, "
                f"RGB of {size}x{size} is needed"
            )
