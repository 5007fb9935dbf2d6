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
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timing import embedded_layouts, median_seconds, print_table

from tcig.methods.base import Context, generators
from tcig.methods.multidiffusion import MultiDiffusion, Options
from tcig.methods.two_stage.stage1 import Stage1, Stage1Options
from tcig.models.clip import fuse_clip, load_clip
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import locate

STEPS, GUIDANCE, SIZE, MANY, ITERATIONS = 50, 7.5, 64, 8, 10
CUTOUTS = {"VQGAN+CLIP": 32, "stage 1": 8}
"""As published, and as in the profile `mini`."""
Ways = dict[str, tuple[Callable, int]]
"""Name -> (what to time, images that it draws)."""


def multidiffusion_ways(layouts: list, published: dict) -> Ways:
    """MultiDiffusion with the paper's and with the code's bootstrapping."""
    ways = {}
    for share in ("paper", "code"):
        options = Options("mini:stable-diffusion", STEPS, GUIDANCE, bootstrapping=share)
        method = MultiDiffusion(Context(SIZE), options)
        name = f"MultiDiffusion, bootstrapping {options.bootstrapping:.0%}"
        if published:
            regions = method.regions(layouts[:1])
            prompts = [layouts[0].caption, *(region.prompt for region in layouts[0].regions)]
            steps = round(options.bootstrapping * STEPS)
            arguments = (method.model, regions.masks, prompts, STEPS, GUIDANCE, steps)
            ways[f"{name}: published"] = partial(published["multidiffusion"], *arguments), 1
        ways[f"{name}: 1"] = partial(method.generate, layouts[:1], [0]), 1
        ways[f"{name}: {MANY} at once"] = partial(method.generate, layouts, range(MANY)), MANY
    return ways


def stage_ways(layouts: list, published: dict) -> Ways:
    """Stage 1 without a guide, as the published loop, and with one."""
    vqgan, plain = load_vqgan(locate("mini:vqgan")), load_clip("mini:clip")
    clip, ways = fuse_clip(plain), {}
    shared = {"iterations": ITERATIONS, "guides": ("mini:guide",)}
    for name, weight in (("VQGAN+CLIP", 0.0), ("stage 1", 10.0)):
        options = Stage1Options(guide_weight=weight, cutouts=CUTOUTS[name], **shared)
        stage = Stage1(options, vqgan, clip, SIZE)
        if published and not weight:
            arguments = (vqgan, plain, layouts[0].caption, ITERATIONS, options.cutouts)
            ways[f"{name}: published"] = partial(published["vqgan_clip"], *arguments), 1
        for count, title in ((1, "1"), (MANY, f"{MANY} at once")):
            work = lambda s=stage, n=count: s(layouts[:n], generators(range(n)))  # noqa: E731
            ways[f"{name}: {title}"] = work, count
    return ways


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    published = runpy.run_path(arguments.published) if arguments.published else {}
    layouts = [layout for layout in embedded_layouts() if len(layout.regions) == 3][:MANY]
    ways = multidiffusion_ways(layouts, published) | stage_ways(layouts, published)
    seconds = median_seconds({name: work for name, (work, _) in ways.items()}, arguments.rounds)
    per_image = {name: seconds[name] / count for name, (_, count) in ways.items()}
    rows = []
    for name, value in per_image.items():
        kind = name.rsplit(": ", 1)[0]
        base = per_image.get(f"{kind}: published")
        row = {"way": name, "s an image": value}
        row["times as fast as published"] = base / value if base else ""
        rows.append(row | {"as one alone": per_image[f"{kind}: 1"] / value})
    print_table(rows)


if __name__ == "__main__":
    main()
