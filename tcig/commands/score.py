"""`tcig score`: scores a folder of images, anyone's.

    tcig score my-images --layouts layouts.jsonl --judge mask2former --profile paper
    tcig score runs/real-1a2b3c4d --layouts runs/layouts-mini.jsonl --judge colours
    tcig score my-images --layouts layouts.jsonl --judge deeplabv3_resnet101=FILE --name mine
    tcig score my-images --layouts layouts.jsonl --judge path/to/file.py:MyJudge
    tcig score my-images --layouts layouts.jsonl --label-maps my-label-maps

FOLDER holds LAYOUT-SAMPLE.png, samples counted from 0. Judges: miniature, guide,
deeplabv3_resnet101, mask2former, mask2former-800, mask2former-instance, mask2former-instance-800,
colours, or one of your own, see `tcig.eval.judges.Judge`; =PATH takes weights from disk.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from tcig.commands import parse
from tcig.data.files import InputError


@dataclass
class Options:
    """Arguments of `tcig score`."""

    folder: tyro.conf.Positional[Path]
    """Folder of images."""
    layouts: Path
    """Manifest that the images were made for."""
    judge: tuple[str, ...] = ()
    """One or more judges by name, or path/to/file.py:Class (default: the profile's)."""
    label_maps: Path | None = None
    """Folder of LAYOUT-SAMPLE.png with a label 0 to 20 at each pixel, made elsewhere, in place of a
    judge; the folder's name is the judge's in the table."""
    name: str | None = None
    """The row's name in the table (default: the run's method, or the folder's name)."""
    profile: str | None = None
    """Sizes and judges (default: the run's own, else mini)."""
    limit: int | None = None
    """Score the first N layouts in the order of a hash of their ids."""
    resize: bool = False
    """Resize images of another size than the profile's instead of refusing them."""


def main(argv: list[str]) -> int:
    """Runs `tcig score`."""
    options = parse(Options, argv, "score", __doc__)
    from tcig.eval.score import score_folder

    if options.judge and options.label_maps:
        raise InputError("--label-maps stands for a judge: leave out --judge.")
    places = score_folder(
        options.folder,
        options.layouts,
        options.judge,
        label_maps=options.label_maps,
        profile=options.profile,
        name=options.name,
        limit=options.limit,
        resize=options.resize,
    )
    for place in places:
        print(place)
    return 0
