"""The folder of a run: `run.json`, `layouts.jsonl`, `LAYOUT-SAMPLE.png`, and `rows.jsonl`.

Shards of a run write there at once, each to a file of records of its own, `rows.1-of-8.jsonl`; the
next run without shards puts these into `rows.jsonl`.
"""

from pathlib import Path
from typing import Any

from PIL import Image

from tcig.data.files import InputError, Shard, sha256, write_whole
from tcig.data.layout import Layout
from tcig.data.pictures import open_picture, whole_png
from tcig.data.records import SAMPLE_RECORD, RecordStore, RunRecord, RunSpec, SampleRecord, read_run


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

    def _is_current(self) -> bool:
        """Raises InputError for another run's record: its images are not overwritten."""
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
