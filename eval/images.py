"""Which images of a folder are to be scored, and whether they can be."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tcig.data.errors import InputError
from tcig.data.layout import Layout, hash_order

_NAME = re.compile(r"(?P<layout>[\w.]+)-(?P<sample>0|[1-9]\d*)\.png", re.ASCII)


@dataclass(frozen=True)
class Found:
    """A folder's images: (layout, sample) pairs to score, and those its run recorded as failed."""

    row: str
    pairs: list[tuple[Layout, int]]
    failed: int


def find_images(folder: Path, layouts: Sequence[Layout], manifest: str, limit: int | None) -> Found:
    """Matches a folder of `LAYOUTID-SAMPLE.png` with the layouts, all of them or the first `limit`.

    A folder with a `run.json` tells itself which layouts and samples it was asked for, and its
    `rows.jsonl` which of them failed; of any other folder every layout needs the same samples.

    Raises:
        InputError: a limit below 1; an image is missing or only there as a lossy file; there are
            none; an image belongs to no layout; the run was made for another manifest.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of images.")
    asked = read_run(folder)
    if asked.get("manifest", manifest) != manifest:
        raise InputError(
            f"{folder} was generated for another manifest than this one: give its own."
        )
    limit = asked.get("limit") if limit is None else limit
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit} leaves no layouts: it counts from 1.")
    chosen = hash_order(layouts)[:limit]
    known = {layout.id for layout in layouts}
    present = set()
    for path in folder.glob("*.png"):
        match = _NAME.fullmatch(path.name)
        if not match or match["layout"] not in known:
            raise InputError(
                f"{path} belongs to no layout of the manifest: images are named "
                "LAYOUTID-SAMPLE.png, samples counted from 0."
            )
        present.add((match["layout"], int(match["sample"])))
    samples = asked.get("samples") or max((sample for _, sample in present), default=0) + 1
    failures = _failures(folder)
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
    return Found(asked.get("method") or folder.resolve().name, pairs, failed)


def read_run(folder: Path) -> dict:
    """Of a run's folder `limit`, `samples`, `method`, `manifest`, `profile`; `{}` of any other.

    Raises:
        InputError: its `run.json` is no run's record.
    """
    path = folder / "run.json"
    if not path.exists():
        return {}
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        spec = {name: run["spec"][name] for name in ("method", "manifest")}
        return run["asked"] | spec | {"profile": run["profile"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a run's record ({error!r}): remove it or run again."
        ) from None


def _failures(folder: Path) -> set[tuple[str, int]]:
    path = folder / "rows.jsonl"
    if not path.exists():
        return set()
    failures = set()
    for line in path.read_bytes().splitlines():
        with suppress(ValueError, KeyError, TypeError):  # torn by a kill, or not of a run
            row = json.loads(line)
            if row["error"]:
                failures.add((row["layout"], row["sample"]))
    return failures


def _missing(folder: Path, layout: str, sample: int) -> InputError:
    for suffix in ("jpg", "jpeg", "webp", "JPG", "JPEG"):
        lossy = folder / f"{layout}-{sample}.{suffix}"
        if lossy.exists():
            return InputError(f"{lossy} is lossy, which shifts the judge: save images as PNG.")
    return InputError(
        f"{folder / f'{layout}-{sample}.png'} is missing: generate it, or score the first layouts "
        "of the manifest with --limit."
    )


def open_image(path: Path, size: int, resize: bool) -> Image.Image:
    """Opens a PNG as RGB of `size` x `size`.

    Args:
        path: the file.
        size: the profile's canvas.
        resize: whether another size is resized (Lanczos) instead of refused.

    Raises:
        InputError: unreadable, truncated, not a PNG, transparent, of 16 bits, or of another size.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.format != "PNG":
                raise InputError(f"{path} is {image.format} inside: save images as PNG.")
            if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
                raise InputError(f"{path} is transparent: save opaque RGB.")
            if image.mode not in ("RGB", "RGBA", "P", "PA", "L", "LA", "1"):
                raise InputError(f"{path} is of mode {image.mode}: save 8-bit RGB.")
            image = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} cannot be read as an image ({error}): generate it again."
        ) from None
    if image.size == (size, size):
        return image
    if resize:
        return image.resize((size, size), Image.Resampling.LANCZOS)
    raise InputError(
        f"{path} is {image.width}x{image.height}, {size}x{size} is expected: give the profile it "
        "was made for, or --resize."
    )
