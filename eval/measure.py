"""Measures a folder of images beside IoU: what `tcig.eval.quality` defines, sample by sample.

`tcig.eval.records` says what is kept.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
import torch
from tqdm import tqdm

from tcig.data.files import InputError
from tcig.data.layout import Layout
from tcig.data.masks import check_runs, decode, load_label_map
from tcig.data.records import Pair, read_header
from tcig.eval.features import ClipEncoder, Encoder
from tcig.eval.images import ImageFolder, SampleImage, Sizes, find_images
from tcig.eval.quality import (
    boundary_iou,
    bounding_square,
    clip_score,
    diversity,
    fid,
    kid,
    recall_iou,
)
from tcig.eval.records import (
    Quality,
    QualityRecord,
    Score,
    ScoreRecord,
    SetDistance,
    features_path,
    label_path,
    open_quality,
    open_scores,
    read_features,
    read_scores,
)
from tcig.models.devices import set_tf32

UNMEASURED = {"distances": None, "refused": {}, "diversity": {}}
"""The fields of `Quality` that are of all images at once."""
Photographs = Callable[[Sequence[Layout]], torch.Tensor]
"""Layouts -> features of their photographs, (N, D), by the encoder `Networks.features`."""


class Networks(NamedTuple):
    """The networks of the quality metrics."""

    scorer: ClipEncoder
    prefix: str
    """Before every text."""
    features: Encoder


def measure_folder(
    folder: Path,
    layouts: Sequence[Layout],
    manifest: str,
    networks: Networks,
    sizes: Sizes,
    photographs: Photographs | None = None,
    limit: int | None = None,
) -> Quality:
    """Measures a folder's images; what was measured of the same image and networks is kept.

    Args:
        folder: the images and their scores, whose label maps are compared too; `folder/quality` is
            written.
        layouts: of the manifest.
        manifest: its SHA-256.
        networks: of the metrics.
        sizes: of the images; the scores have their own.
        photographs: None where there are none to compare with.
        limit: the first so many layouts, instead of those that the run was asked for.

    Raises:
        InputError: an image or a photograph is missing, cannot be read or has another size; scores
            are of other images; another process measures the folder. What was measured is kept.
    """
    images = find_images(folder, layouts, manifest, limit)
    request = Quality(
        scorer=networks.scorer.name,
        scorer_identity=networks.scorer.identity,
        prefix=networks.prefix,
        features=networks.features.name,
        features_identity=networks.features.identity,
        manifest=manifest,
        image_size=sizes.image,
        resized=sizes.resize,
        samples=images.pairs,
        compared=photographs is not None,
    )
    store = open_quality(folder, request)
    (store.folder / "features").mkdir(parents=True, exist_ok=True)
    before, quality = read_header(store.path, Quality), None
    if before and before.distances is not None and before.model_copy(update=UNMEASURED) == request:
        quality = before
    texts, total, title = {}, len(images.samples), f"{folder.name}, quality"
    set_tf32(False)
    with store:
        known = len(store.done.keys() & set(images.pairs))
        with tqdm(total=total, initial=known, desc=title, disable=None) as bar:
            for batch in images.changed(store.done):
                texts = texts or _encode_texts([layout for layout, _ in images.samples], networks)
                for record, features in _measure_batch(batch, texts, networks, sizes):
                    path = features_path(folder, (record["layout"], record["sample"]))
                    store.add(record, {path: safetensors.numpy.save(features)})
                bar.update(len(batch))
                quality = None
        _compare_with_judges(images, manifest, store.done)
        quality = quality or _measure_sets(images, request, networks.features, photographs)
        store.save_header(quality)
    return quality


def _encode_texts(layouts: Sequence[Layout], networks: Networks) -> dict[str, torch.Tensor]:
    """Returns the unit vector of each caption and prompt, each encoded once."""
    texts = [text for each in layouts for text in (each.caption, *(r.prompt for r in each.regions))]
    texts = list(dict.fromkeys(texts))
    vectors = networks.scorer.texts([networks.prefix + text for text in texts])
    return dict(zip(texts, vectors, strict=True))


def _measure_batch(
    batch: Sequence[SampleImage],
    texts: Mapping[str, torch.Tensor],
    networks: Networks,
    sizes: Sizes,
) -> Iterator[tuple[QualityRecord, dict[str, np.ndarray]]]:
    images = [each.open(sizes) for each in batch]
    regions = [(n, region) for n, each in enumerate(batch) for region in each.layout.regions]
    crops = [images[n].crop(bounding_square(r.pixels, sizes.image)) for n, r in regions]
    features = {"scorer": networks.scorer.images(images)}
    if networks.features is not networks.scorer:
        features["features"] = networks.features.images(images)
    captions = torch.stack([texts[each.layout.caption] for each in batch])
    prompts = torch.stack([texts[region.prompt] for _, region in regions])
    whole = clip_score(features["scorer"], captions)
    parts = clip_score(networks.scorer.images(crops), prompts)
    owners = torch.tensor([n for n, _ in regions])
    for n, each in enumerate(batch):
        record = {
            "layout": each.layout.id,
            "sample": each.sample,
            "image_sha256": each.sha256,
            "clip_caption": round(float(whole[n]), 6),
            "clip_regions": [round(float(value), 6) for value in parts[owners == n]],
        }
        yield record, {name: vectors[n].numpy() for name, vectors in features.items()}


def _measure_sets(
    images: ImageFolder, request: Quality, encoder: Encoder, photographs: Photographs | None
) -> Quality:
    """Adds what is of all images at once: the distances and each layout's diversity."""
    samples = [read_features(images.folder, pair, request.networks) for pair in request.samples]
    scorer, vectors = (
        torch.from_numpy(np.stack([features[network] for features in samples]))
        for network in ("scorer", request.networks[-1])
    )
    layouts = {layout.id: layout for layout, _ in images.samples}
    numbers = {layout: n for n, layout in enumerate(layouts)}
    owners = np.array([numbers[layout] for layout, _ in request.samples])
    spread = {layout: diversity(scorer[owners == n]) for layout, n in numbers.items()}
    real = photographs(list(layouts.values())) if photographs else None
    distances, refused = {}, {}
    for metric in ("kid",) if encoder.suffix else ("kid", "fid"):  # FID is of Inception alone
        name = metric + encoder.suffix
        try:
            if real is None:
                raise InputError("the photographs are needed: give --coco FOLDER.")
            if metric == "kid":
                value, std = kid(vectors, owners, real, encoder.gamma)
            else:
                value, std = fid(vectors, real), None
        except InputError as error:
            refused[name] = str(error)
            continue
        distances[name] = SetDistance(value=value, std=std, n=len(vectors), photographs=len(real))
    found = {"distances": distances, "refused": refused, "diversity": _rounded(spread)}
    return request.model_copy(update=found)


def _rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    """Returns values as they are stored: None for NaN, which JSON does not have."""
    return {name: None if math.isnan(each) else round(each, 6) for name, each in values.items()}


def _compare_with_judges(
    images: ImageFolder, manifest: str, hashes: Mapping[Pair, str | None]
) -> None:
    """Adds to each judge's scores how its label maps and instances agree with the layouts.

    Raises:
        InputError: a judge scored other images or for another manifest.
    """
    for score, records in read_scores(images.folder):
        store = open_scores(images.folder, score)
        by_pair = {(record["layout"], record["sample"]): record for record in records}
        if score.manifest != manifest or any(
            pair not in by_pair or by_pair[pair]["image_sha256"] != hashes[pair]
            for pair in images.pairs
        ):
            raise InputError(
                f"{store.folder} is not of the images and the manifest that are to be measured: "
                "run `tcig score` again."
            )
        title = f"{images.folder.name}, agreement with {score.judge}"
        with store:
            for layout, sample in tqdm(images.samples, desc=title, disable=None):
                record = by_pair[layout.id, sample]
                if "metrics" not in record:
                    metrics = _agreement(layout, store.folder, score, record)
                    store.add(record | {"metrics": metrics})


def _agreement(
    layout: Layout, scores: Path, score: Score, record: ScoreRecord
) -> dict[str, float | None]:
    """Returns boundary IoU, and for a judge that knows instances DenseDiffusion's IoU both ways."""
    size, path = score.score_size, label_path(scores, layout.id, record["sample"])
    labels = load_label_map(path)
    if labels.shape != (size, size):
        raise InputError(f"{path} is not {size}x{size}, as scored: run `tcig score` again.")
    metrics = {"boundary_iou": boundary_iou(layout.class_map(size), labels, layout.classes)}
    if (instances := record.get("instances")) is not None:
        objects = [(region.label, region.pixels) for region in layout.regions]
        detections = [(each["label"], _mask(scores, each["mask"])) for each in instances]
        metrics["recall_iou"] = recall_iou(objects, detections)
        metrics["recall_iou_dense"] = recall_iou(objects, detections, mended=False)
    return _rounded(metrics)


def _mask(scores: Path, rle: dict) -> np.ndarray:
    """Decodes an instance's mask; a damaged one would be read beyond its end."""
    try:
        check_runs(rle)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{scores / 'rows.jsonl'} has a damaged mask ({error}): remove {scores} and score "
            "again."
        ) from None
    return decode(rle)
