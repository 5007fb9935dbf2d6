"""Checks what the benchmark requires of a method or a judge, and says in plain words what fails."""

import random
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from tcig.data.errors import describe
from tcig.data.layout import Layout
from tcig.data.runs import RunSpec
from tcig.data.voc import LABELS
from tcig.eval.judges import Judge
from tcig.methods.base import Method
from tcig.models.devices import PLAIN
from tcig.models.plugins import StateWarning, refusing, source_of
from tcig.run.batches import check_images

MAX_GREY_LEVELS = 2.0
"""Grey levels, averaged over an image, by which a sample may differ in another batch, because
kernels sum in another order there. On a GPU it may differ in the same batch too, because gradients
of pooling and of grid_sample are summed in any order. Our choice: the first stage of TCIG, the most
sensitive method here, stays under 1 on a CPU."""
MAX_PIXELS = 0.001
"""Share of an image's pixels whose label may differ in another batch, because kernels
sum in another order there (our choice)."""
AGAIN = (
    "the same call gave something else the second time: take every random number from a generator "
    "made of the sample's seed, and keep nothing from one call to the next"
)
ORDER = "an output depends on its place in the call: make a generator for each sample"
BATCH = (
    "an output depends on what stands beside it in the call: share nothing across the batch that a "
    "sample changes; a network in training mode normalises over the batch, eval() stops it"
)
Arrays = list[np.ndarray]
"""Images or label maps, integers."""
Finding = tuple[Literal["ok", "note", "FAIL"], str]
"""A verdict, and what was observed and, if it is wrong, how to fix it."""


class CheckResult(NamedTuple):
    """Result of one check."""

    name: str
    """The property."""
    verdict: Literal["ok", "note", "FAIL"]
    message: str


def check_method(
    method: Method,
    spec: RunSpec,
    layouts: Sequence[Layout],
    caught: Sequence[warnings.WarningMessage],
) -> Iterator[CheckResult]:
    """Checks a method on two layouts or more.

    A method whose first call fails is not checked further.

    Args:
        method: a method that is set up.
        spec: the specification of its run.
        layouts: distinct layouts.
        caught: warnings of its import, its set-up and, while it is checked, its calls.
    """

    def generate(numbers: Sequence[int], first_seed: int = 101) -> Arrays:
        seeds = [first_seed + number for number in numbers]
        with refusing(type(method).__name__, "failed", source_of(method.generate)):
            images = method.generate([layouts[number] for number in numbers], seeds)
            check_images(images, len(seeds), method.context.size)
        return [np.asarray(image).astype(int) for image in images]

    yield _run("record", lambda: _check_record(spec, method))
    images = yield from _check_calls(
        "draws",
        generate,
        len(layouts),
        caught,
        distance=lambda a, b: float(np.abs(a - b).mean()),
        unit="{:.2g} grey levels on the mean",
        tolerance=MAX_GREY_LEVELS,
        exact=method.context.compute.device.type == "cpu",
    )
    if images:
        numbers = range(len(layouts))
        yield _run("seeds", lambda: _check_seeds(images, generate(numbers, first_seed=1101)))
        yield _run("failures", lambda: _check_failures(images))


def check_judge(
    judge: Judge, images: Sequence[Image.Image], caught: Sequence[warnings.WarningMessage]
) -> Iterator[CheckResult]:
    """Checks a judge on two images or more.

    A judge whose first call fails is not checked further.

    Args:
        judge: a judge that is set up.
        images: RGB, distinct, square and of one size.
        caught: as in `check_method`.
    """

    def segment(images: Sequence[Image.Image]) -> Arrays:
        return [segmentation.labels for segmentation in judge.segment(images)]

    maps = yield from _check_calls(
        "segments",
        lambda numbers: segment([images[number] for number in numbers]),
        len(images),
        caught,
        distance=lambda a, b: float((a != b).mean()),
        unit="{:.2%} of the pixels",
        tolerance=MAX_PIXELS,
        exact=PLAIN.device.type == "cpu",
    )
    if maps:
        grey = Image.new("RGB", images[0].size, (127, 127, 127))
        yield _run("sizes", lambda: _check_sizes(segment, images))
        yield _run("empty", lambda: _check_empty(*segment([grey])))
        yield _run("maps", lambda: _check_maps(maps))


def _run(name: str, check: Callable[[], Finding]) -> CheckResult:
    """Runs a check; an exception is a failure."""
    try:
        return CheckResult(name, *check())
    except Exception as error:
        return CheckResult(name, "FAIL", f"failed where it had not before: {describe(error, '')}")


def _check_calls(
    verb: str,
    call: Callable[[Sequence[int]], Arrays],
    count: int,
    caught: Sequence[warnings.WarningMessage],
    *,
    distance: Callable[[np.ndarray, np.ndarray], float],
    unit: str,
    tolerance: float,
    exact: bool,
) -> Generator[CheckResult, None, Arrays | None]:
    """Yields the checks that methods and judges share.

    Args:
        verb: name of the first check.
        call: returns the outputs for the inputs with these numbers, below `count`.
        count: number of inputs.
        caught: as in `check_method`.
        distance: between two outputs.
        unit: format of a distance.
        tolerance: largest distance between outputs for the same input in different batches.
        exact: whether the same batch must give the same to the last bit.

    Returns:
        The outputs of the first call; None if it failed.
    """

    def compare(batches: Sequence[Sequence[int]], advice: str, tolerance: float) -> Finding:
        largest = max(
            distance(first[number], output)
            for batch in batches
            for number, output in zip(batch, call(batch), strict=True)
        )
        if largest > tolerance:
            return "FAIL", f"{unit.format(largest)} apart: {advice}"
        return "ok", f"the same within {unit.format(largest)}" if largest else "the same exactly"

    numbers, states, started = range(count), _generator_states(), time.perf_counter()
    try:
        first = call(numbers)
    except Exception as error:
        yield CheckResult(verb, "FAIL", describe(error, ""))
        return None
    seconds = (time.perf_counter() - started) / count
    height, width = first[0].shape[:2]
    yield CheckResult(verb, "ok", f"{count} of {width}x{height}, {seconds:.2g} s each with set-up")
    yield _run("process", lambda: _check_process(caught))
    yield _run("generators", lambda: _check_generators(states))
    yield _run("deterministic", lambda: compare([numbers], AGAIN, 0 if exact else tolerance))
    yield _run("order", lambda: compare([numbers[::-1]], ORDER, tolerance))
    yield _run("batch", lambda: compare([[n] for n in numbers], BATCH, tolerance))
    return first


def _generator_states() -> dict[str, bytes]:
    """Returns the states of the random generators that all code of a process shares."""
    return {
        "torch's": torch.get_rng_state().numpy().tobytes(),
        "numpy's": repr(np.random.get_state()).encode(),
        "Python's": repr(random.getstate()).encode(),
    }


def _check_process(caught: Sequence[warnings.WarningMessage]) -> Finding:
    """Checks that the process was left as it was, from the import on."""
    changes = [str(each.message) for each in caught if issubclass(each.category, StateWarning)]
    if changes:
        text = " ".join(dict.fromkeys(changes))
        return "FAIL", f"{text} take such settings back before you return, or do without them"
    return "ok", "leaves torch, warnings and the working directory alone"


def _check_generators(before: dict[str, bytes]) -> Finding:
    """Checks that the shared generators were left alone, then moves them as any code may."""
    used = [name for name, state in _generator_states().items() if state != before[name]]
    torch.rand(7)
    np.random.random(5)
    random.random()
    if used:
        return "FAIL", (
            f"draws from {' and '.join(used)} global generator, which other code moves: make one "
            "of your own, of the sample's seed"
        )
    return "ok", "draws from no generator that other code shares"


def _check_record(spec: RunSpec, method: Method) -> Finding:
    """Checks that the run can be told from others."""
    if spec.code and not spec.weights and type(method).weights is Method.weights:
        return "note", (
            "names no weights: if it loads any, return their identities from `weights`, or a run "
            "with other weights counts as the same"
        )
    return "ok", "options and weights are in the run's record"


def _check_seeds(images: Arrays, others: Arrays) -> Finding:
    """Checks that images depend on their seeds."""
    if same := sum(map(np.array_equal, images, others)):
        return "note", (
            f"{same} of {len(images)} images are the same under another seed: more samples of a "
            "layout will tell nothing new"
        )
    return "ok", "another seed is another image"


def _check_failures(images: Arrays) -> Finding:
    """Checks that no image may stand for a failure."""
    if flat := sum(int(np.ptp(image) == 0) for image in images):
        return "FAIL", (
            f"{flat} of {len(images)} images are of one grey: if that stands for a failure, raise "
            "an exception, which is counted and tried again, instead of returning a blank"
        )
    if all(np.array_equal(images[0], image) for image in images[1:]):
        return "FAIL", "every layout got the same image: what it reads of the layout is lost"
    return "ok", "no blank images, and each layout has its own"


def _check_sizes(
    segment: Callable[[Sequence[Image.Image]], Arrays], images: Sequence[Image.Image]
) -> Finding:
    """Checks that a judge takes images of other sizes, as profiles have."""
    side = images[0].width
    for size in (side // 2, side + side // 2 + 1):
        labels = segment([image.resize((size, size)) for image in images])
    native = labels[0].shape[0]
    if native != size:
        return (
            "note",
            f"maps of {native}x{native} for images of {size}x{size} are resized by nearest",
        )
    return "ok", "maps have the size of their images, whatever it is"


def _check_empty(labels: np.ndarray) -> Finding:
    """Checks what a judge sees in an empty image."""
    classes = [LABELS[index] for index in np.unique(labels) if index]
    if classes:
        return "note", f"sees {', '.join(classes)} in a grey image"
    return "ok", "sees nothing in a grey image"


def _check_maps(maps: Arrays) -> Finding:
    """Checks that label maps depend on their images."""
    if not any(labels.any() for labels in maps):
        return "note", "sees no object in any of the images"
    if all(np.array_equal(maps[0], labels) for labels in maps[1:]):
        return "FAIL", "every image got the same label map: what it reads of the image is lost"
    return "ok", "each has its own"
