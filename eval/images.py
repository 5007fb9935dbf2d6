"""Finds, checks and opens the images of a folder that are to be scored."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from pydantic import ValidationError

from tcig.data.files import InputError, encodable, read_file
from tcig.data.layout import Layout, hash_order
from tcig.data.pictures import BIT_DEPTH, open_picture
from tcig.data.records import Asked, Pair, read_run, run_rows
from tcig.profiles import Profile, load_profile

NAME = re.compile(r"(?P<layout>[\w.]+)-(?P<sample>0|[1-9]\d*)\.png", re.ASCII)
BATCH = 16
"""Images in a call of a judge, or of a network of the quality metrics."""


class Sizes(NamedTuple):
    """Sides in pixels: of the images, and of the label maps when they are compared."""

    image: int
    score: int
    resize: bool = False
    """Whether images of another size are resized instead of refused."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder's samples to score, and how many samples its run recorded as failed."""

    folder: Path
    row: str
    samples: list[tuple[Layout, int]]
    failed: int

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Layout id and sample index of each sample."""
        return tuple((layout.id, sample) for layout, sample in self.samples)

    def path(self, pair: Pair) -> Path:
        """Returns the path of a sample's image."""
        return self.folder / f"{pair[0]}-{pair[1]}.png"

    def changed(self, known: Mapping[Pair, str | None]) -> Iterator[list["SampleImage"]]:
        """Reads each image once and yields, in batches, those that differ from `known`.

        Args:
            known: SHA-256 of the images that need no work.

        Raises:
            InputError: an image cannot be read.
        """
        batch = []
        for layout, sample in self.samples:
            path = self.path((layout.id, sample))
            content = read_file(path)
            digest = hashlib.sha256(content).hexdigest()
            if known.get((layout.id, sample)) != digest:
                batch.append(SampleImage(layout, sample, path, content, digest))
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


class SampleImage(NamedTuple):
    """The image file of a sample, read but not decoded."""

    layout: Layout
    sample: int
    path: Path
    content: bytes
    sha256: str

    @property
    def pair(self) -> Pair:
        """Layout id and sample index."""
        return self.layout.id, self.sample

    def open(self, sizes: Sizes) -> Image.Image:
        """Decodes the image, see `open_image`."""
        return open_image(self.path, sizes.image, sizes.resize, self.content)


def find_images(
    folder: Path, layouts: Sequence[Layout], manifest: str, limit: int | None
) -> ImageFolder:
    """Matches a folder of `LAYOUTID-SAMPLE.png` with the layouts, all of them or the first `limit`.

    A folder with a `run.json` says which layouts and samples it was asked for, and its records say
    which of them failed. In any other folder every layout needs the same samples.

    Raises:
        InputError: the limit is below 1; an image is missing or only there as a lossy file; all
            are missing or failed; an image belongs to no layout; the run was made for another
            manifest.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of images.")
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
        raise InputError(f"--limit must be at least 1, got {limit}.")
    known = {layout.id for layout in layouts}
    present = set()
    for path in folder.glob("[!.]*.png"):  # macOS writes ._NAME.png beside NAME.png
        match = NAME.fullmatch(path.name)
        if not match or match["layout"] not in known:
            raise InputError(
                f"{path} belongs to no layout of the manifest: images are named "
                "LAYOUTID-SAMPLE.png, samples counted from 0."
            )
        present.add((match["layout"], int(match["sample"])))
    number = asked.samples or max((sample for _, sample in present), default=0) + 1
    failures = {(row["layout"], row["sample"]) for row in run_rows(folder) if row["error"]}
    samples, failed = [], 0
    for layout in hash_order(layouts)[:limit]:
        for sample in range(number):
            if (layout.id, sample) in present:
                samples.append((layout, sample))
            elif (layout.id, sample) in failures:
                failed += 1
            else:
                raise _missing(folder, layout.id, sample)
    if not samples:
        raise InputError(f"{folder}: all {failed} samples failed; see its rows.jsonl.")
    return ImageFolder(folder, run.spec.row if run else folder.resolve().name, samples, failed)


def profile_of(folder: Path, name: str | None) -> Profile:
    """Returns the profile `name`, or else the one of the folder's run, or else `mini`.

    Raises:
        InputError: the profile is unknown, or the run's record has no usable one.
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


def _missing(folder: Path, layout: str, sample: int) -> InputError:
    for suffix in ("jpg", "jpeg", "webp", "JPG", "JPEG"):
        lossy = folder / f"{layout}-{sample}.{suffix}"
        if lossy.exists():
            return InputError(f"{lossy} is lossy, which shifts the judge: save images as PNG.")
    if not any(folder.glob("[!.]*.png")):
        paths = sorted(folder.glob("[!.]*/[!.]*.png"))
        inside = next((path.parent.name for path in paths if NAME.fullmatch(path.name)), None)
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
        size: side of the profile's canvas, pixels.
        resize: whether a square of another size is resized (Lanczos) instead of refused.
        content: bytes of the file, if they are read already.

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
