"""Checks what the benchmark requires of a judge, and says in plain words what fails."""

import time
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from tcig.data.voc import LABELS
from tcig.eval.judges import Judge
from tcig.models.devices import PLAIN
from tcig.run.check import (
    Arrays,
    CheckResult,
    FaultError,
    NoteError,
    Repeats,
    common_checks,
    generator_states,
    reason_of,
    run_check,
)

MAX_PIXELS = 0.001
"""Share of an image's pixels whose label may differ in another batch, because kernels
sum in another order there (our choice)."""


def check_judge(
    judge: Judge,
    images: Sequence[Image.Image],
    caught: Sequence[warnings.WarningMessage],
) -> Iterator[CheckResult]:
    """Checks a judge on three images or more.

    A judge whose first call fails is not checked further.

    Args:
        judge: a judge that is set up.
        images: RGB, distinct, square and of one size.
        caught: as in `check_method`.
    """

    def segment(numbers: Sequence[int]) -> Arrays:
        return _label_maps(judge, [images[number] for number in numbers])

    states, started = generator_states(), time.perf_counter()
    try:
        first = segment(range(len(images)))
    except Exception as error:
        yield CheckResult("FAIL", "segments", reason_of(error))
        return
    seconds = (time.perf_counter() - started) / len(images)
    height, width = first[0].shape
    said = f"{len(images)} label maps of {width}x{height}, {seconds:.2g} s each with set-up"
    yield CheckResult("ok", "segments", said)
    on_cpu = PLAIN.device.type == "cpu"
    unit = "{:.2%} of the pixels"
    same = Repeats(segment, first, _share_of_pixels, unit, MAX_PIXELS, on_cpu)
    advice = (
        "the same images gave other label maps the second time: leave out what is random, as "
        "dropout is, and keep nothing from one call to the next",
        "a label map depends on its image's place in the call",
        "a label map depends on the images beside its own: a network in training mode normalises "
        "over the batch, eval() stops it",
    )
    checks = [
        *common_checks(states, caught, same, advice),
        ("sizes", lambda: _check_sizes(judge, images)),
        ("empty", lambda: _check_empty(judge, images[0].size)),
        ("maps", lambda: _check_maps(first)),
    ]
    yield from (run_check(*check) for check in checks)


def _share_of_pixels(a: np.ndarray, b: np.ndarray) -> float:
    return float((a != b).mean())


def _label_maps(judge: Judge, images: Sequence[Image.Image]) -> Arrays:
    return [segmentation.labels for segmentation in judge.segment(images)]


def _check_sizes(judge: Judge, images: Sequence[Image.Image]) -> str:
    """Checks that a judge takes images of other sizes, as profiles have."""
    side = images[0].width
    for size in (side // 2, side + side // 2 + 1):
        try:
            labels = _label_maps(judge, [image.resize((size, size)) for image in images])
        except Exception as error:
            raise FaultError(f"images of {size}x{size}: {reason_of(error)}") from error
    native = labels[0].shape[0]
    if native != size:
        raise NoteError(
            f"maps of {native}x{native} for images of {size}x{size} are resized by nearest"
        )
    return "maps have the size of their images, whatever it is"


def _check_empty(judge: Judge, size: tuple[int, int]) -> str:
    """Checks what a judge sees in an empty image."""
    (labels,) = _label_maps(judge, [Image.new("RGB", size, (127, 127, 127))])
    classes = [LABELS[index] for index in np.unique(labels) if index]
    if classes:
        raise NoteError(f"sees {', '.join(classes)} in a grey image")
    return "sees nothing in a grey image"


def _check_maps(maps: Arrays) -> str:
    """Checks that label maps depend on their images."""
    if not any(labels.any() for labels in maps):
        raise NoteError("sees no object in any of the images")
    if all(np.array_equal(maps[0], labels) for labels in maps[1:]):
        raise FaultError("every image got the same label map: what it reads of the image is lost")
    return "each has its own"
