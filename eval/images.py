"""Which images of a folder are to be scored, and whether they can be."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from tcig.data.errors import InputError
from tcig.data.files import encodable, read_file
from tcig.data.layout import Layout, hash_order
from tcig.data.perturb import TRUE
from tcig.data.pictures import BIT_DEPTH, open_picture
from tcig.data.records import SAMPLE_RECORD, SampleRecord, read_records
from tcig.profiles import Profile, load_profile

_NAME = re.compile(r"(?P<layout>[\w.]+)-(?P<sample>0|[1-9]\d*)\.png", re.ASCII)


@dataclass(frozen=True)
class Found:
    """A folder's images: (layout, sample) pairs to score, and those its run recorded as failed."""

    row: str
    pairs: list[tuple[Layout, int]]
    failed: int


def find_images(
    folder: Path,
    layouts: Sequence[Layout],
    manifest: str,
    limit: int | None,
) -> Found:
    """Matches a folder of `LAYOUTID-SAMPLE.png` with the layouts, all of them or the first `limit`.

    A folder with a `run.json` tells itself which layouts and samples it was asked for, and its
    `rows.jsonl` which of them failed; of any other folder every layout needs the same samples.

    Raises:
        InputError: a limit below 1; an image is missing or only there as a lossy file; there are
            none, or all failed; an image belongs to no layout; the run was made for another
            manifest.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of images.")
    if not encodable(folder.resolve().name):
        raise InputError(f"{folder} has a name that is not UTF-8; rename the folder.")
    run = read_run(folder)
    asked = run.asked if run else Asked()
    if run and run.spec.manifest != manifest:
        raise InputError(
            f"{folder} was generated for another manifest than this one: give its own."
        )
    limit = asked.limit if limit is None else limit
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit} leaves no layouts: it counts from 1.")
    chosen = hash_order(layouts)[:limit]
    known = {layout.id for layout in layouts}
    present = set()
    for path in folder.glob("[!.]*.png"):  # macOS writes ._NAME.png beside NAME.png
        match = _NAME.fullmatch(path.name)
        if not match or match["layout"] not in known:
            raise InputError(
                f"{path} belongs to no layout of the manifest: images are named "
                "LAYOUTID-SAMPLE.png, samples counted from 0."
            )
        present.add((match["layout"], int(match["sample"])))
    samples = asked.samples or max((sample for _, sample in present), default=0) + 1
    failures = {(row["layout"], row["sample"]) for row in run_rows(folder) if row["error"]}
    pairs, failed = [], 0
    for layout in chosen:
        for sample in range(samples):
            if (layout.id, sample) in present:
                pairs.append((layout, sample))
            elif (layout.id, sample) in failures:
                failed += 1
            else:
                raise _missing(folder, layout.id, sample)
    if not pairs:
        raise InputError(f"{folder}: all {failed} samples failed; see its rows.jsonl.")
    return Found(run.spec.row if run else folder.resolve().name, pairs, failed)


class Asked(BaseModel):
    """How much of a manifest a run was asked for: `limit` None means all."""

    limit: int | None = None
    samples: int | None = Field(default=None, ge=1)


class RunRecord(BaseModel):
    """What scoring reads of a run's `run.json`; all that it does not know there is left out."""

    class Spec(BaseModel):
        """Of the run's spec, see `tcig.run.spec.RunSpec`."""

        method: str
        manifest: str
        weights: dict[str, str] = {}
        version: int | None = None
        code: str | None = None
        options: dict[str, Any] = {}
        profile: str | None = None
        size: int | None = None
        batch: int | None = None
        device: str | None = None
        arithmetic: str | None = None
        masks: str = TRUE
        seeds: str | None = None

        @property
        def row(self) -> str:
            """The row's name in the table."""
            return self.method if self.masks == TRUE else f"{self.method} ({self.masks})"

    spec: Spec
    asked: Asked
    profile: dict


def read_run(folder: Path) -> RunRecord | None:
    """The record of a run's folder, None of any other.

    Raises:
        InputError: its `run.json` is no run's record.
    """
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return RunRecord.model_validate_json(read_file(path), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"{path} is not a run's record ({place}: {problem['msg']}): remove it or run again."
        ) from None


def profile_of(folder: Path, name: str | None) -> Profile:
    """The profile `name`, or else that of the run whose folder it is, or else `mini`.

    Raises:
        InputError: no such profile, or the run's record holds none that can be used.
    """
    run = read_run(folder)
    if name or not run:
        return load_profile(name or "mini")
    try:
        return Profile.model_validate(run.profile)
    except ValidationError as error:
        raise InputError(
            f"{folder / 'run.json'} holds no usable profile ({error.errors()[0]['msg']}): give "
            "--profile."
        ) from None


def run_rows(folder: Path) -> list[SampleRecord]:
    """The rows of a run and of its shards, one of each sample, without lines torn by a kill; none
    of any other folder. A sample that one file has as failed and another as drawn is drawn."""
    rows = {}
    for path in rows_files(folder):
        for row in read_records(path, SAMPLE_RECORD):
            pair = row["layout"], row["sample"]
            if row["error"] is None or pair not in rows:
                rows[pair] = row
    return list(rows.values())


def rows_files(folder: Path) -> list[Path]:
    """`rows.jsonl` of a run and those of its shards."""
    return sorted(folder.glob("rows.jsonl")) + sorted(folder.glob("rows.*-of-*.jsonl"))


def _missing(folder: Path, layout: str, sample: int) -> InputError:
    for suffix in ("jpg", "jpeg", "webp", "JPG", "JPEG"):
        lossy = folder / f"{layout}-{sample}.{suffix}"
        if lossy.exists():
            return InputError(f"{lossy} is lossy, which shifts the judge: save images as PNG.")
    if not any(folder.glob("[!.]*.png")):
        paths = sorted(folder.glob("[!.]*/[!.]*.png"))
        inside = next((path.parent.name for path in paths if _NAME.fullmatch(path.name)), None)
        hint = f"its folder {inside} has some" if inside else "generate them first"
        return InputError(f"{folder} holds no images: {hint}.")
    return InputError(
        f"{folder / f'{layout}-{sample}.png'} is missing: generate it, or score the first layouts "
        "of the manifest with --limit."
    )


def open_image(path: Path, size: int, resize: bool, content: bytes | None = None) -> Image.Image:
    """Opens a PNG as RGB of `size` x `size`.

    Args:
        path: the file.
        size: the profile's canvas.
        resize: whether a square of another size is resized (Lanczos) instead of refused.
        content: of the file, where it was read before.

    Raises:
        InputError: unreadable, truncated, not a PNG, transparent, of 16 bits, or of another size.
    """
    content = content or read_file(path)
    image = open_picture(path, content, "generate it again")
    if image.format != "PNG":
        raise InputError(f"{path} is {image.format} inside: save images as PNG.")
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
        raise InputError(f"{path} is transparent: save opaque RGB.")
    if content[BIT_DEPTH] > 8:  # Pillow opens 16-bit RGB as 8-bit without a word
        raise InputError(f"{path} has 16 bits a channel: save 8-bit RGB.")
    if image.mode != "RGB":
        image = image.convert("RGB")
    if image.size == (size, size):
        return image
    if resize and image.width == image.height:
        return image.resize((size, size), Image.Resampling.LANCZOS)
    raise InputError(
        f"{path} is {image.width}x{image.height}, {size}x{size} is expected: give the profile it "
        "was made for, or --resize if it is square."
    )
