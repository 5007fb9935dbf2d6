"""The rows of a comparison: scored folders, read and checked against each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from tcig.data.files import InputError
from tcig.data.records import Pair, RunRecord, read_run
from tcig.eval.iou import REDUCTIONS, Samples
from tcig.eval.score_records import Score, read_scores, samples_of

AnyRow = TypeVar("AnyRow")
Ignore = Literal["none", "dropped"]
"""Whether pixels of the objects that the filter dropped count, or not at all."""
Independence = Literal["independent", "guide", "unknown"]
"""Whether a judge is independent of what generated the images that it scores."""
HEADLINE = "iou_image"
"""The reduction of tests and shares: it has a value per sample."""
CEILING = "real"
"""The photographs' row, shown with the dropped objects counted and ignored: how far the judge can
agree with the truth."""
ORACLES = ("paste",)
"""Rows that read the truth: they check the pipeline and are not methods."""
FLOOR = "empty"
"""A grey image."""
OWN = ("tcig-robust", "tcig-robust-stage1", "direct-guidance-robust")
"""Rows that no paper has: this project's own, marked in the table."""
GUIDES = ("guide", "deeplabv3_resnet101")
"""Judges that guide TCIG: their rows stand below those of the independent ones."""
GUIDE = "guide "
"""Prefix of the names of a run's weights that are guides."""


def is_method(row: str) -> bool:
    """Returns whether a row is compared with others: it is not a ceiling, floor or oracle."""
    return row not in (CEILING, FLOOR, *ORACLES)


class Row(NamedTuple):
    """A folder's images under one judge."""

    folder: Path
    score: Score
    samples: Samples
    """Counts in the order of `score.samples`."""
    ignore: Ignore
    run: RunRecord | None
    """None for a folder of images from elsewhere."""
    images: dict[Pair, str]
    """SHA-256 of each image that was scored."""
    metrics: list[dict[str, float | None]] | None
    """What `tcig quality` measured of each sample's label map; None without it."""
    suffix: str = ""
    """Distinguishes rows of the same name: the run's hash, or the folder."""

    @property
    def name(self) -> str:
        """Name of the row."""
        return self.score.row

    @property
    def judge(self) -> str:
        """Name of the judge."""
        return self.score.judge

    @property
    def label(self) -> str:
        """The name, with the suffix."""
        return f"{self.name} ({self.suffix})" if self.suffix else self.name

    @property
    def is_method(self) -> bool:
        """Whether it is compared with others: it is not a ceiling, floor or oracle."""
        return is_method(self.name)

    @property
    def layouts(self) -> list[str]:
        """The layout of each sample."""
        return [layout for layout, _ in self.score.samples]

    @property
    def independence(self) -> Independence:
        """Whether the judge's own network guided the images, as far as the run's record says.

        Identities of judges from outside cannot be compared with those of guides: where there are
        guides it is unknown.
        """
        if self.run is None:
            return "unknown"
        weights = self.run.spec.weights
        guides = {identity for part, identity in weights.items() if part.startswith(GUIDE)}
        if self.score.identity in guides:
            return "guide"
        return "independent" if not guides or self.score.kind == "built-in" else "unknown"

    @property
    def guided(self) -> bool:
        """Whether the judge's own network guided the images."""
        return self.independence == "guide"

    def value_of(self, name: str = HEADLINE) -> np.ndarray:
        """Returns a reduction's value per sample, (N,), NaN where there is none."""
        return REDUCTIONS[name](self.samples)


def read_rows(folders: Sequence[Path], ignore: Ignore) -> list[Row]:
    """Reads a row per folder and judge: independent judges first, folders in their order.

    Args:
        folders: folders of scored images, or of such folders; one named twice counts once.
        ignore: for all rows; the row `real` is given both ways.

    Raises:
        InputError: a folder without scores, rows of different manifests, or rows of one judge
            under different weights or score sizes.
    """
    scored = {}
    for folder in folders:
        places = [folder, *sorted(folder.glob("*"))]
        found = {path.resolve(): None for path in places if any(path.glob("scores/*/score.json"))}
        if not found:
            if not folder.is_dir():
                what = "a file" if folder.exists() else "not there"
                raise InputError(f"{folder} is {what}: give a folder of scored images.")
            raise InputError(f"{folder} holds no scores: run `tcig score` on its images first.")
        scored |= found
    rows = []
    for folder in scored:
        run = read_run(folder)
        for score, records in read_scores(folder):
            images = {(each["layout"], each["sample"]): each["image_sha256"] for each in records}
            metrics = [each["metrics"] for each in records if "metrics" in each]
            metrics = metrics if len(metrics) == len(records) else None
            for way in ("none", "dropped") if score.row == CEILING else (ignore,):
                samples = samples_of(records, way)
                rows.append(Row(folder, score, samples, way, run, images, metrics))
    check_alike(rows)
    rows = _with_suffixes(rows)
    judges = list(dict.fromkeys(row.judge for row in rows))
    return sorted(rows, key=lambda row: (row.judge in GUIDES, judges.index(row.judge)))


def judged_by(rows: Sequence[AnyRow], judge: str) -> list[AnyRow]:
    """Returns the rows of one judge, named as in the table or as path/to/file.py:Class.

    Args:
        rows: of scored folders, or of a result.
        judge: its name.

    Raises:
        InputError: it scored none of them.
    """
    name = judge.rpartition(":")[2]
    chosen = [row for row in rows if row.judge == name]
    if not chosen:
        judges = ", ".join(dict.fromkeys(row.judge for row in rows))
        raise InputError(f"no row was scored by {judge!r}; available: {judges}.")
    return chosen


def _with_suffixes(rows: Sequence[Row]) -> list[Row]:
    """Adds the run's hash to rows of one name: an edited method, other options."""
    folders: dict[str, dict[Path, str]] = {}
    for row in rows:
        short = row.folder.name
        if row.run:
            short = short.removeprefix(f"{row.run.spec.method}-")
        folders.setdefault(row.name, {})[row.folder] = short
    for named in folders.values():
        if len(set(named.values())) < len(named):
            named.update((folder, str(folder)) for folder in named)
    several = {name: named for name, named in folders.items() if len(named) > 1}
    return [row._replace(suffix=several.get(row.name, {}).get(row.folder, "")) for row in rows]


def check_alike(rows: Sequence[Row]) -> None:
    """Checks that the rows can stand in one table.

    Raises:
        InputError: see `read_rows`.
    """
    for judge in dict.fromkeys(row.judge for row in rows):
        scores = [row.score for row in rows if row.judge == judge]
        for field in ("identity", "score_size"):
            values = dict.fromkeys(str(getattr(score, field)) for score in scores)
            if len(values) > 1:
                raise InputError(
                    f"the rows of the judge {judge} differ in {field} ({' and '.join(values)}): "
                    "score them again alike."
                )
    manifests = {row.score.manifest[:8] for row in rows}
    if len(manifests) > 1:
        raise InputError(
            f"the rows are of different layouts (manifests {', '.join(sorted(manifests))}): a "
            "table compares methods on the same ones."
        )
