"""A batch in lanes: the same images on any number of threads, and none that outlives a fault."""

import os
import signal
import threading
import time
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image

from tcig.data.build import build_layouts
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.methods.base import Context, Method, NoOptions
from tcig.methods.registry import ROWS
from tcig.methods.two_stage.method import _kept
from tcig.models.devices import Compute
from tcig.profiles import load_profile
from tcig.run.calls import call
from tcig.run.spec import prepare

REFERENCES = {"real", "paste", "empty"}
FEW = {
    "direct-guidance": {"steps": 2, "recurrence": 2},
    "bld": {"steps": 5, "candidates": 2, "clip": "mini:clip"},
    "tcig": {"first.iterations": 2, "first.cutouts": 2, "second.steps": 6},
}


class Grey(Method):
    """An image of the seed's grey; says what each call was given, and by which thread."""

    thread_safe = True

    def __init__(self, lanes, on="cpu"):
        super().__init__(Context(4, compute=Compute(on=on, lanes=lanes)), NoOptions())
        self.calls, self.meet = [], None

    def generate(self, layouts, seeds, callback=None):
        if self.meet:
            self.meet.wait(20)
        found = threading.current_thread(), torch.get_num_threads(), list(seeds)
        self.calls.append((*found, sorted(len(layout.regions) for layout in layouts)))
        return [Image.new("RGB", (4, 4), (seed,) * 3) for seed in seeds]


class Stateful(Grey):
    """Does not say that it may be called at once, as what it inherits from does."""


@pytest.fixture
def mixed(box_layout):
    """Seven layouts of one region, two and three."""
    boxes = {"cat": (0, 8, 0, 8), "dog": (8, 16, 0, 8), "bus": (0, 16, 8, 16)}
    counts = [3, 1, 2, 3, 1, 1, 2]
    return [
        box_layout(16, identity=str(n), **dict(list(boxes.items())[:count]))
        for n, count in enumerate(counts)
    ]


def greys(images):
    return [image.getpixel((0, 0))[0] for image in images]


@pytest.mark.parametrize("lanes", [1, 2, 3, 9])
def test_images_come_in_order_of_parts_that_no_number_of_threads_changes(lanes, mixed, threads):
    seen = []
    for count in (1, 2, 5):
        threads(count)
        method = Grey(lanes)
        assert greys(call(method, mixed, range(10, 17))) == list(range(10, 17))
        parts = [seeds for _, _, seeds, _ in method.calls]
        assert sorted(chain(*parts)) == list(range(10, 17))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert len(parts) == min(lanes, 7)
        seen.append(sorted(parts))
        assert torch.get_num_threads() == count
    assert seen[0] == seen[1] == seen[2]


def test_layouts_of_many_regions_are_spread(mixed):
    method = Grey(2)
    call(method, mixed, range(7))
    assert [counts for *_, counts in method.calls] == [[1, 1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize(("count", "share"), [(2, 1), (5, 2)])
def test_each_part_has_a_thread_and_its_share_of_torchs(count, share, mixed, threads):
    threads(count)
    method = Grey(2)
    method.meet = threading.Barrier(2)  # only threads at once come past it
    call(method, mixed, range(7))
    own = {thread for thread, *_ in method.calls}
    assert len(own) == 2
    assert threading.main_thread() not in own
    assert {given for _, given, *_ in method.calls} == {share}
    after = []
    thread = threading.Thread(target=lambda: after.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert after == [count], "threads that come later have as many as before"


@pytest.mark.parametrize("method", [Grey(1), Stateful(2), Grey(2, on="cuda")])
def test_elsewhere_a_batch_is_whole(method, mixed, threads):
    threads(2)
    call(method, mixed, range(7))
    ((thread, given, seeds, _),) = method.calls
    assert (thread, given, seeds) == (threading.main_thread(), 2, list(range(7)))


def forever(method):
    """Makes the call with seed 0 raise, the others draw until they are stopped."""
    started, left = threading.Event(), []

    def generate(layouts, seeds, callback=None):
        if 0 in seeds:
            started.wait(20)
            raise ArithmeticError("of one")
        try:
            started.set()
            end = time.monotonic() + 60
            while time.monotonic() < end:
                time.sleep(0.005)
        finally:
            left.append(time.monotonic() < end)
        return []

    method.generate = generate
    return left


def test_what_one_raises_is_raised_and_ends_the_others(mixed, threads):
    threads(2)
    method = Grey(2)
    left = forever(method)
    with pytest.raises(ArithmeticError, match="of one"):
        call(method, mixed, range(7))
    assert left == [True]
    assert torch.get_num_threads() == 2
    assert not [each for each in threading.enumerate() if each.name == "lane"]


@pytest.fixture
def interruptible():
    """Python's own handling of an interrupt, which what a shell starts behind its back ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_all(mixed, threads):
    threads(2)
    method = Grey(2)
    left = forever(method)
    timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call(method, mixed, range(1, 8))
    assert left == [True, True]
    assert torch.get_num_threads() == 2
    assert not [each for each in threading.enumerate() if each.name == "lane"]


def test_what_a_part_lacks_is_said_of_it(mixed, threads):
    threads(2)
    method = Grey(2)
    method.generate = lambda layouts, seeds: []
    with pytest.raises(ValueError, match=r"gave a list of 0 for [34] layouts"):
        call(method, mixed, range(7))


@pytest.mark.parametrize("row", sorted({row.method for row in ROWS.values()} - REFERENCES))
def test_rows_draw_the_same_bytes_by_one_thread_and_by_two(row, open_rows, threads):
    steps = FEW.get(row, {"steps": 3})
    smoke = load_profile("smoke")
    compute = smoke.compute.model_copy(update={"lanes": 2})
    profile = smoke.model_copy(update={"compute": compute})
    layouts = hash_order(build_layouts(FOLDER, Filter())[1])[:4]
    _, method = prepare(row, profile, FOLDER, "0" * 64, open_rows.get(row, {}) | steps)
    drawn = []
    for count in (1, 2):
        threads(count)
        _kept.clear()
        drawn.append([np.asarray(image) for image in call(method, layouts, [1, 2, 3, 4])])
    assert all(map(np.array_equal, *drawn))
