"""The folder of a run, and the loop that generates what it lacks, sample by sample.

It holds `run.json`, `layouts.jsonl`, `LAYOUT-SAMPLE.png`, and `rows.jsonl`. Shards of a run write
there at once, each to a file of records of its own, `rows.1-of-8.jsonl`; the next run without
shards puts these into `rows.jsonl`.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from tcig.data.files import InputError, Shard, sha256, write_whole
from tcig.data.layout import Layout
from tcig.data.pictures import open_picture, whole_png
from tcig.data.records import SAMPLE_RECORD, RecordStore, RunRecord, RunSpec, SampleRecord, read_run
from tcig.methods.base import Method
from tcig.run.batches import BatchGenerator, GeneratedSample, Sample


class RunStore(RecordStore[RunRecord, SampleRecord]):
    """The store of one run."""

    def __init__(
        self,
        parent: Path,
        spec: RunSpec,
        asked: dict[str, int | None],
        profile: dict[str, Any],
        shard: Shard | None = None,
        manifest: Path | None = None,
    ):
        """Names the run's folder below `parent`.

        Args:
            parent: folder of runs.
            spec: names the folder.
            asked: `limit` (None: all layouts) and `samples` of this call.
            profile: all settings of the profile.
            shard: writes only this part.
            manifest: the manifest's file; copied beside the images if it is the spec's.
        """
        self.spec, self._manifest = spec, manifest
        super().__init__(
            parent / spec.folder / "run.json",
            RunRecord(spec=spec, asked=asked, profile=profile),
            SAMPLE_RECORD,
            lambda record: whole_png(self.image(record["layout"], record["sample"])),
            shard=shard,
        )

    def __enter__(self) -> "RunStore":
        """Also copies the manifest, so that a report finds it."""
        super().__enter__()
        copy = self.folder / "layouts.jsonl"
        if self._manifest and not copy.exists() and sha256(self._manifest) == self.spec.manifest:
            write_whole(copy, self._manifest.read_bytes())
        return self

    def _keeps_records(self) -> bool:
        """Refuses another run's folder; one without `run.json` is known by its name's hash."""
        stored = read_run(self.folder)
        if stored and stored.key != self.header.key:
            raise InputError(f"{self.path} is the record of another run: move the folder away.")
        return True

    def image(self, layout: str, sample: int) -> Path:
        """Returns the path of a sample's image."""
        return self.folder / f"{layout}-{sample}.png"

    def add(self, record: SampleRecord, png: bytes | None) -> None:
        """Commits a sample: its image, if it has one, then its record."""
        image = self.image(record["layout"], record["sample"])
        if png is None:  # a kill may have left the image of an earlier attempt without a record
            image.unlink(missing_ok=True)
        super().add(record, {} if png is None else {image: png})


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


def find_runs(folder: Path, manifest: Path) -> dict[str, Path]:
    """Returns the folder of each row's run on `manifest`.

    Raises:
        InputError: a record is damaged, or two runs are of one row.
    """
    identity, runs = sha256(manifest), {}
    for record in sorted(folder.glob("*/run.json")):
        spec = read_run(record.parent).spec
        if spec.manifest != identity:
            continue
        if spec.row in runs:
            raise InputError(
                f"{runs[spec.row]} and {record.parent} are both runs of {spec.row}: move one of "
                "them out of the folder."
            )
        runs[spec.row] = record.parent
    return runs


def image_of(run: Path, layout: Layout) -> Image.Image | None:
    """Returns the first sample of a layout, or None where the run lacks it."""
    path = run / f"{layout.id}-0.png"
    return open_picture(path).convert("RGB") if path.exists() else None
