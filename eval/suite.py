"""Measures the shipped miniature models against their targets, on the validation split.

    python -m tcig.eval.suite --out results/mini
    python -m tcig.eval.suite vae vqgan --out results/mini

Writes the figures into the models' cards, contact sheets into OUT, and OUT/suite.md from all cards.
A card's `remarks` are written by hand: what falls short, why, what to try; training drops them.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate

from tcig.data.files import write_whole
from tcig.eval import miniatures, steered
from tcig.eval.miniatures import Figure
from tcig.models.mini import WEIGHTS

MEASURES: dict[str, Callable[[Path], dict[str, Figure]]] = {
    "judge": miniatures.judge,
    "guide": miniatures.guide,
    "vae": miniatures.vae,
    "vqgan": miniatures.vqgan,
    "stable-diffusion": miniatures.text_to_image,
    "stable-diffusion-inpainting": miniatures.inpainting,
    "t2i-adapter": steered.adapter,
}
CLIP_TARGETS = {"to_text": 0.75, "to_image": 0.75, "zero_shot": 0.90}
TARGETS = {
    "guide": {"miou": 0.75},
    "guide-animals": {"miou": 0.75},
    "guide-objects": {"miou": 0.75},
    "clip": CLIP_TARGETS,
    "clip-score": CLIP_TARGETS,
}
"""For figures that a card already holds from the end of training, over the validation split."""
MEANING = {
    "miou": "mIoU over the classes that it knows, 128 scenes",
    "to_text": "caption retrieval top-1 of 200, image to text",
    "to_image": "caption retrieval top-1 of 200, text to image",
    "zero_shot": "class of 200 single objects",
}


PAGE = """\
# The miniature models on held-out scenes

This page shows what each miniature model reaches on the validation split, and its target. The judge
is `miniature`. `python -m tcig.eval.suite --out results/mini` measures it again.

{table}"""


def page(cards: list[dict]) -> str:
    """The table under a heading that explains it."""
    return PAGE.format(table=table(cards))


def figures(card: dict) -> dict[str, Figure]:
    """The figures of a card that have a target, and those that were measured."""
    held = {
        name: Figure(card["held_out"][name], target, MEANING[name])
        for name, target in TARGETS.get(card["model"], {}).items()
    }
    measured = {name: Figure(**values) for name, values in card.get("measured", {}).items()}
    return held | measured


def table(cards: list[dict]) -> str:
    """Every figure beside its target, and the cards' remarks, as Markdown."""
    rows = [
        (card["model"], figure.how, f"{figure.value:.3f}", *_verdict(figure))
        for card in cards
        for figure in figures(card).values()
    ]
    headers = ("model", "metric", "reached", "target", "")
    remarks = [f"- {card['model']}: {card['remarks']}" for card in cards if "remarks" in card]
    reached = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    return "\n".join([reached, "", *remarks]).strip() + "\n"


def _verdict(figure: Figure) -> tuple[str, str]:
    if figure.target is None:
        return "", ""
    missing = figure.target - figure.value
    return f"{figure.target:.2f}", "reached" if missing <= 0 else f"missed by {missing:.3f}"


def main() -> None:
    """Measures the named models, or all that are shipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="model", help=f"any of {', '.join(MEASURES)}")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names = sorted(path.stem for path in WEIGHTS.glob("*.json"))
    cards = {name: json.loads((WEIGHTS / f"{name}.json").read_text()) for name in names}
    unknown = set(options.models) - (set(MEASURES) & set(cards))
    if unknown:
        parser.error(
            f"nothing to measure of {', '.join(sorted(unknown))}: not shipped, or no model"
        )
    for name, measure in MEASURES.items():
        if name in cards and name in (options.models or cards):
            measured = measure(options.out)
            cards[name]["measured"] = {key: figure._asdict() for key, figure in measured.items()}
            write_whole(WEIGHTS / f"{name}.json", json.dumps(cards[name], indent=2) + "\n")
            print(table([cards[name]]))
    write_whole(options.out / "suite.md", page(list(cards.values())))


if __name__ == "__main__":
    main()
