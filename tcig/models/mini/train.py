"""Trains the miniature models and writes their weights and cards.

    python -m tcig.models.mini.train vae --minutes 60
    python -m tcig.models.mini.train all --minutes 480

Training may be stopped at any time; the same command goes on from the last checkpoint in
`.training/`. Where there is no checkpoint, `--continue` starts from the shipped weights. `--export`
writes the weights of the last checkpoint without training further.
"""

import argparse
import json
from pathlib import Path

import torch

from tcig.models.devices import has_bf16
from tcig.models.mini import WEIGHTS
from tcig.models.mini.cards import write_card
from tcig.models.mini.loop import Recipe, Trainer
from tcig.models.mini.recipes.adapter import Adapter
from tcig.models.mini.recipes.autoencoders import VAE, VQ
from tcig.models.mini.recipes.clips import GuidingClip, ScoringClip
from tcig.models.mini.recipes.diffusion import TextToImage
from tcig.models.mini.recipes.inpainting import Inpainting
from tcig.models.mini.recipes.segmenters import Segmenter

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        VAE(),
        VQ(),
        Segmenter("judge", seed=2, minutes=60, first_scene=1_000_000),
        Segmenter("guide", seed=1, minutes=40, first_scene=0),
        Segmenter("guide-animals", seed=3, minutes=20, first_scene=0),
        Segmenter("guide-objects", seed=4, minutes=20, first_scene=0),
        GuidingClip(),
        ScoringClip(),
        TextToImage(),
        Inpainting(),
        Adapter(),
    )
}
"""In the order in which one builds on another."""


def main() -> None:
    """Trains, or goes on training, one model or all, and exports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["all", *RECIPES])
    parser.add_argument("--minutes", type=float, help="in all; shared out under `all`")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument(
        "--compile", action="store_true", help="minutes to start, then 3 to 9%% faster; needs g++"
    )
    parser.add_argument("--folder", type=Path, default=Path(".training"))
    parser.add_argument("--continue", dest="continued", action="store_true")
    parser.add_argument("--export", action="store_true", help="only export the last checkpoint")
    options = parser.parse_args()
    if options.minutes is not None and options.minutes <= 0:
        parser.error("--minutes must be more than 0")
    torch.set_num_threads(options.threads)
    bf16 = has_bf16() if options.precision == "auto" else options.precision == "bf16"
    names = list(RECIPES) if options.model == "all" else [options.model]
    whole = sum(RECIPES[name].minutes for name in names)
    for name in names:
        if options.export and not (options.folder / name / "checkpoint.pt").exists():
            parser.error(f"no checkpoint of {name} in {options.folder}: train it first")
        if options.continued and not (WEIGHTS / f"{name}.json").exists():
            parser.error(f"{name} is not shipped: train it without --continue")
    scale = 1 if options.minutes is None else options.minutes / whole
    for name in names:
        recipe = RECIPES[name]
        recipe.prepare(options.folder)
        shipped = WEIGHTS if options.continued else None
        trainer = Trainer(recipe, options.folder, bf16, shipped, options.compile)
        if not options.export:
            trainer.train(recipe.minutes * scale)
        print(json.dumps(write_card(trainer, WEIGHTS), indent=2))


if __name__ == "__main__":
    main()
