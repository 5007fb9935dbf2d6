"""Checks what the benchmark requires of a method, and says in plain words what fails."""

import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from tcig.data.files import describe
from tcig.data.layout import Layout
from tcig.data.records import RunSpec
from tcig.methods.base import Method
from tcig.models.plugins import StateWarning, guard, source_of
from tcig.run.batches import check_images

MAX_GREY_LEVELS = 2.0
"""Grey levels, averaged over an image, by which a sample may differ in another batch, because
kernels sum in another order there. On a GPU it may differ in the same batch too, because gradients
of pooling and of grid_sample are summed in any order. Our choice: the first stage of TCIG, the most
sensitive method here, stays under 1 on a CPU."""
Arrays = list[np.ndarray]
"""Images or label maps, integers."""


class CheckResult(NamedTuple):
    """Result of one check."""

    verdict: Literal["ok", "note", "FAIL"]
    name: str
    """The property."""
    message: str
    """What was observed and, if it is wrong, how to fix it."""


class NoteError(Exception):
    """Something that is unusual and allowed."""


class FaultError(Exception):
    """Something that is wrong, and how to fix it."""


Check = tuple[str, Callable[[], str]]
"""A property, and a function that returns what was observed, or raises an exception."""


def run_check(name: str, check: Callable[[], str]) -> CheckResult:
    """Runs a check; an exception that it does not expect is a failure."""
    try:
        return CheckResult("ok", name, check())
    except NoteError as note:
        return CheckResult("note", name, str(note))
    except FaultError as fault:
        return CheckResult("FAIL", name, str(fault))
    except Exception as error:
        return CheckResult("FAIL", name, f"failed where it had not before ({reason_of(error)})")


def check_method(
    method: Method,
    spec: RunSpec,
    layouts: Sequence[Layout],
    caught: Sequence[warnings.WarningMessage],
) -> Iterator[CheckResult]:
    """Checks a method on three layouts or more.

    A method whose first call fails is not checked further.

    Args:
        method: a method that is set up.
        spec: the specification of its run.
        layouts: distinct layouts.
        caught: warnings of its import, its set-up and, while it is checked, its calls.
    """

    def generate(numbers: Sequence[int], first_seed: int = 101) -> Arrays:
        seeds = [first_seed + number for number in numbers]
        with guard(type(method).__name__):
            images = method.generate([layouts[number] for number in numbers], seeds)
            check_images(images, len(seeds), method.context.size)
        return [np.asarray(image).astype(int) for image in images]

    yield run_check("record", lambda: _check_record(spec, method))
    numbers, size = range(len(layouts)), method.context.size
    states, started = generator_states(), time.perf_counter()
    try:
        first = generate(numbers)
    except Exception as error:
        reason = describe(error, source_of(method.generate))
        yield CheckResult("FAIL", "draws", f"generate() raised {reason}")
        return
    seconds = (time.perf_counter() - started) / len(layouts)
    said = f"{len(layouts)} RGB images of {size}x{size}, {seconds:.2g} s each with set-up"
    yield CheckResult("ok", "draws", said)
    on_cpu = method.context.compute.device.type == "cpu"
    unit = "{:.2g} grey levels on the mean"
    same = Repeats(generate, first, _grey_levels, unit, MAX_GREY_LEVELS, on_cpu)
    advice = (
        "the same layouts with the same seeds gave other images the second time: take every random "
        "draw from a generator made of the sample's seed",
        "an image depends on its place in the call: make one generator for each sample, not one "
        "for the batch",
        "an image depends on what stands beside it in the call: draw each sample from its own "
        "generator, and share nothing across the batch that a sample changes",
    )
    checks = [
        *common_checks(states, caught, same, advice),
        ("seeds", lambda: _check_seeds(first, generate(numbers, 1101))),
        ("failures", lambda: _check_failures(first)),
    ]
    yield from (run_check(*check) for check in checks)


class Repeats(NamedTuple):
    """Compares the outputs of other calls with those of the first one."""

    call: Callable[[Sequence[int]], Arrays]
    """Returns the outputs for the inputs with these numbers, in one call."""
    first: Arrays
    distance: Callable[[np.ndarray, np.ndarray], float]
    unit: str
    """Format of a distance."""
    tolerance: float
    on_cpu: bool

    def compare(self, batches: Sequence[Sequence[int]], advice: str, exact: bool = False) -> str:
        """Checks that the outputs in these batches are the same, exactly or within tolerance."""
        try:
            pairs = [
                (self.first[number], output)
                for batch in batches
                for number, output in zip(batch, self.call(batch), strict=True)
            ]
        except Exception as error:
            raise FaultError(
                f"failed where it had not before ({reason_of(error)}): {advice}"
            ) from error
        if any(a.shape != b.shape for a, b in pairs):
            raise FaultError(f"of another size than before: {advice}")
        distance = max(self.distance(a, b) for a, b in pairs)
        if distance > (0 if exact and self.on_cpu else self.tolerance):
            raise FaultError(f"{self.unit.format(distance)} apart: {advice}")
        if distance:
            return f"the same within {self.unit.format(distance)}"
        return "the same to the last bit"


def common_checks(
    states: dict[str, bytes], caught: Sequence, same: Repeats, advice: tuple[str, str, str]
) -> Iterator[Check]:
    """Yields the checks of methods and judges alike.

    Args:
        states: the shared generators before the first call.
        caught: see `check_method`.
        same: compares calls with the first one.
        advice: what to do if a call is not deterministic, depends on the order, or on the batch.
    """
    yield "process", lambda: _check_process(caught)
    yield "generators", lambda: _check_generators(states)
    numbers = range(len(same.first))
    repeated, turned, alone = [numbers], [numbers[::-1]], [[number] for number in numbers]
    yield "deterministic", lambda: same.compare(repeated, advice[0], exact=True)
    yield "order", lambda: same.compare(turned, advice[1])
    yield "batch", lambda: same.compare(alone, advice[2])


def _grey_levels(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def reason_of(error: Exception) -> str:
    """Returns an exception as a phrase."""
    return describe(error, "").removesuffix(".")


def _check_record(spec: RunSpec, method: Method) -> str:
    """Checks that the run can be told from others."""
    if spec.code and not spec.weights and type(method).weights is Method.weights:
        raise NoteError(
            "names no weights: if it loads any, return their identities from `weights`, or a run "
            "with other weights counts as the same"
        )
    return "options and weights are in the run's record"


def _check_process(caught: Sequence[warnings.WarningMessage]) -> str:
    """Checks that the process was left as it was, from the import on."""
    changes = [str(each.message) for each in caught if issubclass(each.category, StateWarning)]
    if changes:
        text = " ".join(dict.fromkeys(changes))
        raise FaultError(f"{text} take such settings back before you return, or do without them")
    return "leaves torch, warnings and the working directory alone"


def generator_states() -> dict[str, bytes]:
    """Returns the states of the random generators that all code of a process shares."""
    return {
        "torch's": torch.get_rng_state().numpy().tobytes(),
        "numpy's": repr(np.random.get_state()).encode(),
        "Python's": repr(random.getstate()).encode(),
    }


def _check_generators(before: dict[str, bytes]) -> str:
    """Checks that the shared generators were left alone, then moves them as any code may."""
    used = [name for name, state in generator_states().items() if state != before[name]]
    torch.rand(7)
    np.random.random(5)
    random.random()
    if used:
        raise FaultError(
            f"draws from {' and '.join(used)} global generator, which other code moves: make one "
            "of your own, of the sample's seed"
        )
    return "draws from no generator that other code shares"


def _check_seeds(images: Arrays, others: Arrays) -> str:
    """Checks that images depend on their seeds."""
    if same := sum(map(np.array_equal, images, others)):
        raise NoteError(
            f"{same} of {len(images)} images are the same under another seed: more samples of a "
            "layout will tell nothing new"
        )
    return "another seed is another image"


def _check_failures(images: Arrays) -> str:
    """Checks that no image may stand for a failure."""
    if flat := sum(int(np.ptp(image) == 0) for image in images):
        raise FaultError(
            f"{flat} of {len(images)} images are of one grey: if that stands for a failure, raise "
            "an exception, which is counted and tried again, instead of returning a blank"
        )
    if all(np.array_equal(images[0], image) for image in images[1:]):
        raise FaultError("every layout got the same image: what it reads of the layout is lost")
    return "no blank images, and each layout has its own"
