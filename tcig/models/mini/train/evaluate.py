"""Measures the shipped miniature models against their targets, on the validation split.

    python -m tcig.models.mini.train.evaluate --out results/mini
    python -m tcig.models.mini.train.evaluate vae vqgan --out results/mini

It writes the metrics into the models' cards, pictures into OUT, and OUT/suite.md from all cards. A
card's `remarks` are written by hand: what falls short, why, what to try; training drops them.
"""

import argparse
import json
from pathlib import Path

from tabulate import tabulate

from tcig.data.files import write_whole
from tcig.models import mini
from tcig.models.mini.train.measures import MEASURES, Metric

RETRIEVAL = {
    "to_text": (0.75, "caption retrieval top-1 of 200, image to text"),
    "to_image": (0.75, "caption retrieval top-1 of 200, text to image"),
    "zero_shot": (0.90, "class of 200 single objects"),
}
MIOU = {"miou": (0.75, "mIoU over the classes that it knows, 128 scenes")}
TARGETS = {
    **dict.fromkeys(("guide", "guide-animals", "guide-objects"), MIOU),
    **dict.fromkeys(("clip", "clip-score"), RETRIEVAL),
}
"""Target and description of held-out metrics that cards have from the end of training."""
PAGE = """\
# The miniature models on held-out scenes

This page shows what each miniature model reaches on the validation split, and its target. The judge
is `miniature`. `python -m tcig.models.mini.train.evaluate --out results/mini` measures it again.

{table}

{remarks}"""


def page(cards: list[dict]) -> str:
    """The Markdown page: every metric beside its target, and the cards' remarks."""
    rows = []
    for card in cards:
        targets = TARGETS.get(card["model"], {}).items()
        metrics = [Metric(card["held_out"][name], *values) for name, values in targets]
        metrics += [Metric(**values) for values in card.get("measured", {}).values()]
        rows += [(card["model"], m.how, f"{m.value:.3f}", *_verdict(m)) for m in metrics]
    headers = ("model", "metric", "reached", "target", "")
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    remarks = [f"- {card['model']}: {card['remarks']}" for card in cards if "remarks" in card]
    return PAGE.format(table=table, remarks="\n".join(remarks)).strip() + "\n"


def _verdict(metric: Metric) -> tuple[str, str]:
    if metric.target is None:
        return "", ""
    missing = metric.target - metric.value
    return f"{metric.target:.2f}", "reached" if missing <= 0 else f"missed by {missing:.3f}"


def main() -> None:
    """Measures the named models, or all that are shipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="model", help=f"any of {', '.join(MEASURES)}")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cards = {path.stem: json.loads(path.read_text()) for path in mini.WEIGHTS.glob("*.json")}
    if unknown := set(options.models) - (MEASURES.keys() & cards.keys()):
        parser.error(f"nothing to measure of {', '.join(sorted(unknown))}: unknown or not shipped")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, measure in MEASURES.items():
        if name in cards and name in (options.models or cards):
            metrics = measure(options.out)
            cards[name]["measured"] = {key: metric._asdict() for key, metric in metrics.items()}
            write_whole(mini.WEIGHTS / f"{name}.json", json.dumps(cards[name], indent=2) + "\n")
            print(json.dumps({name: cards[name]["measured"]}, indent=2))
    write_whole(options.out / "suite.md", page([cards[name] for name in sorted(cards)]))


if __name__ == "__main__":
    main()
