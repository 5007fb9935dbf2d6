"""What commands share: the layouts to work on, the photographs beside them, a folder's profile."""

from pathlib import Path

from pydantic import ValidationError

from tcig.data.build import build_layouts
from tcig.data.errors import InputError
from tcig.data.filters import Filter
from tcig.data.layout import write_manifest
from tcig.eval.images import read_run
from tcig.profiles import Profile, load_profile


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
