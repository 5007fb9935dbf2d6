"""The folder of a run: `run.json`, `LAYOUT-SAMPLE.png`, `rows.jsonl`.

An image is written first (temporary file, then renamed), its row last: the row is the commit
point. So a run may be killed at any point: what has a row is done, all else is done again.
"""

import io
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from PIL import Image

from tcig.data.errors import InputError
from tcig.data.files import sole_writer, write_whole
from tcig.run.spec import RunSpec


class RunStore:
    """One run's folder, held by one process at a time; a context manager."""

    def __init__(self, parent: Path, spec: RunSpec, asked: dict, profile: dict):
        """Opens or creates the run's folder below `parent`.

        Args:
            parent: where runs live.
            spec: names the folder.
            asked: `limit` (None: all layouts) and `samples`, of this call; recorded with the spec.
            profile: all settings of the profile, for those who score the images.
        """
        self.folder = parent / spec.folder
        self.spec, self.asked, self.profile = spec, asked, profile
        self.done: set[tuple[str, int]] = set()
        self._rows: IO[bytes] | None = None
        self._held = ExitStack()

    def __enter__(self) -> "RunStore":
        """Takes the folder and mends what a killed run left.

        Raises:
            InputError: another process holds the folder, or its spec is another.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(sole_writer(self.folder))
            for draft in self.folder.glob(".*.part"):
                draft.unlink()
            self._check_spec()
            record = {"spec": self.spec.model_dump(), "asked": self.asked, "profile": self.profile}
            write_whole(self.folder / "run.json", json.dumps(record, indent=2) + "\n")
            self._mend_rows()
            self._rows = held.enter_context((self.folder / "rows.jsonl").open("ab"))
            self._held = held.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._held.close()

    def _check_spec(self) -> None:
        path = self.folder / "run.json"
        if not path.exists():
            return
        try:
            stored = RunSpec.model_validate(json.loads(path.read_bytes())["spec"])
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is not a run's record: move the folder away.") from None
        if stored.hash != self.spec.hash:
            raise InputError(f"{path} is the record of another run: move the folder away.")

    def _mend_rows(self) -> None:
        """Keeps the rows of images that are there, each once; failed samples are tried again."""
        path = self.folder / "rows.jsonl"
        kept: dict[tuple[str, int], bytes] = {}
        content = path.read_bytes() if path.exists() else b""
        for line in content.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # torn by a kill
            pair = row["layout"], row["sample"]
            if row["error"] is None and self.image(*pair).exists():
                kept[pair] = line
        mended = b"".join(line + b"\n" for line in kept.values())
        if mended != content:
            write_whole(path, mended)
        self.done = set(kept)

    def seconds(self) -> float:
        """Mean seconds an image of the rows that are there."""
        rows = [json.loads(line) for line in (self.folder / "rows.jsonl").open("rb")]
        return sum(row["seconds"] for row in rows) / max(len(rows), 1)

    def image(self, layout: str, sample: int) -> Path:
        """Where the image of a sample is."""
        return self.folder / f"{layout}-{sample}.png"

    def add(self, row: dict, image: Image.Image | None) -> None:
        """Commits a sample: its image, if it has one, then its row."""
        if image is None:  # a kill may have left one of an earlier, uncommitted trial
            self.image(row["layout"], row["sample"]).unlink(missing_ok=True)
        else:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            write_whole(self.image(row["layout"], row["sample"]), buffer.getvalue())
            self.done.add((row["layout"], row["sample"]))
        self._rows.write(json.dumps(row).encode() + b"\n")
        self._rows.flush()
        os.fsync(self._rows.fileno())
