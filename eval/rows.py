"""Reads scored folders and makes a result of them: every estimate is computed here, once."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from tcig.data.files import InputError
from tcig.data.records import Pair, RunRecord, read_run, run_rows
from tcig.eval.comparison import GUIDES, check_alike, compared
from tcig.eval.iou import NAMES, Samples, summary, values_of
from tcig.eval.provenance import provenance
from tcig.eval.records import (
    FolderQuality,
    Score,
    read_quality,
    read_scores,
    samples_of,
)
from tcig.eval.results import (
    CEILING,
    HEADLINE,
    VALUED,
    Drawn,
    Estimate,
    Ignore,
    Independence,
    Judged,
    Result,
    ResultRow,
    Scorers,
)
from tcig.eval.statistics import Ratio, by_layout, interval, mean_of, parts

AnyRow = TypeVar("AnyRow")
GUIDE = "guide "
"""Prefix of the names of a run's weights that are guides."""


class Row(NamedTuple):
    """A folder's images under one judge."""

    folder: Path
    score: Score
    images: dict[Pair, str]
    """SHA-256 of each image that was scored."""
    metrics: list[dict[str, float | None] | None]
    """What `tcig quality` measured of each sample's label map; None without it."""
    samples: Samples
    """Counts in the order of `score.samples`."""
    ignore: Ignore
    run: RunRecord | None
    """None for a folder of images from elsewhere."""

    @property
    def judge(self) -> str:
        """Name of the judge."""
        return self.score.judge

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

    def value_of(self, name: str = HEADLINE) -> np.ndarray:
        """Returns the values of a reduction of `tcig.eval.iou.NAMES`, NaN where there is none."""
        return values_of(self.samples, name)


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
            metrics = [each.get("metrics") for each in records]
            for way in ("none", "dropped") if score.row == CEILING else (ignore,):
                samples = samples_of(records, way)
                rows.append(Row(folder, score, images, metrics, samples, way, run))
    check_alike([row.score for row in rows], ("identity", "score_size"))
    manifests = {row.score.manifest[:8] for row in rows}
    if len(manifests) > 1:
        raise InputError(
            f"the rows are of different layouts (manifests {', '.join(sorted(manifests))}): a "
            "table compares methods on the same ones."
        )
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


def result_of(folders: Sequence[Path], ignore: Ignore, command: Sequence[str] = ()) -> Result:
    """Returns the result of scored folders; see `read_rows` for the arguments and errors.

    Args:
        folders: folders of scored images, or of such folders.
        ignore: see `read_rows`.
        command: that makes the result.
    """
    return build_result(read_rows(folders, ignore), command)


def build_result(rows: Sequence[Row], command: Sequence[str] = ()) -> Result:
    """Returns the result of rows, in their order."""
    folders = {row.folder: row for row in rows}  # each is read once for all of its judges
    drawn = {folder: _drawn(row) for folder, row in folders.items()}
    quality = {folder: _quality(folder) for folder in folders}
    results = [
        ResultRow(
            row=row.score.row,
            judged=Judged(
                **row.score.model_dump(include=Judged.model_fields.keys()),
                ignore=row.ignore,
                guided=row.independence == "guide",
                independence=row.independence,
            ),
            drawn=drawn[row.folder],
            failed=row.score.failed,
            samples=list(row.score.samples),
            values={name: row.value_of(name).tolist() for name in VALUED},
            suffix=suffix,
            **_estimates(row, *quality[row.folder]),
        )
        for row, suffix in zip(rows, _suffixes(rows), strict=True)
    ]
    made, manifest = provenance(command), rows[0].score.manifest
    compared_rows = compared(results, _by_independent(rows, results))
    return Result(made=made, manifest=manifest, rows=compared_rows)


def _by_independent(rows: Sequence[Row], results: Sequence[ResultRow]) -> list[ResultRow | None]:
    """Returns each row's images under the first judge that is known not to have guided them."""
    found: dict[tuple[Path, str], ResultRow] = {}
    for row, result in zip(rows, results, strict=True):
        known = row.score.kind == "built-in" or row.independence == "independent"
        if row.judge not in GUIDES and known and row.independence != "guide":
            found.setdefault((row.folder, row.ignore), result)
    return [found.get((row.folder, row.ignore)) for row in rows]


def _suffixes(rows: Sequence[Row]) -> list[str]:
    """Returns what tells rows of one name apart: the run's hash, or the folder."""
    folders: dict[str, dict[Path, str]] = {}
    for row in rows:
        short = row.folder.name
        if row.run:
            short = short.removeprefix(f"{row.run.spec.method}-")
        folders.setdefault(row.score.row, {})[row.folder] = short
    for named in folders.values():
        if len(named) == 1:
            named.update(dict.fromkeys(named, ""))
        elif len(set(named.values())) < len(named):
            named.update((folder, str(folder)) for folder in named)
    return [folders[row.score.row][row.folder] for row in rows]


def _drawn(row: Row) -> Drawn | None:
    """Returns how a row's images were generated; None for a folder of images from elsewhere."""
    if row.run is None:
        return None
    records = [each for each in run_rows(row.folder) if not each["error"]]

    def values(name: str) -> list:
        return [each[name] for each in records if each.get(name) is not None]

    return Drawn(
        spec=row.run.spec,
        packages=records[-1].get("versions", {}) if records else {},
        devices=sorted(set(filter(None, values("device")))),
        seconds=round(float(np.mean(values("seconds"))), 4) if values("seconds") else None,
        peak_mib=max(values("peak_mib"), default=None),
        peak_device_mib=max(values("peak_device_mib"), default=None),
    )


def _quality(folder: Path) -> tuple[FolderQuality | None, str | None]:
    """Returns the quality of a folder, or why it cannot be used."""
    try:
        return read_quality(folder), None
    except InputError as error:
        return None, str(error)


def _estimates(row: Row, quality: FolderQuality | None, stale: str | None) -> dict:
    """Returns a row's `figures`, `scorers` and `stale`."""
    figures = {
        name: estimate(row.value_of(name), row.layouts, parts(row.samples, name)) for name in NAMES
    }
    if quality is None:
        return {"figures": figures, "stale": stale}
    header = quality.quality
    same = quality.images == row.images and header.manifest == row.score.manifest
    if not same or None in row.metrics:
        stale = (
            f"quality of {row.folder} is not of the images and scores that are there now: "
            f"run `tcig quality {row.folder} --layouts MANIFEST` again."
        )
        return {"figures": figures, "stale": stale}
    for name, (values, layouts) in quality.values.items():
        figures[name] = estimate(values, layouts)
    for name in dict.fromkeys(name for each in row.metrics for name in each):
        if row.ignore == "none":  # what a judge sees of dropped objects counts there
            values = np.array([each.get(name) for each in row.metrics], float)
            figures[name] = estimate(values, row.layouts)
    for name, each in header.distances.items():
        figures[name] = Estimate(mean=each.value, std=each.std, n=each.n, low=None, high=None)
    scorers = Scorers(
        scorer=header.scorer_identity,
        features=header.features_identity,
        scored_by=header.scorer,
        seen_by=header.features,
        clip_guided=bool(row.run) and header.scorer_identity in row.run.spec.weights.values(),
    )
    return {"figures": figures, "scorers": scorers}


def estimate(values: np.ndarray, layouts: Sequence[str], ratio: Ratio | None = None) -> Estimate:
    """Returns the estimate of the mean of the values that are not NaN.

    Args:
        values: (N,), (N, M), or of no sample in particular.
        layouts: the layout of each sample, N ids.
        ratio: the samples' parts of the estimate, if it is not the mean of samples' values.
    """
    low, high = interval(by_layout(mean_of(values) if ratio is None else ratio, layouts))
    return Estimate(**summary(values)._asdict(), low=low, high=high)
