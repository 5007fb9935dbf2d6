"""The layouts that a command works on, and the photographs beside them."""

from pathlib import Path

from tcig.data.build import build_layouts
from tcig.data.errors import InputError
from tcig.data.filters import Filter
from tcig.data.layout import write_manifest
from tcig.profiles import Profile


def manifest_of(
    profile: Profile, layouts: Path | None, coco: Path | None, out: Path
) -> tuple[Path, Path | None]:
    """The manifest, and the COCO folder or None.

    Args:
        profile: whose embedded data is used where no manifest is given; its manifest is then
            written to `out`.
        layouts: the manifest given.
        coco: the COCO folder given.
        out: a folder.

    Raises:
        InputError: no manifest is given and the profile embeds no data.
    """
    if layouts:
        return layouts, coco
    if profile.coco is None:
        raise InputError(
            f"the profile {profile.name} embeds no data: make a manifest with `tcig layouts` and "
            "give it as --layouts FILE."
        )
    path = out / f"layouts-{profile.name}.jsonl"
    write_manifest(path, *build_layouts(profile.coco, Filter()))
    return path, coco or profile.coco
