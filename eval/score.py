"""Scores a folder of images: segments each again and counts it against its layout.

While the judge looks at a batch, the next is opened, the one before it counted and written. What is
kept: `tcig.eval.stored`; beside it `sheet.png`, a look at the first samples.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from tcig.data.files import read_file, sha256, sole_writer, write_whole
from tcig.data.layout import Layout, read_manifest
from tcig.data.pictures import sound_png, whole_png
from tcig.eval.ahead import ahead
from tcig.eval.images import find_images, open_image, profile_of
from tcig.eval.judges import Judge, Kind, PluginJudge, StagedJudge, check_judges, load_judge
from tcig.eval.judging import Seen, Shown, Sizes, counted, prepared
from tcig.eval.label_maps import LabelMaps
from tcig.eval.sheet import write_sheet
from tcig.eval.stored import Score, label_path, stored_rows
from tcig.models.devices import PLAIN, set_tf32

BATCH = 16
FLUSH = 1.0
"""Seconds of judging that a crash of the machine may take; one of the process takes none."""
SHEET = 8
"""Samples on the contact sheet."""

Spread = Callable[[Iterable[Sequence[Shown]]], Iterator[list[Seen]]]
"""Has batches judged elsewhere; in any order."""


class Identified(Protocol):
    """A judge, or what stands for one that is elsewhere."""

    identity: str
    kind: Kind


def score_folder(
    folder: Path,
    layouts: Path,
    judges: Sequence[str] = (),
    *,
    label_maps: Path | None = None,
    profile: str | None = None,
    name: str | None = None,
    limit: int | None = None,
    resize: bool = False,
) -> list[Path]:
    """Scores a folder of images, anyone's.

    Args:
        folder: LAYOUT-SAMPLE.png, samples counted from 0.
        layouts: the manifest that the images were made for.
        judges: by name, or path/to/file.py:Class; none: the profile's.
        label_maps: a folder of LAYOUT-SAMPLE.png with a label 0 to 20 at each pixel, in place of
            judges.
        profile: sizes and judges; None: the run's own, else `mini`.
        name: the row's name in the table; None: the run's method, or the folder's name.
        limit: the first so many layouts in the order of a hash of their ids; None: all that the run
            was asked for.
        resize: resize images of another size than the profile's instead of refusing them.

    Returns:
        The folder of each judge's scores.

    Raises:
        InputError: see `score_images`; no such judge, profile or manifest.
    """
    folder, layouts = Path(folder), Path(layouts)
    PLAIN.check_named()
    settled = profile_of(folder, profile)
    _, chosen = read_manifest(layouts)
    sizes = Sizes(settled.size, settled.score_size, resize)
    if label_maps:
        maps = LabelMaps(label_maps)
        loaded = [(maps.name, maps)]
    else:
        check_judges(judges or settled.judges)
        loaded = map(load_judge, judges or settled.judges)
    manifest = sha256(layouts)
    return [score_images(folder, chosen, manifest, judge, sizes, name, limit) for judge in loaded]


def score_images(
    folder: Path,
    layouts: Sequence[Layout],
    manifest: str,
    judge: tuple[str, Judge | Identified],
    sizes: Sizes,
    row: str | None = None,
    limit: int | None = None,
    spread: Spread | None = None,
) -> Path:
    """Scores a folder's images; rows of the same image, judge and manifest are kept.

    Args:
        folder: the images; `folder/scores/JUDGE` is written.
        layouts: of the manifest.
        manifest: its SHA-256.
        judge: its name and itself.
        sizes: of the images and of the comparison.
        row: the row's name in the table, instead of the run's method or the folder's name.
        limit: score the first so many layouts, instead of those that the run was asked for.
        spread: has the batches judged elsewhere, instead of by `judge` here.

    Returns:
        The folder of the scores.

    Raises:
        InputError: an image is missing, cannot be read or has another size, or another process
            scores the folder; what was scored before is kept.
    """
    found = find_images(folder, layouts, manifest, limit)
    pairs = found.pairs
    paths = {(layout.id, sample): folder / f"{layout.id}-{sample}.png" for layout, sample in pairs}
    hashes, doubtful = _read(paths, sizes.image)
    name, network = judge
    if isinstance(network, Judge) and not isinstance(network, StagedJudge):
        network = PluginJudge(name, network, network.identity)
    score = Score(
        row=row or found.row,
        judge=name,
        identity=network.identity,
        kind=network.kind,
        manifest=manifest,
        image_size=sizes.image,
        score_size=sizes.score,
        resized=sizes.resize,
        failed=found.failed,
        samples=tuple(hashes),
    )
    set_tf32(False)  # whatever the profile allows the networks that draw
    classes = {layout.id: list(layout.classes) for layout in layouts}
    place = folder / "scores" / name
    (place / "labels").mkdir(parents=True, exist_ok=True)
    with sole_writer(place):
        rows = {
            pair: kept
            for pair, kept in stored_rows(place, score).items()
            if score.kind != "label maps"
            and kept["image_sha256"] == hashes.get(pair, kept["image_sha256"])
            and kept["classes"] == classes.get(pair[0], kept["classes"])
            and whole_png(label_path(place, *pair))
        }
        pending = [pair for pair in pairs if (pair[0].id, pair[1]) not in rows]
        shown = [Shown(*pair, paths[pair[0].id, pair[1]]) for pair in pending]
        for each in shown:  # before the judge spends hours on the others
            if each.path in doubtful:
                open_image(each.path, sizes.image, sizes.resize)
        lines = place / "rows.jsonl"
        write_whole(lines, "".join(json.dumps(kept) + "\n" for kept in rows.values()))
        write_whole(place / "score.json", score.model_dump_json(indent=2) + "\n")
        batches = (shown[first : first + BATCH] for first in range(0, len(shown), BATCH))
        ious = {pair: kept["iou"] for pair, kept in rows.items()}
        flushed = time.monotonic()

        def keep(results: list[Seen]) -> int:
            nonlocal flushed
            for seen in results:
                pair = seen.row["layout"], seen.row["sample"]
                # one that a crash of the machine takes is made again, see `whole_png`
                write_whole(label_path(place, *pair), seen.labels, durable=False)
                file.write(json.dumps(seen.row | {"image_sha256": hashes[pair]}) + "\n")
                ious[pair] = seen.row["iou"]
            file.flush()
            if time.monotonic() > flushed + FLUSH:
                os.fsync(file.fileno())
                flushed = time.monotonic()
            return len(results)

        def prepare(batch: list[Shown]) -> tuple[list[Shown], Any]:
            return batch, prepared(network, sizes, batch)

        def finish(looked: tuple[list[Shown], Any]) -> int:
            batch, found = looked
            return keep(counted(sizes, batch, network.read(found)))

        with (
            lines.open("a", encoding="utf-8") as file,
            tqdm(total=len(pending), desc=f"{score.row}, judge {name}", disable=None) as bar,
        ):
            if spread:
                done = ahead(keep, spread(batches), "kept")
            else:
                ready = ahead(prepare, batches, "prepared")
                seen = ((batch, network.look(images)) for batch, images in ready)
                done = ahead(finish, seen, "counted")
            for number in done:
                bar.update(number)
            os.fsync(file.fileno())
        shown = [(layout, (layout.id, sample)) for layout, sample in pairs[:SHEET]]
        samples = [(one, paths[p], label_path(place, *p), ious[p]) for one, p in shown]
        write_sheet(place / "sheet.png", samples)
    return place


def _read(paths: dict[tuple[str, int], Path], size: int) -> tuple[dict, set[Path]]:
    """The images' SHA-256, and which may be others than `open_image` takes."""
    hashes, doubtful = {}, set()
    for pair, path in paths.items():
        content = read_file(path)
        hashes[pair] = hashlib.sha256(content).hexdigest()
        if not sound_png(content, size):
            doubtful.add(path)
    return hashes, doubtful
