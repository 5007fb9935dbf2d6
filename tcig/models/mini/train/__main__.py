"""Trains the miniature models, and writes their weights and cards.

    python -m tcig.models.mini.train vae --minutes 60
    python -m tcig.models.mini.train all --minutes 480

Training may be interrupted at any time; the same command resumes from the last checkpoint in
`.training/`. Without a checkpoint, `--continue` starts from the shipped weights. The architectures
are those of the shipped configuration files and of `segmenters.py`.
"""

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from tcig.data.files import sha256, write_whole
from tcig.models import mini
from tcig.models.devices import has_bf16
from tcig.models.mini.train import autoencoders, clips, diffusion, segmenters
from tcig.models.mini.train.trainer import Recipe, Trainer

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        autoencoders.VAERecipe(),
        autoencoders.VQGANRecipe(),
        segmenters.SegmenterRecipe("judge", seed=2, minutes=60, first_scene=1_000_000),
        segmenters.SegmenterRecipe("guide", seed=1, minutes=40, first_scene=0),
        segmenters.SegmenterRecipe("guide-animals", seed=3, minutes=20, first_scene=0),
        segmenters.SegmenterRecipe("guide-objects", seed=4, minutes=20, first_scene=0),
        clips.ClipRecipe("clip", 13, "open_clip modified ResNet, 64 px; guides stage 1"),
        clips.ClipRecipe(
            "clip-score", 14, "open_clip vision transformer, 64 px; scores, guides nothing"
        ),
        diffusion.TextToImageRecipe(),
        diffusion.InpaintingRecipe(),
        diffusion.AdapterRecipe(),
    )
}
"""Recipes in the order in which one builds on another."""
VALIDATION_SCENES = 128
LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "open_clip_torch")
GLYPHS = {
    "noto": "Noto Color Emoji (OFL-1.1)",
    "fluent": "Fluent Emoji (MIT)",
    "twemoji": "Twemoji (CC-BY-4.0)",
}


def export(trainer: Trainer, folder: Path) -> dict:
    """Writes the averaged weights in float16 and the card `NAME.json` below `folder`.

    Returns:
        The card. Its held-out metrics are those of the float16 weights on the validation split.
    """
    recipe = trainer.recipe
    model = recipe.build()
    average = trainer.average.module.state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in average.items()}
    model.load_state_dict(half)
    metrics = recipe.evaluate(model.eval(), "validation", VALIDATION_SCENES)
    files = recipe.save(model.half(), folder)
    glyphs = ", ".join(GLYPHS[style] for style in dict.fromkeys(recipe.data["styles"]))
    card = {
        "model": recipe.name,
        "what": recipe.about,
        "not_for": recipe.not_for,
        "parameters": sum(p.numel() for p in model.parameters()),
        "files": {str(file.relative_to(folder)): sha256(file) for file in files},
        "script": f"python -m tcig.models.mini.train {recipe.name}",
        "data": {"split": "training", **recipe.data},
        "seed": recipe.seed,
        "batch": recipe.batch,
        "steps": trainer.step,
        "minutes": round(trainer.minutes, 1),
        "threads": torch.get_num_threads(),
        "precision": "bf16" if trainer.bf16 else "fp32",
        "processor": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in LIBRARIES},
        "held_out": {"split": "validation", **metrics},
        "licence": f"Apache-2.0; trained on drawings of {glyphs}",
    }
    write_whole(folder / f"{recipe.name}.json", json.dumps(card, indent=2) + "\n")
    return card


def main() -> None:
    """Trains one model or all, resumes where it can, and exports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["all", *RECIPES])
    parser.add_argument("--minutes", type=float, help="in all; `all` divides them among the models")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--folder", type=Path, default=Path(".training"))
    parser.add_argument("--continue", dest="from_shipped", action="store_true")
    options = parser.parse_args()
    if options.minutes is not None and options.minutes <= 0:
        parser.error("--minutes must be more than 0")
    names = list(RECIPES) if options.model == "all" else [options.model]
    for name in names:
        if options.from_shipped and not (mini.WEIGHTS / f"{name}.json").exists():
            parser.error(f"{name} is not shipped: train it without --continue")
    bf16 = has_bf16() if options.precision == "auto" else options.precision == "bf16"
    default = sum(RECIPES[name].minutes for name in names)
    scale = 1 if options.minutes is None else options.minutes / default
    for name in names:
        recipe = RECIPES[name]
        recipe.prepare(options.folder)
        weights = mini.WEIGHTS if options.from_shipped else None
        trainer = Trainer(recipe, options.folder, bf16, weights)
        trainer.train(recipe.minutes * scale)
        print(json.dumps(export(trainer, mini.WEIGHTS), indent=2))


if __name__ == "__main__":
    main()
