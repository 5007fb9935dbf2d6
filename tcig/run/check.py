"""Checks what the benchmark requires of a method or a judge, and says in plain words what fails."""

import random
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from tcig.data.files import describe
from tcig.data.layout import Layout
from tcig.data.records import RunSpec
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


class CheckResult(NamedTuple):
    """Result of one check."""

    name: str
    """The property."""
    verdict: Literal["ok", "note", "FAIL"]
    message: str
    """The observation and, if it is wrong, advice."""


def check_method(
    method: Method,
    spec: RunSpec,
    layouts: Sequence[Layout],
    caught: Sequence[warnings.WarningMessage],
) -> Iterator[CheckResult]:
    """Checks a method on two layouts or more. A call that fails ends the checks.

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

    if spec.code and not spec.weights and type(method).weights is Method.weights:
        message = (
            "names no weights: if it loads any, return their identities from `weights`, or a run "
            "with other weights counts as the same"
        )
        yield CheckResult("record", "note", message)
    else:
        yield CheckResult("record", "ok", "options and weights are in the run's record")
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
    if images is None:
        return
    try:
        others = generate(range(len(layouts)), first_seed=1101)
    except Exception as error:
        yield CheckResult("seeds", "FAIL", describe(error, source_of(method.generate)))
        return
    if same := sum(map(np.array_equal, images, others)):
        message = (
            f"{same} of {len(images)} images are the same under another seed: more samples of a "
            "layout will tell nothing new"
        )
        yield CheckResult("seeds", "note", message)
    else:
        yield CheckResult("seeds", "ok", "another seed is another image")
    if flat := sum(int(np.ptp(image) == 0) for image in images):
        message = (
            f"{flat} of {len(images)} images are of one grey: if that stands for a failure, raise "
            "an exception, which is counted and tried again, instead of returning a blank"
        )
        yield CheckResult("failures", "FAIL", message)
    else:
        yield CheckResult("failures", "ok", "no blank images")
    yield _check_different("images", images)


def check_judge(
    judge: Judge, images: Sequence[Image.Image], caught: Sequence[warnings.WarningMessage]
) -> Iterator[CheckResult]:
    """Checks a judge on two images or more. A call that fails ends the checks.

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
    if maps is None:
        return
    side = images[0].width
    for size in (side // 2, side + side // 2 + 1):
        try:
            labels = segment([image.resize((size, size)) for image in images])
        except Exception as error:
            yield CheckResult("sizes", "FAIL", f"images of {size}x{size}: {describe(error, '')}")
            return
    native = labels[0].shape[0]
    if native != size:
        message = f"maps of {native}x{native} for images of {size}x{size} are resized by nearest"
        yield CheckResult("sizes", "note", message)
    else:
        yield CheckResult("sizes", "ok", "maps have the size of their images, whatever it is")
    try:
        (labels,) = segment([Image.new("RGB", images[0].size, (127, 127, 127))])
    except Exception as error:
        yield CheckResult("empty", "FAIL", describe(error, ""))
        return
    if classes := [LABELS[index] for index in np.unique(labels) if index]:
        yield CheckResult("empty", "note", f"sees {', '.join(classes)} in a grey image")
    else:
        yield CheckResult("empty", "ok", "sees nothing in a grey image")
    if any(labels.any() for labels in maps):
        yield _check_different("maps", maps)
    else:
        yield CheckResult("maps", "note", "sees no object in any of the images")


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
    numbers, before, started = range(count), _generator_states(), time.perf_counter()
    name, advice = verb, ""
    try:
        first = call(numbers)
        height, width = first[0].shape[:2]
        seconds = (time.perf_counter() - started) / count
        message = f"{count} of {width}x{height}, {seconds:.2g} s each with set-up"
        yield CheckResult(verb, "ok", message)
        yield _check_process(caught)
        yield _check_generators(before)
        for name, batches, advice, allowed in (
            ("deterministic", [numbers], AGAIN, 0 if exact else tolerance),
            ("order", [numbers[::-1]], ORDER, tolerance),
            ("batch", [[number] for number in numbers], BATCH, tolerance),
        ):
            largest = max(
                distance(first[number], output)
                for batch in batches
                for number, output in zip(batch, call(batch), strict=True)
            )
            apart = unit.format(largest)
            if largest > allowed:
                yield CheckResult(name, "FAIL", f"{apart} apart: {advice}")
            else:
                same = f"the same within {apart}" if largest else "the same to the last bit"
                yield CheckResult(name, "ok", same)
    except Exception as error:
        message = describe(error, "")
        yield CheckResult(name, "FAIL", f"{message}: {advice}" if advice else message)
        return None
    return first


def _generator_states() -> dict[str, bytes]:
    """Returns the states of the random generators that all code of a process shares."""
    return {
        "torch's": torch.get_rng_state().numpy().tobytes(),
        "numpy's": repr(np.random.get_state()).encode(),
        "Python's": repr(random.getstate()).encode(),
    }


def _check_process(caught: Sequence[warnings.WarningMessage]) -> CheckResult:
    """Checks that the process was left as it was, from the import on."""
    changes = [str(each.message) for each in caught if issubclass(each.category, StateWarning)]
    if changes:
        message = f"{' '.join(dict.fromkeys(changes))} take such settings back before you return"
        return CheckResult("process", "FAIL", message)
    return CheckResult("process", "ok", "leaves torch, warnings and the working directory alone")


def _check_generators(before: dict[str, bytes]) -> CheckResult:
    """Checks that the shared generators were left alone, then moves them as any code may."""
    used = [name for name, state in _generator_states().items() if state != before[name]]
    torch.rand(7)
    np.random.random(5)
    random.random()
    if used:
        message = (
            f"draws from {' and '.join(used)} global generator, which other code moves: make one "
            "of your own, of the sample's seed"
        )
        return CheckResult("generators", "FAIL", message)
    return CheckResult("generators", "ok", "draws from no generator that other code shares")


def _check_different(name: str, outputs: Arrays) -> CheckResult:
    """Checks that outputs depend on their inputs."""
    if all(np.array_equal(outputs[0], output) for output in outputs[1:]):
        return CheckResult(name, "FAIL", f"the {name} are all the same: what it reads is lost")
    return CheckResult(name, "ok", "each has its own")
