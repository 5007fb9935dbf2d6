"""Whether a method or a judge keeps what the benchmark builds on, said in plain words."""

import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from tcig.data.errors import describe
from tcig.data.layout import Layout
from tcig.data.voc import LABELS
from tcig.eval.judges import StagedJudge
from tcig.methods.base import Method
from tcig.models.devices import PLAIN
from tcig.models.plugins import StateWarning, guard, source_of
from tcig.run.batches import check_images
from tcig.run.spec import RunSpec

LEVELS = 2.0
"""Grey levels, on the mean over an image, by which a sample may differ from itself in another
batch: kernels sum in another order there. On a GPU it may differ from itself in the same batch too,
because gradients of pooling and of grid_sample are summed in any order. Ours: the first stage of
TCIG, the most sensitive method here, stays under 1 on a CPU."""
PIXELS = 0.001
"""Share of the pixels of an image whose label may differ in another batch, for the same reason;
ours."""

Arrays = list[np.ndarray]
"""Images or label maps, integers."""


class Finding(NamedTuple):
    """What one check found."""

    verdict: Literal["ok", "note", "FAIL"]
    what: str
    """The property."""
    said: str
    """What was seen and, if it is wrong, how to mend it."""


def check_method(
    method: Method,
    spec: RunSpec,
    layouts: Sequence[Layout],
    caught: Sequence[warnings.WarningMessage],
) -> Iterator[Finding]:
    """Checks a method on three layouts or more, one after another.

    A method whose first call fails is checked no further.

    Args:
        method: set up.
        spec: of its run.
        layouts: distinct ones.
        caught: warnings of its import, its set-up and, while it is checked, its calls.
    """
    yield _record(spec, method)
    seeds = list(range(101, 101 + len(layouts)))
    before = _global_states()
    started = time.perf_counter()
    try:
        first = _drawn(method, layouts, seeds)
    except Exception as error:
        said = f"generate() raised {describe(error, source_of(method.generate))}"
        yield Finding("FAIL", "draws", said)
        return
    seconds = (time.perf_counter() - started) / len(layouts)
    size = method.context.size
    said = f"{len(layouts)} RGB images of {size}x{size}, {seconds:.2g} s each with set-up"
    yield Finding("ok", "draws", said)
    yield _process(caught)
    yield _global(before)
    _disturb()
    alone = [([layout], [seed]) for layout, seed in zip(layouts, seeds, strict=True)]
    same = _Same("{:.2g} grey levels on the mean", lambda a, b: float(np.abs(a - b).mean()))
    yield same.find(
        "deterministic",
        first,
        lambda: _drawn(method, layouts, seeds),
        0 if method.context.compute.device.type == "cpu" else LEVELS,
        "the same layouts with the same seeds gave other images the second time: take every random "
        "draw from a generator made of the sample's seed",
    )
    yield same.find(
        "order",
        first[::-1],
        lambda: _drawn(method, layouts[::-1], seeds[::-1]),
        LEVELS,
        "an image depends on its place in the call: make one generator for each sample, not one "
        "for the batch",
    )
    yield same.find(
        "batch",
        first,
        lambda: [_drawn(method, *one)[0] for one in alone],
        LEVELS,
        "an image depends on what stands beside it in the call: draw each sample from its own "
        "generator, and share nothing across the batch that a sample changes",
    )
    yield _seeds(first, lambda: _drawn(method, layouts, [seed + 1000 for seed in seeds]))
    yield _honest(first)


def check_judge(
    judge: StagedJudge,
    images: Sequence[Image.Image],
    caught: Sequence[warnings.WarningMessage],
) -> Iterator[Finding]:
    """Checks a judge on three images or more, one after another.

    A judge whose first call fails is checked no further.

    Args:
        judge: set up.
        images: RGB, distinct, square and of one size.
        caught: as in `check_method`.
    """
    before = _global_states()
    started = time.perf_counter()
    try:
        first = _labels(judge, images)
    except Exception as error:
        yield Finding("FAIL", "segments", _said(error))
        return
    seconds = (time.perf_counter() - started) / len(images)
    height, width = first[0].shape
    said = f"{len(images)} label maps of {width}x{height}, {seconds:.2g} s each with set-up"
    yield Finding("ok", "segments", said)
    yield _process(caught)
    yield _global(before)
    _disturb()
    same = _Same("{:.2%} of the pixels", lambda a, b: float((a != b).mean()))
    yield same.find(
        "deterministic",
        first,
        lambda: _labels(judge, images),
        0 if PLAIN.device.type == "cpu" else PIXELS,
        "the same images gave other label maps the second time: leave out what is random, as "
        "dropout is, and keep nothing from one call to the next",
    )
    yield same.find(
        "order",
        first[::-1],
        lambda: _labels(judge, images[::-1]),
        PIXELS,
        "a label map depends on its image's place in the call",
    )
    yield same.find(
        "batch",
        first,
        lambda: [_labels(judge, [image])[0] for image in images],
        PIXELS,
        "a label map depends on the images beside its own: a network in training mode normalises "
        "over the batch, eval() stops it",
    )
    yield _sizes(judge, images)
    yield _empty(judge, images[0].size)
    if not any(labels.any() for labels in first):
        yield Finding("note", "maps", "sees no object in any of the images")
    elif all(np.array_equal(first[0], labels) for labels in first[1:]):
        said = "every image got the same label map: what it reads of the image does not arrive"
        yield Finding("FAIL", "maps", said)
    else:
        yield Finding("ok", "maps", "each image has its own")


def _drawn(method: Method, layouts: Sequence[Layout], seeds: Sequence[int]) -> Arrays:
    with guard(type(method).__name__):
        images = method.generate(list(layouts), list(seeds))
        check_images(images, len(layouts), method.context.size)
    return [np.asarray(image).astype(int) for image in images]


def _labels(judge: StagedJudge, images: Sequence[Image.Image]) -> Arrays:
    return [each.labels for each in judge.segment(images)]


def _said(error: Exception) -> str:
    return describe(error, "").removesuffix(".")


def _record(spec: RunSpec, method: Method) -> Finding:
    """Whether the run can be told from others."""
    if spec.code and not spec.weights and type(method).weights is Method.weights:
        said = (
            "names no weights: if it loads any, return their identities from `weights`, or a run "
            "with other weights counts as the same"
        )
        return Finding("note", "record", said)
    return Finding("ok", "record", "options and weights are in the run's record")


def _process(caught: Sequence[warnings.WarningMessage]) -> Finding:
    """Whether it left the process as it was, from its import on."""
    said = [str(each.message) for each in caught if issubclass(each.category, StateWarning)]
    if not said:
        return Finding("ok", "process", "leaves torch, warnings and the working directory alone")
    mend = "take such settings back before you return, or do without them"
    return Finding("FAIL", "process", f"{' '.join(dict.fromkeys(said))} {mend}")


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
        "your own, of the sample's seed"
    )
    return Finding("FAIL", "generators", said)


def _disturb() -> None:
    """Moves the shared generators, as any other code may."""
    torch.rand(7)
    np.random.random(5)
    random.random()


class _Same(NamedTuple):
    """Compares what two calls gave."""

    unit: str
    """Format of a distance."""
    distance: Callable[[np.ndarray, np.ndarray], float]

    def find(
        self, what: str, expected: Arrays, again: Callable[[], Arrays], allowed: float, mend: str
    ) -> Finding:
        try:
            found = again()
        except Exception as error:
            said = f"failed where it had not before ({_said(error)}): {mend}"
            return Finding("FAIL", what, said)
        if any(a.shape != b.shape for a, b in zip(expected, found, strict=True)):
            return Finding("FAIL", what, f"of another size than before: {mend}")
        apart = max(self.distance(a, b) for a, b in zip(expected, found, strict=True))
        if apart == 0:
            return Finding("ok", what, "the same to the last bit")
        if apart <= allowed:
            return Finding("ok", what, f"the same within {self.unit.format(apart)}")
        return Finding("FAIL", what, f"{self.unit.format(apart)} apart: {mend}")


def _seeds(first: Arrays, draw: Callable[[], Arrays]) -> Finding:
    try:
        same = sum(np.array_equal(one, other) for one, other in zip(first, draw(), strict=True))
    except Exception as error:
        return Finding("FAIL", "seeds", f"failed where it had not before ({_said(error)})")
    if same:
        said = (
            f"{same} of {len(first)} images are the same under another seed: more samples of a "
            "layout will tell nothing new"
        )
        return Finding("note", "seeds", said)
    return Finding("ok", "seeds", "another seed is another image")


def _honest(images: Arrays) -> Finding:
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


def _sizes(judge: StagedJudge, images: Sequence[Image.Image]) -> Finding:
    """Whether it takes images of other sizes, as profiles have."""
    side = images[0].width
    for other in (side // 2, side + side // 2 + 1):
        resized = [image.resize((other, other)) for image in images]
        try:
            labels = _labels(judge, resized)
        except Exception as error:
            return Finding("FAIL", "sizes", f"images of {other}x{other}: {_said(error)}")
    native = labels[0].shape[0]
    if native != other:
        said = f"maps of {native}x{native} for images of {other}x{other} are resized by nearest"
        return Finding("note", "sizes", said)
    return Finding("ok", "sizes", "maps have the size of their images, whatever it is")


def _empty(judge: StagedJudge, size: tuple[int, int]) -> Finding:
    """What it sees where nothing is."""
    try:
        (labels,) = _labels(judge, [Image.new("RGB", size, (127, 127, 127))])
    except Exception as error:
        return Finding("FAIL", "empty", f"a grey image: {_said(error)}")
    seen = [LABELS[index] for index in np.unique(labels) if index]
    if seen:
        return Finding("note", "empty", f"sees {', '.join(seen)} in a grey image")
    return Finding("ok", "empty", "sees nothing in a grey image")
