"""Scores a folder of images: segments each again and counts it against its layout.

While the judge works on a batch, the next is opened and the one before is counted and written.
`tcig.eval.score_records` says what is kept; beside it `sheet.png` shows the first samples.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from tcig.data.files import sha256
from tcig.data.layout import Layout
from tcig.data.manifest import read_manifest
from tcig.data.masks import encode_label_map, load_label_map, resize_nearest
from tcig.data.pictures import open_picture
from tcig.eval.grids import write_sheet
from tcig.eval.images import ImageFolder, SampleImage, Sizes, find_images, profile_of
from tcig.eval.iou import Samples, class_iou, confusion
from tcig.eval.judges import Judge, Segmentation, check_judges, guarded, load_judge
from tcig.eval.label_maps import LabelMaps
from tcig.eval.score_records import Kind, Score, ScoreRecord, label_path, open_scores, sparse
from tcig.models.devices import PLAIN, set_tf32

SHEET = 8
"""Samples on the contact sheet."""

Item, Value = TypeVar("Item"), TypeVar("Value")


class RemoteJudge(NamedTuple):
    """A judge that workers have loaded."""

    identity: str
    kind: Kind


class JudgedSample(NamedTuple):
    """What a judge saw in an image."""

    record: ScoreRecord
    label_map: bytes
    """Palette PNG."""


Spread = Callable[[Iterable[Sequence[SampleImage]]], Iterator[list[JudgedSample]]]
"""Has batches judged elsewhere; in any order."""


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
        InputError: see `score_images`; the judge, profile or manifest is unknown or unusable.
    """
    folder, layouts = Path(folder), Path(layouts)
    PLAIN.check_named()
    settings = profile_of(folder, profile)
    _, of_manifest = read_manifest(layouts)
    sizes = Sizes(settings.size, settings.score_size, resize)
    if label_maps:
        maps = LabelMaps(label_maps)
        loaded = [(maps.name, maps)]
    else:
        check_judges(judges or settings.judges)
        loaded = map(load_judge, judges or settings.judges)
    manifest = sha256(layouts)
    return [
        score_images(folder, of_manifest, manifest, judge, sizes, name, limit) for judge in loaded
    ]


def score_images(
    folder: Path,
    layouts: Sequence[Layout],
    manifest: str,
    judge: tuple[str, Judge | LabelMaps | RemoteJudge],
    sizes: Sizes,
    row: str | None = None,
    limit: int | None = None,
    spread: Spread | None = None,
) -> Path:
    """Scores a folder's images; records of the same image, judge and manifest are kept.

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
    images = find_images(folder, layouts, manifest, limit)
    name, network = judge
    if isinstance(network, Judge) and network.kind == "plug-in":
        network = guarded(name, network)
    score = Score(
        row=row or images.row,
        judge=name,
        identity=network.identity,
        kind=network.kind,
        manifest=manifest,
        image_size=sizes.image,
        score_size=sizes.score,
        resized=sizes.resize,
        failed=images.failed,
        samples=images.pairs,
        finished=False,
    )
    store, total = open_scores(folder, score), len(score.samples)
    place = store.folder
    (place / "labels").mkdir(parents=True, exist_ok=True)
    set_tf32(False)  # whatever the profile allows the networks that generate
    with store:
        # label maps made elsewhere may be others by now
        known = {} if score.kind == "label maps" else store.done
        number, title = len(known.keys() & set(score.samples)), f"{score.row}, judge {name}"

        def commit(judged: Sequence[JudgedSample]) -> int:
            for record, label_map in judged:
                path = label_path(place, record["layout"], record["sample"])
                store.add(record, {path: label_map})
            return len(judged)

        batches = images.changed(known)
        if spread:
            commits = map(commit, spread(batches))
        else:
            segmented = segment_batches(network, sizes, batches)
            commits = ahead(lambda found: commit(count_batch(sizes, *found)), segmented)
        with tqdm(total=total, initial=number, desc=title, disable=None) as bar:
            for count in commits:
                bar.update(count)
        _write_sheet(place, images)
        store.save_header(score.model_copy(update={"finished": True}))
    return place


def segment_batches(
    judge: Judge | LabelMaps, sizes: Sizes, batches: Iterable[Sequence[SampleImage]]
) -> Iterator[tuple[Sequence[SampleImage], Sequence[Segmentation]]]:
    """Yields batches of images with their segmentations; opens the next batches meanwhile.

    Raises:
        InputError: an image cannot be read, see `open_image`.
    """
    opened = ahead(lambda batch: (batch, [image.open(sizes) for image in batch]), batches)
    for batch, images in opened:
        if isinstance(judge, LabelMaps):
            yield batch, judge.read([image.pair for image in batch], sizes.image)
        else:
            yield batch, judge.segment(images)


def judge_batch(judge: Judge, sizes: Sizes, batch: Sequence[SampleImage]) -> list[JudgedSample]:
    """Returns what a judge sees in a batch of images, counted against their layouts."""
    return count_batch(sizes, *next(segment_batches(judge, sizes, [batch])))


def ahead(work: Callable[[Item], Value], items: Iterable[Item], most: int = 2) -> Iterator[Value]:
    """Maps like `map`, but in a thread that works on up to `most` items before they are asked for.

    Work that has begun is finished, also where the consumer, `items` or other work raises.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(1) as thread:
        for item in items:
            waiting.append(thread.submit(work, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def count_batch(
    sizes: Sizes, batch: Sequence[SampleImage], segmentations: Sequence[Segmentation]
) -> list[JudgedSample]:
    """Counts the pixels of a batch's segmentations against its layouts."""
    maps = np.stack([resize_nearest(each.labels, sizes.score) for each in segmentations])
    truths = np.stack([image.layout.class_map(sizes.score) for image in batch])
    judged = []
    for image, found, truth, labels, counts in zip(
        batch, segmentations, truths, maps, confusion(truths, maps), strict=True
    ):
        record = {
            "layout": image.layout.id,
            "sample": image.sample,
            "classes": list(image.layout.classes),
            "confusion": sparse(counts),
            "confusion_ignoring_dropped": sparse(counts),
            "image_sha256": image.sha256,
        }
        if image.layout.dropped:
            ignored = image.layout.dropped_map(sizes.score) > 0
            record["confusion_ignoring_dropped"] = sparse(confusion(truth, labels, ignored))
        if found.instances is not None:
            record["instances"] = [asdict(instance) for instance in found.instances]
        judged.append(JudgedSample(record, encode_label_map(labels)))
    return judged


def _write_sheet(place: Path, images: ImageFolder) -> None:
    """Writes the contact sheet of the first samples: image, class map, label map, IoU by class."""
    columns = []
    for layout, sample in images.samples[:SHEET]:
        image = open_picture(images.path((layout.id, sample))).convert("RGB")
        labels = load_label_map(label_path(place, layout.id, sample))
        counts = confusion(layout.class_map(len(labels)), labels)
        (ious,) = class_iou(Samples.of([counts], [layout.classes]))
        columns.append((layout, image, labels, {index: ious[index] for index in layout.classes}))
    write_sheet(place / "sheet.png", columns)
