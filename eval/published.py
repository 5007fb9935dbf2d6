"""The published IoU figures, cited and never computed here.

Sources: MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113, Table 2 (judge Mask2Former); TCIG,
arXiv 2403.01212, Table 1. Neither gives its IoU's formula nor what its ± runs over.
"""

import csv
from importlib.resources import files
from typing import NamedTuple


class Published(NamedTuple):
    """One cited figure: `mean` and `std` as printed, to two decimals."""

    row: str
    mean: str
    std: str
    paper: str
    table: str
    note: str


def published() -> list[Published]:
    """All figures of `results/published.csv`, in its order."""
    with (files("tcig.results") / "published.csv").open(encoding="utf-8") as file:
        return [Published(**record) for record in csv.DictReader(file)]
