"""What a run still has to draw, and the commit of each sample as it comes."""

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from tqdm import tqdm

from tcig.data.layout import Layout
from tcig.data.shards import Shard
from tcig.methods.base import Method
from tcig.run.draw import Drawn, Painter, Sample
from tcig.run.store import RunStore


def samples_of(layouts: Sequence[Layout], samples: int) -> list[Sample]:
    """Every sample, those of a layout one after another."""
    return [(layout, sample) for layout in layouts for sample in range(samples)]


def pending_batches(
    asked: Sequence[Sample], store: RunStore, batch: int, shard: Shard | None = None
) -> list[Sequence[Sample]]:
    """What the store lacks of the samples asked for, in batches.

    A shard has every n-th batch of all samples, whatever other shards have done by now; without
    shards what is lacking is put together anew. In an empty store these are the same batches.
    """
    if shard is None:
        return _batches(_lacking(asked, store), batch)
    own = (_lacking(each, store) for each in shard.of(_batches(asked, batch)))
    return [each for each in own if each]


def samples_of_shard(asked: Sequence[Sample], batch: int, shard: Shard) -> list[Sample]:
    """All that a shard draws of the samples asked for."""
    return list(chain(*shard.of(_batches(asked, batch))))


def _batches(samples: Sequence[Sample], batch: int) -> list[Sequence[Sample]]:
    return [samples[first : first + batch] for first in range(0, len(samples), batch)]


def _lacking(samples: Sequence[Sample], store: RunStore) -> list[Sample]:
    return [pair for pair in samples if (pair[0].id, pair[1]) not in store.done]


class Bar(tqdm):
    """A progress bar that counts fractions, to one decimal."""

    @property
    def format_dict(self) -> dict:
        """See tqdm."""
        found = super().format_dict
        return found | {"n": round(found["n"], 1)}


class Ledger:
    """Commits samples to their stores; counts what failed, and shows how far all of it is."""

    def __init__(self, total: int, title: str = ""):
        self._bar = Bar(total=total, desc=title, unit="image", disable=None, smoothing=0.05)
        self._ahead = 0.0
        self._failures: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def there(self, count: int) -> None:
        """So many samples were there already."""
        if not self._bar.disable:
            self._bar.initial += count  # so that they make no rate
            self._bar.n += count
            self._bar.refresh()

    def under_way(self, samples: float) -> None:
        """So many samples of the call under way are done, a fraction too."""
        if samples > self._ahead:
            self._bar.update(samples - self._ahead)
            self._ahead = samples

    def add(self, store: RunStore, drawn: Drawn) -> None:
        """Commits a sample; an error is told the first time that it comes."""
        row, name = drawn.row, store.spec.method
        if drawn.png is None:
            failure = name, row["error"]
            self._failures[failure] += 1
            if self._failures[failure] == 1:  # the same again is counted in `failed`
                said = f"{name} {row['layout']}-{row['sample']} failed: {row['error']}"
                tqdm.write(said, file=sys.stderr)
        store.add(row, drawn.png)
        counted = min(self._ahead, 1.0)
        self._ahead -= counted
        self._bar.update(1 - counted)

    def failed(self, store: RunStore, asked: int) -> int:
        """How many samples of a run failed, said in a sentence if their errors were not."""
        errors = [n for (name, _), n in self._failures.items() if name == store.spec.method]
        failed = sum(errors)
        if failed > len(errors) or 0 < failed == asked:
            print(
                f"{store.spec.method}: {failed} of {asked} samples failed; each one's error is in "
                f"{store.rows}, and `tcig check` tries a method alone.",
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

    Args:
        method: as said.
        layouts: in this order.
        samples: of each layout.
        batch: the most samples in a call.
        store: of the run.
        shard: only its part.

    Returns:
        How many samples failed; each has a row with its error.

    Raises:
        OSError: the store cannot be written; what it holds stays good.
    """
    asked = samples_of(layouts, samples)
    painter = Painter(method, batch)
    pending = pending_batches(asked, store, batch, shard)
    total = len(samples_of_shard(asked, batch, shard) if shard else asked)
    with Ledger(total, store.spec.method) as ledger:
        ledger.there(total - sum(map(len, pending)))
        if shard is None:  # at once: no batch is cut short where memory allows less than asked for
            pending = [list(chain(*pending))]
        for batch in pending:
            for drawn in painter.draw(batch, ledger.under_way):
                ledger.add(store, drawn)
    return ledger.failed(store, total)
