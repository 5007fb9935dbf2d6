"""The miniature UNet's training step in float32, in bfloat16, and compiled.

    python tests/benchmarks/unet_step.py [--rounds 5]

Each way takes its turn of five steps, so that the machine's drift hits all; one turn before the
first is not counted. Prints medians as Markdown. Compiling takes minutes the first time.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from tcig.models.mini.train import data
from tcig.models.mini.train.recipes import TextToImageRecipe
from tcig.models.mini.train.trainer import Trainer

WAYS = {"float32": (False, False), "bfloat16": (True, False), "bfloat16, compiled": (True, True)}
"""Name -> (bf16, compiled)."""
STEPS = 5


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    data.POOL_SIZE = 256
    with tempfile.TemporaryDirectory() as name:
        recipe = TextToImageRecipe()
        recipe.prepare(Path(name))
        trainers = {way: Trainer(recipe, Path(name), bf16) for way, (bf16, _) in WAYS.items()}
        for way, (_, compiled) in WAYS.items():
            if compiled:
                trainers[way].forward = torch.compile(trainers[way].forward)
        seconds = {way: [] for way in WAYS}
        for _ in range(1 + rounds):
            for way, trainer in trainers.items():
                started = time.perf_counter()
                for _ in range(STEPS):
                    trainer.advance(0)
                seconds[way].append((time.perf_counter() - started) / STEPS)
    print("| way | s a step | images/s |\n|---|---|---|")
    for way, taken in seconds.items():
        median = statistics.median(taken[1:])
        print(f"| {way} | {median:.2f} | {recipe.batch / median:.0f} |")


if __name__ == "__main__":
    main()
