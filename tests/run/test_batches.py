"""Batches bounded by a device's memory, which is a fake one here."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from toy import rows_of

from tcig.data.files import DeviceLostError
from tcig.run import batches
from tcig.run import generate as generate_module
from tcig.run.batches import BatchGenerator, is_out_of_memory
from tcig.run.generate import generate

MIB = 2**20


class FakeCuda:
    """`torch.cuda` of `total` bytes, where a sample takes `each` over `weights` that lie there."""

    def __init__(self, total, each, weights=0):
        self.total, self.each, self.weights, self.count = total, each, weights, 0

    def reset_peak_memory_stats(self):
        self.count = 0

    def empty_cache(self):
        pass

    def memory_allocated(self):
        return self.weights

    memory_reserved = memory_allocated

    def max_memory_allocated(self):
        return self.weights + self.count * self.each

    def mem_get_info(self):
        return self.total - self.weights, self.total


@pytest.fixture
def run(open_store, noise, layouts, monkeypatch):
    """Runs 20 layouts on a fake device: the sizes of the calls and the rows."""

    def call(cuda, batch=16, limit=None, drawn=layouts[:20]):
        draw, sizes = noise.generate, []

        def metered(asked, seeds, callback=None):
            sizes.append(len(asked))
            if cuda:
                cuda.count = len(asked)
            if limit and len(asked) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return draw(asked, seeds, callback)

        def build(method, largest):
            generator = BatchGenerator(method, largest)
            if cuda:
                generator.cuda, generator.measured, generator.size = cuda, False, 1
            return generator

        monkeypatch.setattr(noise, "generate", metered)
        monkeypatch.setattr(generate_module, "BatchGenerator", build)
        with open_store() as store:
            assert generate(noise, drawn, 1, batch, store) == 0
        rows = rows_of(store.folder)
        assert sorted(row["layout"] for row in rows) == sorted(layout.id for layout in drawn)
        assert all(row["error"] is None for row in rows)
        return sizes, rows

    return call


def test_the_first_sample_tells_how_many_fit(run):
    sizes, rows = run(FakeCuda(10_000 * MIB, 1000 * MIB, weights=2000 * MIB))
    assert sizes == [1, 7, 7, 5]  # 0.9 * 8000 of 1000 each
    assert [row["batch"] for row in rows] == [1] + [7] * 14 + [5] * 5
    assert [row["peak_device_mib"] for row in rows[:2]] == [3000, 9000]


@pytest.mark.parametrize(
    ("cuda", "changes", "expected"),
    [
        (FakeCuda(10**12, 1), {"batch": 8}, [1, 8, 8, 3]),
        (FakeCuda(1000 * MIB, 990 * MIB), {}, [1] * 20),
        (FakeCuda(10**12, 1), {"limit": 5}, [1, 16, 8, 4, 4, 8, 4, 4, 3]),
        (None, {"limit": 5}, [16, 8, 4, 4, 8, 4, 4, 4]),
    ],
    ids=["no-more-than-asked-for", "one-just-fits", "halved-for-good", "halved-on-the-cpu"],
)
def test_sizes_of_batches(run, noise, cuda, changes, expected):
    assert run(cuda, **changes)[0] == expected
    assert len(set(noise.drawn)) == 20


@pytest.mark.parametrize("fixed", [False, True])
def test_a_profile_may_fix_the_size_on_a_gpu(fixed):
    compute = SimpleNamespace(device=torch.device("cuda"), fixed_batch=fixed)
    method = SimpleNamespace(context=SimpleNamespace(compute=compute))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "name_of", lambda _: "a card")
        generator = BatchGenerator(method, 16)
    assert (generator.measured, generator.size) == ((True, 16) if fixed else (False, 1))


def test_the_largest_layout_is_measured(run, noise, layouts):
    """Most regions, most memory: from the first layout alone later ones would not fit."""
    regions = layouts[0].regions
    larger = layouts[7].model_copy(update={"regions": (*regions, *regions)})
    cuda = FakeCuda(10_000 * MIB, 1000 * MIB)
    assert run(cuda, batch=4, drawn=[*layouts[:7], larger])[0][0] == 1
    assert noise.calls[0][0][0] == larger.id


@pytest.mark.parametrize(
    ("error", "expected"),
    [
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
