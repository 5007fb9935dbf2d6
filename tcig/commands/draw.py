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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tcig.commands import assignment, parse
from tcig.data.files import InputError, describe, write_whole
from tcig.data.layout import seed_of


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
    from tcig.data.user_masks import drawn_layout, parse_legend
    from tcig.methods.two_stage.method import TwoStage
    from tcig.models.plugins import source_of
    from tcig.profiles import load_profile
    from tcig.run.batches import encode_png, generate_batch
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
    row, count = options.method.rpartition(":")[2], options.samples * options.outputs
    layouts = [layout] * options.samples
    seeds = [seed_of("drawn", options.seed + number) for number in range(options.samples)]
    with ProgressTracker(count, row) as tracker:

        def progress(share: float) -> None:
            tracker.advance(share * count)

        try:
            if two_stages:
                images = _draw_in_stages(method, layouts, seeds, options.outputs, progress)
            else:
                drawn = generate_batch(method, layouts, seeds, progress)
                images = ((number, "", image) for number, image in enumerate(drawn))
            for number, suffix, image in images:
                numbered = f"-{number}" if options.samples > 1 else ""
                path = options.out.with_stem(f"{options.out.stem}{numbered}{suffix}")
                write_whole(path, encode_png(image))
                print(path)
        except InputError:
            raise
        except Exception as error:
            failure = f"{row} failed: {describe(error, source_of(method.generate))}"
            print(f"tcig: error: {failure}", file=sys.stderr)
            return 1
    return 0


def _draw_in_stages(
    method, layouts: list, seeds: list[int], outputs: int, progress: Callable[[float], None]
) -> Iterator[tuple]:
    """Yields stage 1 of each sample, then its outputs of stage 2: number, suffix and image."""
    from tcig.methods.base import Progress

    steps = method.options.first.iterations + method.options.stage2_steps * len(layouts)
    told = Progress(lambda event, done: progress(done), steps)
    placed = method.place(layouts, seeds, progress=told)
    for number, (layout, image, seed) in enumerate(zip(layouts, placed, seeds, strict=True)):
        yield number, "-stage1", image
        more = [seed_of(f"drawn {seed}", n) for n in range(outputs - 1)]
        refined = method.refine([layout] * outputs, [image] * outputs, [seed, *more], told)
        for output, each in enumerate(refined):
            yield number, f"-{output}" if outputs > 1 else "", each
