"""`tcig draw`: an image from a prompt and a drawn mask, by any method.

    tcig draw --prompt "a cat and a bus on a green field" --mask mask.png \\
        --legend "#ff0000=cat" "blue=bus" --out drawn.png
    tcig draw --prompt "two cats" --mask cat-1.png cat-2.png --method multidiffusion --out cats.png
    tcig draw --prompt "a dog" --mask masks.json --samples 3 --outputs 2 --out dog.png

A mask is a coloured picture (VOC's palette, or --legend), or pictures named after their classes, of
one object each, or what `tcig layouts --export` wrote, or a JSON of COCO segmentations. What is
transparent is background. In a picture of one object, the object is what differs from the colour of
the border, be it lighter or darker. Edges may be soft: they take the nearest colour. With
--samples N the files are numbered; for tcig the image of stage 1 stands beside as NAME-stage1.png,
and --outputs M draws stage 2 that often from each.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from tcig.commands.parsing import assignment, check_counts, parse
from tcig.data.errors import InputError


@dataclass
class Options:
    """Arguments of `tcig draw`."""

    prompt: str
    """Of the whole image."""
    mask: tuple[Path, ...]
    """What to draw where."""
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
    """Of the first sample."""
    samples: int = 1
    """Images, each from its own start."""
    outputs: int = 1
    """Images of stage 2 for each of stage 1."""


def main(argv: list[str]) -> int:
    """Runs `tcig draw`; 1 if an image failed."""
    options = parse(Options, argv, "draw", __doc__)
    check_counts(samples=options.samples, outputs=options.outputs)
    if options.out.suffix != ".png":
        raise InputError(f"--out {options.out}: images are PNG.")
    from tcig.data.drawn import drawn_layout, parse_legend
    from tcig.data.errors import describe
    from tcig.methods.two_stage.method import TwoStage
    from tcig.models.plugins import source_of
    from tcig.profiles import load_profile
    from tcig.run.generate import ProgressTracker
    from tcig.run.spec import prepare

    layout = drawn_layout(options.prompt, options.mask, parse_legend(options.legend))
    profile = load_profile(options.profile)
    profile.compute.check_named()
    given = dict(assignment(text) for text in options.set)
    _, method = prepare(options.method, profile, None, "drawn", given)
    staged = isinstance(method, TwoStage) and method.options.stages == "both"
    if options.outputs > 1 and not staged:
        raise InputError(f"--outputs: {options.method} has no two stages.")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    row = options.method.rpartition(":")[2]
    with ProgressTracker(options.samples * options.outputs, row) as tracker:
        try:
            (_in_stages if staged else _at_once)(options, method, layout, tracker)
        except InputError:
            raise
        except Exception as error:
            failure = f"{row} failed: {describe(error, source_of(method.generate))}"
            print(f"tcig: error: {failure}", file=sys.stderr)
            return 1
    return 0


def _at_once(options: Options, method, layout, tracker) -> None:
    """Draws all samples and saves them."""
    from tcig.run.batches import generate_batch

    count = options.samples

    def tell(share: float) -> None:
        tracker.advance(share * count)

    for number, image in enumerate(generate_batch(method, [layout] * count, _seeds(options), tell)):
        _save(image, options.out, number, count)


def _in_stages(options: Options, method, layout, tracker) -> None:
    """Draws stage 1 of all samples, and from each the outputs of stage 2, and saves all."""
    from tcig.data.seeds import seed_of
    from tcig.methods.base import Progress

    seeds, images = _seeds(options), options.samples * options.outputs
    steps = method.options.first.iterations + method.stage2_steps() * options.samples
    progress = Progress(lambda event, done: tracker.advance(done * images), steps)
    placed = method.place([layout] * options.samples, seeds, progress=progress)
    for number, (image, seed) in enumerate(zip(placed, seeds, strict=True)):
        _save(image, options.out, number, options.samples, "-stage1")
        again = [seed_of(f"drawn {seed}", n) for n in range(options.outputs - 1)]
        copies = [layout] * options.outputs, [image] * options.outputs
        for output, each in enumerate(method.refine(*copies, [seed, *again], progress)):
            suffix = f"-{output}" if options.outputs > 1 else ""
            _save(each, options.out, number, options.samples, suffix)


def _seeds(options: Options) -> list[int]:
    from tcig.data.seeds import seed_of

    numbers = range(options.seed, options.seed + options.samples)
    return [seed_of("drawn", number) for number in numbers]


def _save(image, out: Path, number: int, count: int, suffix: str = "") -> None:
    import io

    from tcig.data.files import write_whole

    path = out.with_stem(out.stem + (f"-{number}" if count > 1 else "") + suffix)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())
    print(path)
