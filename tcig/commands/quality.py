"""`tcig quality`: what is measured beside IoU, of folders of images, anyone's.

    tcig quality runs/real-1a2b3c4d runs/tcig-5e6f7a8b --layouts runs/layouts-mini.jsonl
    tcig quality runs/paper/tcig-* --layouts runs/paper/layouts.jsonl --coco runs/coco
    tcig table runs --reductions iou_image boundary_iou clip_caption clip_region kid_clip

CLIP scores with the caption and of each region, diversity of a layout's samples, KID and FID to the
photographs; and of a folder that was scored, boundary IoU and, of judges that know instances,
DenseDiffusion's IoU. They are kept in FOLDER/quality; what was stopped goes on where it was.
"""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tyro

from tcig.commands import parse
from tcig.data.files import InputError, sha256
from tcig.data.manifest import read_manifest


@dataclass
class Options:
    """Arguments of `tcig quality`."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of images, scored or not."""
    layouts: Path
    """Manifest that the images were made for."""
    profile: str | None = None
    """Size, the CLIP that scores and the features of KID (default: the run's own, else mini)."""
    coco: Path | None = None
    """Folder of the photographs, for KID and FID (default: the embedded data's)."""
    limit: int | None = None
    """Measure the first N layouts in the order of a hash of their ids."""
    resize: bool = False
    """Resize images of another size than the profile's instead of refusing them."""


def main(argv: list[str]) -> int:
    """Runs `tcig quality`."""
    options = parse(Options, argv, "quality", __doc__)
    if not options.folders:
        raise InputError("give a folder of images.")
    from tcig.eval.features import ClipEncoder, load_features, photograph_features
    from tcig.eval.images import Sizes, profile_of
    from tcig.eval.measure import Networks, measure_folder
    from tcig.models.devices import PLAIN

    PLAIN.check_named()
    profiles = {folder: profile_of(folder, options.profile) for folder in options.folders}
    for folder, profile in profiles.items():
        if profile.scorer is None:
            raise InputError(
                f"{folder}: its profile, {profile.name}, names no scorer, as those of older runs: "
                "give one that does as --profile."
            )
    _, layouts = read_manifest(options.layouts)
    manifest = sha256(options.layouts)
    scorer_of = cache(ClipEncoder)
    features_of = cache(load_features)
    photographs_of = cache(photograph_features)
    for folder, profile in profiles.items():
        scorer = scorer_of(profile.scorer)
        networks = Networks(scorer, profile.prefix, features_of(profile.features, scorer))
        coco = options.coco or profile.coco
        photographs = coco and photographs_of(coco, profile.size, networks.features)
        sizes = Sizes(profile.size, profile.score_size, options.resize)
        found = measure_folder(
            folder, layouts, manifest, networks, sizes, photographs, options.limit
        )
        for name, reason in found.refused.items():
            print(f"{folder}: no {name}: {reason}", file=sys.stderr)
        print(folder / "quality")
    return 0
