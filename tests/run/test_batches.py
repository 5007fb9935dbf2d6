"""Batches bounded by a device's memory, which is a fake one here."""

import gc
import re
import weakref

import pytest
import torch
from toy import rows_of

from tcig.data.files import DeviceLostError
from tcig.run import batches
from tcig.run.batches import BatchSizer, is_out_of_memory
from tcig.run.generate import generate

MIB = 2**20


class Meter:
    """A device of `total` bytes on which a sample takes `each`, over `weights` that lie there."""

    def __init__(self, total, each, weights=0):
        self.total, self.each, self.weights, self.count = total, each, weights, 0

    def start(self):
        self.count = 0

    def used(self):
        return self.count * self.each

    def peak(self):
        return self.weights + self.used()

    def free(self):
        return self.total - self.weights


@pytest.fixture
def run(open_store, noise, layouts, monkeypatch):
    """Runs 20 layouts against a meter; the sizes of the calls and the rows."""

    def call(meter, batch=16, limit=None):
        draw, noise.sizes = noise.generate, []

        def metered(asked, seeds, callback=None):
            noise.sizes.append(len(asked))
            if meter:
                meter.count = len(asked)
            if limit and len(asked) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return draw(asked, seeds, callback)

        monkeypatch.setattr(noise, "generate", metered)
        sizer = BatchSizer(batch, meter)
        monkeypatch.setattr(batches, "BatchSizer", lambda *_: sizer)
        with open_store() as store:
            assert generate(noise, layouts[:20], 1, batch, store) == 0
        rows = rows_of(store.folder)
        assert sorted(int(row["layout"]) for row in rows) == list(range(1, 21))
        assert all(row["error"] is None for row in rows)
        return noise.sizes, rows

    return call


def test_the_first_sample_tells_how_many_fit(run):
    sizes, rows = run(Meter(10_000 * MIB, 1000 * MIB, weights=2000 * MIB))
    assert sizes == [1, 7, 7, 5]  # 0.9 * 8000 of 1000 each
    assert [row["batch"] for row in rows] == [1] + [7] * 14 + [5] * 5
    assert rows[0]["peak_device_mib"] == 3000
    assert rows[1]["peak_device_mib"] == 9000


@pytest.mark.parametrize(
    ("meter", "changes", "expected"),
    [
        (Meter(10**12, 1), {"batch": 8}, [1, 8, 8, 3]),
        (Meter(1000 * MIB, 990 * MIB), {}, [1] * 20),
        (Meter(10**12, 1), {"limit": 5}, [1, 16, 8, 4, 4, 8, 4, 4, 3]),
        (None, {"limit": 5}, [16, 8, 4, 4, 8, 4, 4, 4]),
    ],
    ids=["no-more-than-asked-for", "one-just-fits", "halved-for-good", "halved-without-a-meter"],
)
def test_sizes_of_batches(run, noise, meter, changes, expected):
    assert run(meter, **changes)[0] == expected
    assert len(set(noise.drawn)) == 20


def test_a_sample_too_large_alone_is_a_failed_one(open_store, noise, layouts):
    noise.bad, noise.error = {"2"}, torch.OutOfMemoryError("CUDA out of memory.")
    with open_store() as store:
        assert generate(noise, layouts[:3], 1, 4, store) == 1
    rows = rows_of(store.folder)
    assert [row["error"] is None for row in rows] == [True, False, True]
    said = r"OutOfMemoryError: CUDA out of memory\. \(line \d+ of conftest\.py\)"
    assert re.fullmatch(said, rows[1]["error"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_too_little_memory(error, expected):
    assert is_out_of_memory(error) is expected
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value), "as the CPU says it"


def test_a_fixed_size_is_not_measured_and_a_batch_of_one_is_never_less():
    sizer = BatchSizer(4, Meter(10**12, 1), fixed=True)
    sizer.start()
    assert (sizer.size, sizer.finish(4), sizer.size) == (4, 0, 4)
    assert [sizer.halve(4), sizer.halve(2), sizer.halve(1)] == [2, 1, 1]


def test_the_largest_layout_is_measured(open_store, noise, layouts, monkeypatch):
    """Most regions, most memory: from the first layout alone later ones would not fit."""
    regions = layouts[0].regions
    larger = layouts[7].model_copy(update={"regions": (*regions, *regions)})
    sizer = BatchSizer(4, Meter(10_000 * MIB, 1000 * MIB))
    monkeypatch.setattr(batches, "BatchSizer", lambda *_: sizer)
    with open_store() as store:
        assert generate(noise, [*layouts[:7], larger], 1, 4, store) == 0
    assert noise.calls[0][0][0] == larger.id
    assert len(noise.calls[0]) == 1
    assert sorted(name for name, _ in noise.drawn) == sorted(each.id for each in layouts[:8])


def test_nothing_of_a_failed_batch_is_alive_when_it_is_tried_again(
    open_store, noise, layouts, monkeypatch
):
    """Its latents would fill the card, and halving would free nothing."""
    held, alive = [], []

    def greedy(asked, seeds, callback=None):
        alive.append(sum(each() is not None for each in held))
        latents = torch.zeros(len(asked))
        held.append(weakref.ref(latents))
        if len(asked) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [noise.image(seed) for seed in seeds]

    monkeypatch.setattr(noise, "generate", greedy)
    gc.disable()
    try:
        with open_store() as store:
            assert generate(noise, layouts[:8], 1, 8, store) == 0
    finally:
        gc.enable()
    assert len(held) == 7  # of 8, 4, 2, 2, 4, 2, 2
    assert not any(alive)


def test_an_error_that_loses_the_gpu_ends_the_process_and_what_is_done_stays(
    open_store, noise, layouts
):
    noise.bad = {"5"}
    noise.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with open_store() as store, pytest.raises(DeviceLostError, match="run the same command again"):
        generate(noise, layouts[:6], 1, 2, store)
    kept = rows_of(store.folder)
    assert [(row["layout"], row["error"]) for row in kept] == [(n, None) for n in "1234"]
    noise.bad = set()
    with open_store() as store:
        assert generate(noise, layouts[:6], 1, 2, store) == 0
    assert {name for call in noise.calls[3:] for name, _ in call} == {"5", "6"}
