"""Measures a folder of images beside IoU: what `tcig.eval.quality` defines, sample by sample.

What is kept: `tcig.eval.measured`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from tcig.data.errors import InputError
from tcig.data.files import sha256, sole_writer, write_whole
from tcig.data.layout import Layout
from tcig.eval.agreement import agreement, read_judges
from tcig.eval.features import BATCH, ClipEncoder, Encoder
from tcig.eval.images import find_images, open_image
from tcig.eval.measured import (
    Figure,
    Judged,
    Kept,
    Pair,
    Quality,
    load_kept,
    of_image,
    of_photograph,
    read_record,
)
from tcig.eval.quality import bounding_square, clip_score, diversity, fid, kid
from tcig.eval.score import Sizes
from tcig.models.devices import set_tf32

Photographs = Callable[[Sequence[Layout]], torch.Tensor]
"""Layouts -> features of their photographs, (N, D), by the encoder `Networks.features`."""


class Networks(NamedTuple):
    """What measures."""

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
    """Measures a folder's images; what is there of the same image and networks is kept.

    Args:
        folder: the images and their scores, whose label maps are compared too; `folder/quality` is
            written.
        layouts: of the manifest.
        manifest: its SHA-256.
        networks: as said.
        sizes: of the images; the scores have their own.
        photographs: None where there are none to compare with.
        limit: the first so many layouts, instead of those that the run was asked for.

    Raises:
        InputError: an image or a photograph is missing, cannot be read or has another size; scores
            are of other images; another process measures the folder. What was measured is kept.
    """
    found = find_images(folder, layouts, manifest, limit)
    pairs = {(layout.id, sample): layout for layout, sample in found.pairs}
    hashes = {pair: sha256(_path(folder, pair)) for pair in pairs}
    judges = read_judges(folder, hashes, manifest)
    quality = Quality(
        scorer=networks.scorer.name,
        scorer_identity=networks.scorer.identity,
        prefix=networks.prefix,
        features=networks.features.name,
        features_identity=networks.features.identity,
        manifest=manifest,
        image_size=sizes.image,
        resized=sizes.resize,
        judges={
            name: Judged(identity=seen.score.identity, score_size=seen.score.score_size)
            for name, seen in judges.items()
        },
        samples=tuple(pairs),
        compared=photographs is not None,
    )
    place = folder / "quality"
    place.mkdir(exist_ok=True)
    set_tf32(False)
    with sole_writer(place):
        before, kept = read_record(place), load_kept(place, quality, hashes)
        wanting = [
            pair
            for pair in pairs
            if pair not in kept.rows or kept.rows[pair]["judges"].keys() != judges.keys()
        ]
        if not wanting and before and before.figures is not None and before.asked == quality:
            return before
        kept.save_rows()  # those of another key are gone before the record says otherwise
        kept.save()
        _record(place, quality)
        try:
            _look(folder, pairs, hashes, networks, sizes, kept)
            for pair in tqdm(wanting, desc=f"{folder.name}, agreement", disable=None):
                known = kept.rows[pair]["judges"]
                for name in judges.keys() - known.keys():
                    known[name] = agreement(pairs[pair], pair[1], judges[name])
                kept.save_in_time()
            if photographs:
                _compare_with(photographs, list(pairs.values()), kept)
        finally:
            kept.save()
        return _record(place, quality.model_copy(update=_sets(quality, networks.features, kept)))


def _record(place: Path, quality: Quality) -> Quality:
    write_whole(place / "quality.json", quality.model_dump_json(indent=2) + "\n")
    return quality


def _path(folder: Path, pair: Pair) -> Path:
    return folder / f"{pair[0]}-{pair[1]}.png"


def _look(
    folder: Path,
    pairs: Mapping[Pair, Layout],
    hashes: Mapping[Pair, str],
    networks: Networks,
    sizes: Sizes,
    kept: Kept,
) -> None:
    """Rows and features of the images that have none."""
    pending = [pair for pair in pairs if pair not in kept.rows]

    def opened(pair: Pair) -> Image.Image:
        return open_image(_path(folder, pair), sizes.image, sizes.resize)

    for pair in pending:  # before the networks spend hours on the others
        opened(pair)
    meaning = _texts([pairs[pair] for pair in pending], networks)
    with tqdm(total=len(pending), desc=f"{folder.name}, quality", disable=None) as bar:
        for first in range(0, len(pending), BATCH):
            batch = pending[first : first + BATCH]
            images = [opened(pair) for pair in batch]
            regions = [(n, each) for n, pair in enumerate(batch) for each in pairs[pair].regions]
            crops = [images[n].crop(bounding_square(r.pixels, sizes.image)) for n, r in regions]
            seen = {"scorer": networks.scorer.images(images)}
            if networks.features is not networks.scorer:
                seen["features"] = networks.features.images(images)
            captions = torch.stack([meaning[pairs[pair].caption] for pair in batch])
            prompts = torch.stack([meaning[each.prompt] for _, each in regions])
            whole = clip_score(seen["scorer"], captions)
            parts = clip_score(networks.scorer.images(crops), prompts)
            owners = torch.tensor([n for n, _ in regions])
            for n, pair in enumerate(batch):
                kept.rows[pair] = {
                    "layout": pair[0],
                    "sample": pair[1],
                    "image_sha256": hashes[pair],
                    "clip_caption": round(float(whole[n]), 6),
                    "clip_regions": [round(float(value), 6) for value in parts[owners == n]],
                    "judges": {},
                }
                for network, vectors in seen.items():
                    kept.features[of_image(network, pair)] = vectors[n].numpy()
            kept.save_in_time()
            bar.update(len(batch))


def _compare_with(photographs: Photographs, layouts: Sequence[Layout], kept: Kept) -> None:
    """The photographs' features, once for each layout."""
    lacking = {each.id: each for each in layouts if of_photograph(each.id) not in kept.features}
    pending = list(lacking.values())
    for first in range(0, len(pending), BATCH):
        batch = pending[first : first + BATCH]
        for each, vector in zip(batch, photographs(batch), strict=True):
            kept.features[of_photograph(each.id)] = vector.numpy()
        kept.save_in_time()


def _texts(layouts: Sequence[Layout], networks: Networks) -> dict[str, torch.Tensor]:
    """The unit vector of each caption and prompt, once."""
    said = [text for each in layouts for text in (each.caption, *(r.prompt for r in each.regions))]
    texts = list(dict.fromkeys(said))
    if not texts:
        return {}
    vectors = networks.scorer.texts([networks.prefix + text for text in texts])
    return dict(zip(texts, vectors, strict=True))


def _sets(quality: Quality, encoder: Encoder, kept: Kept) -> dict:
    """What is of all images at once: the distances and each layout's diversity."""

    def stacked(names: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([kept.features[name] for name in names]))

    layouts = [layout for layout, _ in quality.samples]
    ids = {layout: n for n, layout in enumerate(dict.fromkeys(layouts))}
    owners = np.array([ids[layout] for layout in layouts])
    seen = stacked([of_image("scorer", pair) for pair in quality.samples])
    spread = {layout: diversity(seen[owners == n]) for layout, n in ids.items()}
    figures, refused = {}, {}
    for name in ("kid",) if encoder.suffix else ("kid", "fid"):  # FID is of Inception alone
        if not quality.compared:
            refused[name + encoder.suffix] = "the photographs are needed: give --coco FOLDER."
            continue
        images = stacked([of_image(quality.networks[-1], pair) for pair in quality.samples])
        photographs = stacked([of_photograph(layout) for layout in ids])
        try:
            if name == "kid":
                value, std = kid(images, owners, photographs, encoder.gamma)
            else:
                value, std = fid(images, photographs), None
        except InputError as error:
            refused[name + encoder.suffix] = str(error)
            continue
        figures[name + encoder.suffix] = Figure(
            value=value, std=std, n=len(images), photographs=len(photographs)
        )
    return {
        "figures": figures,
        "refused": refused,
        "diversity": {name: None if math.isnan(v) else round(v, 6) for name, v in spread.items()},
    }
