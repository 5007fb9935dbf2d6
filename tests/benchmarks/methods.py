"""Seconds per image of MultiDiffusion and of stage 1: one layout, eight at once, and as published.

    python tests/benchmarks/methods.py [--published ADAPTER.py] [--rounds 5]

ADAPTER.py runs the published programs in the same process and on the same networks; it has

    multidiffusion(model, masks, prompts, steps, guidance, bootstrapping)
    vqgan_clip(vqgan, clip, text, iterations, cutouts)

with a `tcig.models.diffusion.Diffusion`, masks (R, 1, 16, 16), the background's first, and a loaded
VQGAN and CLIP. Each way takes its turn, so that the machine's drift hits all; one turn before
the first is not counted. Prints medians as Markdown.
"""

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

from timing import embedded_layouts, median_seconds, print_table

from tcig.methods.base import Context, generators
from tcig.methods.multidiffusion import MultiDiffusion, Options
from tcig.methods.two_stage.stage1 import Stage1, Stage1Options
from tcig.models.clip import fuse_clip, load_clip
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import locate

STEPS, GUIDANCE, SIZE, MANY = 50, 7.5, 64, 8
ITERATIONS = 10
CUTOUTS = {"VQGAN+CLIP": 32, "stage 1": 8}
"""As published, and as in the profile `mini`."""


def layouts(regions: int, count: int) -> list:
    """Embedded layouts with so many regions."""
    found = [each for each in embedded_layouts() if len(each.regions) == regions]
    return (found * count)[:count]


def multidiffusion_ways(published) -> dict[str, tuple[Callable, int]]:
    """Name -> (what to time, images that it draws)."""
    ways = {}
    many = layouts(3, MANY)
    for share in ("paper", "code"):
        options = Options("mini:stable-diffusion", STEPS, GUIDANCE, bootstrapping=share)
        method = MultiDiffusion(Context(SIZE), options)
        name = f"MultiDiffusion, bootstrapping {options.bootstrapping:.0%}"
        if published:
            regions = method.regions(many[:1])
            prompts = [many[0].caption, *(region.prompt for region in many[0].regions)]
            steps = round(options.bootstrapping * STEPS)
            arguments = (method.model, regions.masks, prompts, STEPS, GUIDANCE, steps)
            ways[f"{name}: published"] = (lambda a=arguments: published.multidiffusion(*a), 1)
        ways[f"{name}: 1"] = (lambda m=method: m.generate(many[:1], [0]), 1)
        ways[f"{name}: {MANY} at once"] = (lambda m=method: m.generate(many, range(MANY)), MANY)
    return ways


def stage_ways(published) -> dict[str, tuple[Callable, int]]:
    """Stage 1 without a guide, as the published loop, and with one."""
    vqgan, plain = load_vqgan(locate("mini:vqgan")), load_clip("mini:clip")
    clip, many, ways = fuse_clip(plain), layouts(3, MANY), {}
    shared = {"iterations": ITERATIONS, "guides": ("mini:guide",)}
    for name, weight in (("VQGAN+CLIP", 0.0), ("stage 1", 10.0)):
        options = Stage1Options(guide_weight=weight, cutouts=CUTOUTS[name], **shared)
        stage = Stage1(options, vqgan, clip, SIZE)
        if published and not weight:
            text = many[0].caption
            arguments = (vqgan, plain, text, ITERATIONS, options.cutouts)
            ways[f"{name}: published"] = (lambda a=arguments: published.vqgan_clip(*a), 1)
        ways[f"{name}: 1"] = (lambda s=stage: s(many[:1], generators([0])), 1)
        ways[f"{name}: {MANY} at once"] = (lambda s=stage: s(many, generators(range(MANY))), MANY)
    return ways


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    published = None
    if arguments.published:
        spec = importlib.util.spec_from_file_location("published", arguments.published)
        published = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(published)
    ways = multidiffusion_ways(published) | stage_ways(published)
    seconds = median_seconds({name: work for name, (work, _) in ways.items()}, arguments.rounds)
    per_image = {name: seconds[name] / count for name, (_, count) in ways.items()}
    rows = []
    for name, seconds in per_image.items():
        kind = name.rsplit(": ", 1)[0]
        bases = (per_image.get(f"{kind}: published"), per_image[f"{kind}: 1"])
        published_ratio, alone = (base / seconds if base else "" for base in bases)
        row = {"way": name, "s an image": seconds, "times as fast as published": published_ratio}
        rows.append(row | {"as one alone": alone})
    print_table(rows)


if __name__ == "__main__":
    main()
