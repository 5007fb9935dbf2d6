"""The miniature UNet's training step in float32, in bfloat16, and compiled.

    python tests/benchmarks/unet_step.py [--rounds 5]

Each way takes its turn of five steps, so that the machine's drift hits all; one turn before the
first is not counted. Prints medians as Markdown. Compiling takes minutes the first time.
"""

import argparse
import tempfile
from pathlib import Path

from timing import median_seconds, print_table

from tcig.models.mini.loop import Trainer
from tcig.models.mini.recipes import diffusion

WAYS = {"float32": (False, False), "bfloat16": (True, False), "bfloat16, compiled": (True, True)}
"""Name -> (bf16, compiled)."""
STEPS = 5


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    diffusion.SCENES = diffusion.PORTRAITS = 256
    with tempfile.TemporaryDirectory() as name:
        recipe = diffusion.TextToImage()
        recipe.prepare(Path(name))
        trainers = {
            way: Trainer(recipe, Path(name), bf16, compiled=compiled)
            for way, (bf16, compiled) in WAYS.items()
        }
        steps = {
            way: lambda t=trainer: [t.advance(0) for _ in range(STEPS)]
            for way, trainer in trainers.items()
        }
        seconds = median_seconds(steps, rounds)
    rates = {way: taken / STEPS for way, taken in seconds.items()}
    print_table(
        [
            {"way": way, "s a step": rate, "images/s": round(recipe.batch / rate)}
            for way, rate in rates.items()
        ]
    )


if __name__ == "__main__":
    main()
