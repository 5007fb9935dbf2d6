"""Batches bounded by a device's memory, which is a fake one here."""

import json
import re

import pytest
import torch

from tcig.run import draw as loop
from tcig.run.batches import Batches, out_of_memory
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
def run(open_store, noise, layouts, monkeypatch, read_rows):
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
        monkeypatch.setattr(loop, "meter_of", lambda _: meter)
        with open_store() as store:
            assert generate(noise, layouts[:20], 1, batch, store) == 0
        rows = [json.loads(line) for line in (store.folder / "rows.jsonl").open()]
        assert [row["layout"] for row in rows] == [layout.id for layout in layouts[:20]]
        assert all(row["error"] is None for row in rows)
        return noise.sizes, rows

    return call


def test_the_first_sample_tells_how_many_fit(run):
    sizes, rows = run(Meter(10_000 * MIB, 1000 * MIB, weights=2000 * MIB))
    assert sizes == [1, 7, 7, 5]  # 0.9 * 8000 of 1000 each
    assert [row["batch"] for row in rows] == [1] + [7] * 14 + [5] * 5
    assert rows[0]["peak_device_mib"] == 3000
    assert rows[1]["peak_device_mib"] == 9000


def test_no_more_than_asked_for_and_no_less_than_one(run):
    assert run(Meter(10**12, 1), batch=8)[0] == [1, 8, 8, 3]


def test_a_card_on_which_one_just_fits(run):
    assert run(Meter(1000 * MIB, 990 * MIB))[0] == [1] * 20


def test_a_batch_that_does_not_fit_is_halved_for_good_and_nothing_is_lost(run, noise):
    sizes, _ = run(Meter(10**12, 1), limit=5)
    assert sizes == [1, 16, 8, 4, 4, 8, 4, 4, 3]
    assert len(noise.drawn) == len(set(noise.drawn)) == 20


def test_without_a_meter_too(run):
    sizes, rows = run(None, limit=5)
    assert sizes[:3] == [16, 8, 4]
    assert max(sizes[-2:]) <= 4
    assert rows[0]["peak_device_mib"] is None


def test_a_sample_too_large_alone_is_a_failed_one(open_store, noise, layouts):
    noise.bad, noise.error = {"2"}, torch.OutOfMemoryError("CUDA out of memory.")
    with open_store() as store:
        assert generate(noise, layouts[:3], 1, 4, store) == 1
    rows = [json.loads(line) for line in (store.folder / "rows.jsonl").open()]
    assert [row["error"] is None for row in rows] == [True, False, True]
    said = r"OutOfMemoryError: CUDA out of memory\. \(line \d+ of conftest\.py\)"
    assert re.fullmatch(said, rows[1]["error"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"), True),
        (MemoryError(), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_too_little_memory(error, expected):
    assert out_of_memory(error) is expected


def test_the_processor_itself_says_so_in_these_words():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_a_batch_of_one_is_never_less():
    batches = Batches(4, None)
    assert [batches.halve(4), batches.halve(2), batches.halve(1)] == [2, 1, 1]
