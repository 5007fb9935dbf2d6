"""`tcig draw`: generates an image from a prompt and a drawn mask, by any method.

    tcig draw --prompt "a cat and a bus on a green field" --mask mask.png \\
        --legend "#ff0000=cat" "blue=bus" --out drawn.png
    tcig draw --prompt "two cats" --mask cat-1.png cat-2.png --method multidiffusion --out cats.png
    tcig draw --prompt "a dog" --mask masks.json --samples 3 --outputs 2 --out dog.png

A mask is a coloured picture (VOC's palette, or --legend), or pictures named after their classes, of
one object each, or what `tcig layouts --export` wrote, or a JSON of COCO segmentations. What is
transparent is background. In a picture of one object, the object is what differs from the colour of
the border, be it lighter or darker. Edges may be soft: they take the nearest colour. With
--samples N the files are numbered; for tcig the image of stage 1 is saved as NAME-stage1.png, and
--outputs M generates M images of stage 2 from each.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tcig.commands.parsing import assignment, parse
from tcig.data.files import InputError

if TYPE_CHECKING:
    from PIL import Image

    from tcig.data.layout import Layout
    from tcig.methods.base import Method
    from tcig.methods.two_stage.method import TwoStage
    from tcig.run.generate import ProgressTracker


@dataclass
class Options:
    """Arguments of `tcig draw`."""

    prompt: str
    """Prompt of the whole image."""
    mask: tuple[Path, ...]
    """Files that say what is to be where."""
    out: Path
    """PNG to write."""
    legend: tuple[str, ...] = ()
    """Classes of the mask's colours, as COLOUR=LABEL: "#ff0000=cat" "0,0,255=bus" "lime=dog"."""
    method: str = "tcig"
    """A row of `tcig run`, or path/to/file.py:Class."""
    profile: str = "mini"
    """Size and models: mini, paper, or a TOML file."""
    set: tuple[str, ...] = ()
    """Options of the method, as OPTION=VALUE."""
    seed: int = 0
    """Seed of the first sample; later samples use seed + 1, seed + 2, ..."""
    samples: int = 1
    """Number of images, each with its own seed."""
    outputs: int = 1
    """Images of stage 2 for each image of stage 1."""


def main(argv: list[str]) -> int:
    """Runs `tcig draw`; 1 if an image failed."""
    options = parse(Options, argv, "draw", __doc__)
    if options.out.suffix != ".png":
        raise InputError(f"--out {options.out}: images are PNG.")
    from tcig.data.files import describe
    from tcig.data.user_masks import drawn_layout, parse_legend
    from tcig.methods.two_stage.method import TwoStage
    from tcig.models.plugins import source_of
    from tcig.profiles import load_profile
    from tcig.run.generate import ProgressTracker
    from tcig.run.spec import prepare

    layout = drawn_layout(options.prompt, options.mask, parse_legend(options.legend))
    profile = load_profile(options.profile)
    profile.compute.check_named()
    settings = dict(assignment(text) for text in options.set)
    _, method = prepare(options.method, profile, None, "drawn", settings)
    two_stages = isinstance(method, TwoStage) and method.options.stages == "both"
    if options.outputs > 1 and not two_stages:
        raise InputError(f"--outputs: {options.method} has no two stages.")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    row = options.method.rpartition(":")[2]
    with ProgressTracker(options.samples * options.outputs, row) as tracker:
        try:
            (_draw_in_stages if two_stages else _draw)(options, method, layout, tracker)
        except InputError:
            raise
        except Exception as error:
            failure = f"{row} failed: {describe(error, source_of(method.generate))}"
            print(f"tcig: error: {failure}", file=sys.stderr)
            return 1
    return 0


def _draw(options: Options, method: "Method", layout: "Layout", tracker: "ProgressTracker") -> None:
    """Generates all samples and saves them."""
    from tcig.run.batches import generate_batch

    count = options.samples
    progress = lambda share: tracker.advance(share * count)  # noqa: E731
    images = generate_batch(method, [layout] * count, _seeds(options), progress)
    for number, image in enumerate(images):
        _save(image, options, number)


def _draw_in_stages(
    options: Options, method: "TwoStage", layout: "Layout", tracker: "ProgressTracker"
) -> None:
    """Generates stage 1 of all samples, and from each the outputs of stage 2, and saves all."""
    from tcig.data.layout import seed_of
    from tcig.methods.base import Progress

    seeds, images = _seeds(options), options.samples * options.outputs
    steps = method.options.first.iterations + method.stage2_steps() * options.samples
    progress = Progress(lambda event, done: tracker.advance(done * images), steps)
    placed = method.place([layout] * options.samples, seeds, progress=progress)
    for number, (image, seed) in enumerate(zip(placed, seeds, strict=True)):
        _save(image, options, number, "-stage1")
        more = [seed_of(f"drawn {seed}", n) for n in range(options.outputs - 1)]
        copies = [layout] * options.outputs, [image] * options.outputs
        for output, refined in enumerate(method.refine(*copies, [seed, *more], progress)):
            _save(refined, options, number, f"-{output}" if options.outputs > 1 else "")


def _seeds(options: Options) -> list[int]:
    from tcig.data.layout import seed_of

    return [seed_of("drawn", options.seed + number) for number in range(options.samples)]


def _save(image: "Image.Image", options: Options, number: int, suffix: str = "") -> None:
    from tcig.data.files import write_whole
    from tcig.run.batches import encode_png

    numbered = f"-{number}" if options.samples > 1 else ""
    path = options.out.with_stem(f"{options.out.stem}{numbered}{suffix}")
    write_whole(path, encode_png(image))
    print(path)
