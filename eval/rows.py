"""The rows of a comparison: scored folders, read and checked against each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tcig.data.errors import InputError
from tcig.eval.images import RunRecord, read_run
from tcig.eval.iou import Samples
from tcig.eval.stored import Score, read_scores, samples_of

Ignore = Literal["none", "dropped"]
"""Whether pixels of the objects that the filter dropped count, or not at all."""
Independence = Literal["independent", "guide", "unknown"]
"""Of a judge, from what generated the images that it scores."""
CEILING = "real"
"""The photographs' row, shown with the dropped objects counted and ignored: how far the judge can
agree with the truth."""
ORACLES = ("paste",)
"""Rows that read the truth: they check the plumbing and are no method."""
FLOOR = "empty"
"""A grey image."""
OWN = ("tcig-robust", "tcig-robust-stage1", "direct-guidance-robust")
"""Rows that no paper has: this project's own, marked in the table."""
GUIDES = ("guide", "deeplabv3_resnet101")
"""Judges that guide TCIG: their rows stand below those of the independent ones."""
GUIDE = "guide "
"""Begins the names of a run's weights that are guides."""


class Row(NamedTuple):
    """A folder's images under one judge."""

    folder: Path
    score: Score
    samples: Samples
    """Counts in the order of `score.samples`."""
    ignore: Ignore
    run: RunRecord | None
    """None for a folder of images from elsewhere."""
    images: dict[tuple[str, int], str]
    """SHA-256 of each image that was scored."""
    told: str = ""
    """What tells it from another row of its name: the run's hash, or the folder."""

    @property
    def name(self) -> str:
        """Of the row."""
        return self.score.row

    @property
    def label(self) -> str:
        """Its name, and what tells it from another of that name."""
        return f"{self.name} ({self.told})" if self.told else self.name

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
        guides = {each for part, each in weights.items() if part.startswith(GUIDE)}
        if self.score.identity in guides:
            return "guide"
        return "independent" if not guides or self.score.kind == "built-in" else "unknown"

    @property
    def guided(self) -> bool:
        """Whether the judge's own network guided the images."""
        return self.independence == "guide"

    @property
    def is_method(self) -> bool:
        """Whether it is compared with others: no ceiling, floor or oracle."""
        return self.name not in (CEILING, FLOOR, *ORACLES)


def read_rows(folders: Sequence[Path], ignore: Ignore) -> list[Row]:
    """A row per folder and judge: independent judges first, folders in their order.

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
    for place in scored:
        run = read_run(place)
        for score, records in read_scores(place):
            images = {(each["layout"], each["sample"]): each["image_sha256"] for each in records}
            for each in ("none", "dropped") if score.row == CEILING else (ignore,):
                rows.append(Row(place, score, samples_of(records, each), each, run, images))
    check_alike(rows)
    rows = _told_apart(rows)
    judges = list(dict.fromkeys(row.score.judge for row in rows))
    return sorted(rows, key=lambda r: (r.score.judge in GUIDES, judges.index(r.score.judge)))


def judged_by(rows: Sequence[Row], judge: str) -> list[Row]:
    """The rows of one judge, given by its name in the table, or as path/to/file.py:Class.

    Raises:
        InputError: it scored none of them.
    """
    name = judge.rpartition(":")[2]
    found = [row for row in rows if row.score.judge == name]
    if not found:
        there = ", ".join(dict.fromkeys(row.score.judge for row in rows))
        raise InputError(f"no row was scored by {judge!r}; there are {there}.")
    return found


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """The rows, those of one name with the hash of their run: an edited method, other options."""
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
    return [row._replace(told=several.get(row.name, {}).get(row.folder, "")) for row in rows]


def check_alike(rows: Sequence[Row]) -> None:
    """Whether the rows can stand in one table.

    Raises:
        InputError: see `read_rows`.
    """
    for judge in dict.fromkeys(row.score.judge for row in rows):
        for field in ("identity", "score_size"):
            judged = [row.score for row in rows if row.score.judge == judge]
            values = dict.fromkeys(str(getattr(score, field)) for score in judged)
            if len(values) > 1:
                shown = " and ".join(values)
                raise InputError(
                    f"the rows of the judge {judge} differ in {field} ({shown}): score them "
                    "again alike."
                )
    manifests = {row.score.manifest[:8] for row in rows}
    if len(manifests) > 1:
        raise InputError(
            f"the rows are of different layouts (manifests {', '.join(sorted(manifests))}): a "
            "table compares methods on the same ones."
        )
