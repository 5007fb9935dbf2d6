"""Ships a trained model: its weights in fp16 and a card that says where they come from."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from tcig.data.files import sha256, write_whole
from tcig.models.mini.loop import Trainer

VALIDATION_SCENES = 128
LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "open_clip_torch")

GLYPHS = {
    "noto": "Noto Color Emoji (OFL-1.1)",
    "fluent": "Fluent Emoji (MIT)",
    "twemoji": "Twemoji (CC-BY-4.0)",
}


def write_card(trainer: Trainer, folder: Path) -> dict:
    """Writes the averaged weights in fp16 below `folder` and `NAME.json`; returns the card.

    The held-out figures are those of the weights as shipped, on the validation split.
    """
    recipe = trainer.recipe
    model = recipe.build()
    averaged = trainer.average.module.state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in averaged.items()}
    model.load_state_dict(half)
    model.eval()
    figures = recipe.figures(model, "validation", VALIDATION_SCENES)
    folder.mkdir(exist_ok=True)
    glyphs = ", ".join(GLYPHS[style] for style in dict.fromkeys(recipe.data["styles"]))
    files = recipe.ship(model.half(), folder)
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
        "held_out": {"split": "validation", **figures},
        "licence": f"Apache-2.0; trained on drawings of {glyphs}",
    }
    write_whole(folder / f"{recipe.name}.json", json.dumps(card, indent=2) + "\n")
    return card
