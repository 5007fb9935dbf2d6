"""Published figures, cited and never computed here: `results/published.csv`.

MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113, Table 2 (judge Mask2Former); TCIG, arXiv
2403.01212, Table 1: neither gives its IoU's formula nor what its ± runs over. Beside them, figures
of other protocols, with which no row measured here is comparable.
"""

import csv
from importlib.resources import files
from typing import Literal, NamedTuple


class Published(NamedTuple):
    """One cited figure, its numbers as printed."""

    group: Literal["table", "near"]
    """Of the two tables that are reproduced, or of another protocol."""
    row: str
    """In `table`, as rows are called here."""
    metric: str
    mean: str
    std: str
    paper: str
    table: str
    protocol: str
    judge: str
    source: str
    status: Literal["verified", "secondary", "derived"]
    """Read in the primary source; only in another; or computed from what that prints."""
    note: str


def published() -> list[Published]:
    """Returns all figures, in the file's order."""
    with (files("tcig.results") / "published.csv").open(encoding="utf-8") as file:
        return [Published(**record) for record in csv.DictReader(file)]


def cited() -> list[Published]:
    """Returns the figures of the two tables that are reproduced."""
    return [figure for figure in published() if figure.group == "table"]
