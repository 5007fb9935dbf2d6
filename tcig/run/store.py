"""The folder of a run: `run.json`, `layouts.jsonl`, `LAYOUT-SAMPLE.png`, `rows.jsonl`.

An image is written first (temporary file, then renamed), its row last: the row is the commit
point. So a run may be killed at any point: what has a row is done, all else is done again.

Shards of a run write there at once, each to a file of rows of its own, `rows.1-of-8.jsonl`; the
next run without shards puts these into `rows.jsonl`.
"""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tcig.data.errors import InputError
from tcig.data.files import sha256, sole_writer, write_whole
from tcig.data.parsing import read_json
from tcig.data.png import whole_png
from tcig.data.records import SAMPLE_RECORD, SampleRecord, read_records
from tcig.data.shards import Shard
from tcig.eval.images import rows_files, run_rows
from tcig.run.spec import RunSpec


class RunStore:
    """One run's folder, held by one process at a time, or one for each shard; a context manager."""

    def __init__(
        self,
        parent: Path,
        spec: RunSpec,
        asked: dict,
        profile: dict,
        shard: Shard | None = None,
        manifest: Path | None = None,
    ):
        """Opens or creates the run's folder below `parent`.

        Args:
            parent: where runs live.
            spec: names the folder.
            asked: `limit` (None: all layouts) and `samples`, of this call; recorded with the spec.
            profile: all settings of the profile, for those who score the images.
            shard: writes only this part.
            manifest: the manifest's file; copied beside the images if it is the spec's.
        """
        self.folder = parent / spec.folder
        self.rows = self.folder / f"rows{shard.suffix if shard else ''}.jsonl"
        self._shard, self._manifest = shard, manifest
        self.spec, self.asked, self.profile = spec, asked, profile
        self.done: set[tuple[str, int]] = set()
        self._file: IO[bytes] | None = None
        self._held = ExitStack()

    def __enter__(self) -> "RunStore":
        """Takes the folder and mends what a killed run left.

        Raises:
            InputError: another process holds the folder, or its spec is another.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(sole_writer(self.folder, self._shard))
            self._check_spec()
            if self._shard is None:  # else they may be another shard's
                for draft in self.folder.glob(".*.part"):
                    draft.unlink()
            record = {"spec": self.spec.model_dump(), "asked": self.asked, "profile": self.profile}
            write_whole(self.folder / "run.json", json.dumps(record, indent=2) + "\n")
            self._keep_manifest()
            self._mend_rows()
            self._file = held.enter_context(self.rows.open("ab"))
            self._held = held.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._held.close()

    def _check_spec(self) -> None:
        path = self.folder / "run.json"
        if not path.exists():
            return
        try:
            stored = RunSpec.model_validate(read_json(path)["spec"])
        except (InputError, ValueError, KeyError, TypeError):
            raise InputError(f"{path} is not a run's record: move the folder away.") from None
        if stored.hash != self.spec.hash:
            raise InputError(f"{path} is the record of another run: move the folder away.")

    def _keep_manifest(self) -> None:
        """Copies the manifest beside the images, so that a report finds it."""
        copy = self.folder / "layouts.jsonl"
        if self._manifest and not copy.exists() and sha256(self._manifest) == self.spec.manifest:
            write_whole(copy, self._manifest.read_bytes())

    def _mend_rows(self) -> None:
        """Keeps the rows of images that are there, each once; failed samples are tried again.

        A shard reads the others' rows, which it neither mends nor moves.
        """
        files = rows_files(self.folder)
        mine = [path for path in files if self._shard is None or path == self.rows]
        kept: dict[tuple[str, int], SampleRecord] = {}
        for path in [*mine, *(path for path in files if path not in mine)]:
            for row in read_records(path, SAMPLE_RECORD):
                pair = row["layout"], row["sample"]
                if pair not in self.done and row["error"] is None and whole_png(self.image(*pair)):
                    self.done.add(pair)
                    if path in mine:
                        kept[pair] = row
        mended = b"".join(json.dumps(row).encode() + b"\n" for row in kept.values())
        if mine and (mine != [self.rows] or mended != self.rows.read_bytes()):
            write_whole(self.rows, mended)
        for path in mine:
            if path != self.rows:
                path.unlink()
        if self._shard is None:
            for lock in self.folder.glob(".lock.*-of-*"):
                lock.unlink()

    def seconds(self) -> float:
        """Mean seconds an image of those that are there."""
        rows = [row for row in run_rows(self.folder) if row["error"] is None]
        seconds = [row["seconds"] for row in rows if row.get("seconds") is not None]
        return sum(seconds) / max(len(seconds), 1)

    def image(self, layout: str, sample: int) -> Path:
        """Where the image of a sample is."""
        return self.folder / f"{layout}-{sample}.png"

    def add(self, row: dict, png: bytes | None) -> None:
        """Commits a sample: its image, if it has one, then its row."""
        if png is None:  # a kill may have left one of an earlier, uncommitted trial
            self.image(row["layout"], row["sample"]).unlink(missing_ok=True)
        else:
            write_whole(self.image(row["layout"], row["sample"]), png)
            self.done.add((row["layout"], row["sample"]))
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # of a full disk it has no name
            raise OSError(error.errno, error.strerror, str(self.rows)) from None
