"""A call of a method: a batch, in parts at once where that is faster; what it gave is checked."""

import ctypes
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import torch
from PIL import Image

from tcig.data.layout import Layout
from tcig.methods.base import Method
from tcig.models.plugins import guard

Images = list[Image.Image]
T, R = TypeVar("T"), TypeVar("R")


def call(
    method: Method,
    layouts: Sequence[Layout],
    seeds: Sequence[int],
    progress: Callable[[float], None] | None = None,
) -> Images:
    """Draws a batch, in the parts that `[compute]`'s `lanes` asks for.

    The parts are the same on any number of torch's threads: each has its share of them, in a thread
    of its own, or all, one part after another, where there are fewer threads than parts. Layouts of
    many regions, which take longer, are spread over the parts.

    Args:
        method: one that is not `thread_safe`, or on a GPU, draws the batch as a whole.
        layouts: of the batch.
        seeds: of each.
        progress: is told the share of the call that is done, again and again.

    Raises:
        Exception: what the method raised, see also `check_images`.
    """
    compute = method.context.compute
    apart = is_thread_safe(method) and compute.device.type == "cpu"
    lanes = min(compute.lanes, len(layouts)) if apart else 1
    order = sorted(range(len(layouts)), key=lambda place: len(layouts[place].regions))
    parts = [sorted(order[lane::lanes]) for lane in range(lanes)]

    shares = [0.0] * lanes

    def draw(lane: int) -> Images:
        part = parts[lane]
        given = [layouts[place] for place in part], [seeds[place] for place in part]

        def watch(event: Any = None, *_: Any, **values: Any) -> None:
            with suppress(
                TypeError, ValueError, KeyError
            ):  # of what a method from outside may tell
                if event == "progress" and progress:
                    shares[lane] = min(max(float(values["done"]), 0.0), 1.0) * len(part)
                    progress(sum(shares) / len(layouts))

        watched = {"callback": watch} if _takes_callback(method) else {}
        images = method.generate(*given, **watched)
        check_images(images, len(part), method.context.size)
        return images

    at_work = at_once if 1 < lanes <= torch.get_num_threads() else map
    with guard(type(method).__name__):
        drawn = list(at_work(draw, range(lanes)))
    images = {
        place: image
        for part, found in zip(parts, drawn, strict=True)
        for place, image in zip(part, found, strict=True)
    }
    return [images[place] for place in range(len(layouts))]


def _takes_callback(method: Method) -> bool:
    parameters = inspect.signature(method.generate).parameters.values()
    return any(each.name == "callback" or each.kind is each.VAR_KEYWORD for each in parameters)


def is_thread_safe(method: Method) -> bool:
    """Whether its own class says so; one that it inherits from may keep what it does not."""
    return vars(type(method)).get("thread_safe", False)


class _Lane(Thread):
    """A part, and in the end what it gave or raised."""

    def __init__(self, draw: Callable[[], Any], threads: int, ended: SimpleQueue):
        super().__init__(name="lane")
        self._draw, self._threads, self._ended = draw, threads, ended
        self.found, self.error = None, None

    def run(self) -> None:
        torch.set_num_threads(self._threads)
        try:
            self.found = self._draw()
        except BaseException as error:
            self.error = error
        self._ended.put(self)

    def stop(self) -> None:
        """Raises in the thread, at its next step of Python, what ends a thread without a word."""
        if self.is_alive():
            kind, thread = ctypes.py_object(SystemExit), ctypes.c_ulong(self.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, kind)


def at_once(draw: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """What `draw` gives of each part, each in a thread of its own with an equal share of torch's.

    What one raises ends the others, and so does an interrupt.
    """
    threads, ended = torch.get_num_threads(), SimpleQueue()
    share = max(1, threads // len(parts))
    lanes = [_Lane(lambda part=part: draw(part), share, ended) for part in parts]
    try:
        for lane in lanes:
            lane.start()
        for _ in lanes:
            if error := ended.get().error:
                raise error
    except BaseException:
        for lane in lanes:
            lane.stop()
        raise
    finally:
        for lane in lanes:
            if lane.ident:
                lane.join()
        torch.set_num_threads(threads)  # what one thread sets, threads that come later begin with
    return [lane.found for lane in lanes]


def check_images(images: Images, count: int, size: int) -> None:
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
