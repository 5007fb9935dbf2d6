"""`tcig score`: scores a folder of images, anyone's.

    tcig score my-images --layouts layouts.jsonl --judge mask2former --profile paper
    tcig score runs/real-1a2b3c4d --layouts runs/layouts-mini.jsonl --judge colours
    tcig score my-images --layouts layouts.jsonl --judge deeplabv3_resnet101=FILE --name mine

FOLDER holds LAYOUT-SAMPLE.png, samples counted from 0. Judges: miniature, guide,
deeplabv3_resnet101, mask2former, mask2former-800, mask2former-instance, mask2former-instance-800,
colours; =PATH takes weights from disk.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from tcig.commands.parsing import parse


@dataclass
class Options:
    """Arguments of `tcig score`."""

    folder: tyro.conf.Positional[Path]
    """Folder of images."""
    layouts: Path
    """Manifest that the images were made for."""
    judge: tuple[str, ...] = ()
    """One or more judges (default: the profile's)."""
    name: str | None = None
    """The row's name in the table (default: the run's method, or the folder's name)."""
    profile: str | None = None
    """Sizes and judges (default: the run's own, else mini)."""
    limit: int | None = None
    """Score the first N layouts in the order of a hash of their ids."""
    resize: bool = False
    """Resize images of another size than the profile's instead of refusing them."""
    shard: str | None = None
    """Only part I/N, counted from 1, beside others; without it the parts are put together."""


def main(argv: list[str]) -> int:
    """Runs `tcig score`."""
    options = parse(Options, argv, "score", __doc__)
    from tcig.commands.inputs import profile_of
    from tcig.data.files import sha256
    from tcig.data.layout import read_manifest
    from tcig.data.shards import Shard
    from tcig.eval.judges import load_judge
    from tcig.eval.score import Sizes, score_folder

    shard = Shard.parse(options.shard) if options.shard else None
    profile = profile_of(options.folder, options.profile)
    _, layouts = read_manifest(options.layouts)
    sizes = Sizes(profile.size, profile.score_size, options.resize)
    for name in options.judge or profile.judges:
        place = score_folder(
            options.folder,
            layouts,
            sha256(options.layouts),
            load_judge(name),
            sizes,
            options.name,
            options.limit,
            shard,
        )
        print(place)
    return 0
