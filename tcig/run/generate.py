"""Generates what a run lacks, and commits each sample as it comes."""

import sys
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from tcig.data.files import Shard
from tcig.data.layout import Layout
from tcig.methods.base import Method
from tcig.run.batches import BatchGenerator, GeneratedSample, Sample
from tcig.run.store import RunStore


def list_samples(layouts: Sequence[Layout], count: int) -> list[Sample]:
    """Returns `count` samples of each layout, layout by layout."""
    return [(layout, sample) for layout in layouts for sample in range(count)]


def split_batches(samples: Sequence[Sample], size: int) -> list[Sequence[Sample]]:
    """Returns samples in batches of at most `size`."""
    return [samples[first : first + size] for first in range(0, len(samples), size)]


def missing_samples(samples: Sequence[Sample], store: RunStore) -> list[Sample]:
    """Returns the samples that the store lacks."""
    return [pair for pair in samples if (pair[0].id, pair[1]) not in store.done]


class ProgressTracker:
    """Commits samples to their stores, counts failures, and shows a progress bar."""

    def __init__(self, total: int, title: str = ""):
        self._bar = tqdm(
            total=total,
            desc=title,
            unit="image",
            disable=None,
            smoothing=0.05,
            bar_format="{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}, {rate_fmt}]",
        )
        self._ahead = 0.0
        self._failures: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> "ProgressTracker":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def skip(self, count: int) -> None:
        """Counts samples that an earlier run finished."""
        if not self._bar.disable:
            self._bar.initial += count  # so that they do not count in the speed
            self._bar.n += count
            self._bar.refresh()

    def advance(self, samples: float) -> None:
        """Shows how many samples of the current call are done."""
        if samples > self._ahead:
            self._bar.update(samples - self._ahead)
            self._ahead = samples

    def commit(self, store: RunStore, sample: GeneratedSample) -> None:
        """Adds a sample to its store; an error is printed the first time that it comes."""
        record, row = sample.record, store.spec.method
        if sample.png is None:
            failure = row, record["error"]
            self._failures[failure] += 1
            if self._failures[failure] == 1:  # `count_failures` counts the others
                name = f"{record['layout']}-{record['sample']}"
                tqdm.write(f"{row} {name} failed: {record['error']}", file=sys.stderr)
        store.add(record, sample.png)
        counted = min(self._ahead, 1.0)
        self._ahead -= counted
        self._bar.update(1 - counted)

    def count_failures(self, store: RunStore, samples: int) -> int:
        """Returns the number of a run's failed samples; prints it if not each was printed."""
        errors = [n for (row, _), n in self._failures.items() if row == store.spec.method]
        failed = sum(errors)
        if failed > len(errors) or 0 < failed == samples:
            print(
                f"{store.spec.method}: {failed} of {samples} samples failed; each one's error is "
                f"in {store.rows}, and `tcig check` tries a method alone.",
                file=sys.stderr,
            )
        return failed


def generate(
    method: Method,
    layouts: Sequence[Layout],
    samples: int,
    batch: int,
    store: RunStore,
    shard: Shard | None = None,
) -> int:
    """Generates the samples that the store lacks, in this process.

    A shard has every n-th batch of all samples, whatever other shards have done by now. Without
    shards the missing samples form new batches. In an empty store these are the same.

    Args:
        method: the method.
        layouts: layouts, in this order.
        samples: samples per layout.
        batch: the most samples in a call.
        store: the run's store.
        shard: generates only this part.

    Returns:
        The number of failed samples; each has a record with its error.

    Raises:
        OSError: the store cannot be written; what it holds stays good.
    """
    parts = [list_samples(layouts, samples)]  # cut into batches as large as memory allows
    if shard:
        parts = shard.of(split_batches(parts[0], batch))
    total = sum(map(len, parts))
    parts = [missing_samples(part, store) for part in parts]
    generator = BatchGenerator(method, batch)
    with ProgressTracker(total, store.spec.method) as tracker:
        tracker.skip(total - sum(map(len, parts)))
        for part in parts:
            for sample in generator.generate(part, tracker.advance):
                tracker.commit(store, sample)
    return tracker.count_failures(store, total)
