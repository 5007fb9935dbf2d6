"""Whether a method keeps what the benchmark builds on, said in plain words."""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
import torch

from tcig.data.errors import describe
from tcig.data.layout import Layout
from tcig.methods.base import Method
from tcig.methods.loading import source_of
from tcig.run.calls import at_once, check_images, is_thread_safe
from tcig.run.spec import RunSpec

LEVELS = 2.0
"""Grey levels, on the mean over an image, by which a sample may differ from itself in another
batch: kernels sum in another order there. On a GPU it may differ from itself in the same batch too,
because gradients of pooling and of grid_sample are summed in any order. Ours: the first stage of
TCIG, the most sensitive method here, stays under 1 on a CPU."""


class Finding(NamedTuple):
    """What one check found."""

    verdict: Literal["ok", "note", "FAIL"]
    what: str
    """The property."""
    said: str
    """What was seen and, if it is wrong, how to mend it."""


def check(method: Method, spec: RunSpec, layouts: Sequence[Layout]) -> Iterator[Finding]:
    """Checks a method on three layouts or more, one after another.

    A method whose first call fails is checked no further.

    Args:
        method: set up.
        spec: of its run.
        layouts: distinct ones.
    """
    yield _record(spec, method)
    seeds = list(range(101, 101 + len(layouts)))
    before = _global_states()
    started = time.perf_counter()
    try:
        first = _drawn(method, layouts, seeds)
    except Exception as error:
        said = f"generate() raised {describe(error, source_of(type(method)))}"
        yield Finding("FAIL", "draws", said)
        return
    seconds = (time.perf_counter() - started) / len(layouts)
    size = method.context.size
    said = f"{len(layouts)} RGB images of {size}x{size}, {seconds:.2g} s each with set-up"
    yield Finding("ok", "draws", said)
    yield _global(before)
    _disturb()
    alone = [([layout], [seed]) for layout, seed in zip(layouts, seeds, strict=True)]
    yield _same(
        "deterministic",
        first,
        lambda: _drawn(method, layouts, seeds),
        0 if method.context.compute.device.type == "cpu" else LEVELS,
        "the same layouts with the same seeds gave other images the second time: take every random "
        "draw from a generator made of the sample's seed",
    )
    yield _same(
        "order",
        first[::-1],
        lambda: _drawn(method, layouts[::-1], seeds[::-1]),
        LEVELS,
        "an image depends on its place in the call: make one generator for each sample, not one "
        "for the batch",
    )
    yield _same(
        "batch",
        first,
        lambda: [_drawn(method, *one)[0] for one in alone],
        LEVELS,
        "an image depends on what stands beside it in the call: draw each sample from its own "
        "generator, and share nothing across the batch that a sample changes",
    )
    if is_thread_safe(method):
        yield _same(
            "threads",
            first,
            lambda: chain(*at_once(lambda one: _drawn(method, *one), alone)),
            LEVELS,
            "threads that call generate() at once disturb each other: keep what it works with out "
            "of what they share, such as self, or leave thread_safe out",
        )
    yield _seeds(first, lambda: _drawn(method, layouts, [seed + 1000 for seed in seeds]))
    yield _honest(first)


def _drawn(method: Method, layouts: Sequence[Layout], seeds: Sequence[int]) -> list[np.ndarray]:
    images = method.generate(list(layouts), list(seeds))
    check_images(images, len(layouts), method.context.size)
    return [np.asarray(image).astype(int) for image in images]


def _record(spec: RunSpec, method: Method) -> Finding:
    """Whether the run can be told from others."""
    try:
        json.dumps(asdict(method.options))
    except TypeError as error:
        said = f"its options cannot be written as JSON ({error}): take numbers, texts, tuples"
        return Finding("FAIL", "record", said)
    if spec.code and not spec.weights and type(method).weights is Method.weights:
        said = (
            "names no weights: if it loads any, return their identities from `weights`, or a run "
            "with other weights counts as the same"
        )
        return Finding("note", "record", said)
    return Finding("ok", "record", "options and weights are in the run's record")


def _global_states() -> dict[str, bytes]:
    """Of the random generators that all code of a process shares."""
    return {
        "torch's": torch.get_rng_state().numpy().tobytes(),
        "numpy's": repr(np.random.get_state()).encode(),
        "Python's": repr(random.getstate()).encode(),
    }


def _global(before: dict[str, bytes]) -> Finding:
    used = [name for name, state in _global_states().items() if state != before[name]]
    if not used:
        return Finding("ok", "generators", "draws from no generator that other code shares")
    said = (
        f"draws from {' and '.join(used)} global generator, which other code moves: make one of "
        "the sample's seed"
    )
    return Finding("FAIL", "generators", said)


def _disturb() -> None:
    """Moves the shared generators, as any other code may."""
    torch.rand(7)
    np.random.random(5)
    random.random()


def _same(
    what: str, expected: list[np.ndarray], draw: Callable, allowed: float, mend: str
) -> Finding:
    try:
        found = draw()
    except Exception as error:
        said = f"failed where it had not before ({type(error).__name__}: {error}): {mend}"
        return Finding("FAIL", what, said)
    pairs = zip(expected, found, strict=True)
    apart = max(float(np.abs(one - other).mean()) for one, other in pairs)
    if apart == 0:
        return Finding("ok", what, "the same to the last bit")
    if apart <= allowed:
        return Finding("ok", what, f"the same within {apart:.2g} grey levels on the mean")
    return Finding("FAIL", what, f"{apart:.3g} grey levels apart: {mend}")


def _seeds(first: list[np.ndarray], draw: Callable) -> Finding:
    same = sum(np.array_equal(one, other) for one, other in zip(first, draw(), strict=True))
    if same:
        said = (
            f"{same} of {len(first)} images are the same under another seed: more samples of a "
            "layout will tell nothing new"
        )
        return Finding("note", "seeds", said)
    return Finding("ok", "seeds", "another seed is another image")


def _honest(images: list[np.ndarray]) -> Finding:
    """Whether a failure may hide behind an image."""
    flat = sum(int(np.ptp(image) == 0) for image in images)
    if flat:
        said = (
            f"{flat} of {len(images)} images are of one grey: if that stands for a failure, raise "
            "an exception, which is counted and tried again, instead of returning a blank"
        )
        return Finding("FAIL", "failures", said)
    if all(np.array_equal(images[0], image) for image in images[1:]):
        said = "every layout got the same image: what it reads of the layout does not arrive"
        return Finding("FAIL", "failures", said)
    return Finding("ok", "failures", "no blank images, and each layout has its own")
