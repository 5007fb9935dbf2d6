"""A pool of training scenes on disk, drawn once by all processors and then read at random."""

import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tcig.data.emoji.scenes import SIZE, scene

RECORD = np.dtype([("image", np.uint8, (SIZE, SIZE, 3)), ("labels", np.uint8, (SIZE, SIZE))])


def _record(index: int, styles: tuple[str, ...]) -> np.ndarray:
    drawn = scene("training", index, styles)
    return np.array((drawn.image, drawn.label_map()), RECORD)


def scene_pool(folder: Path, first: int, count: int, styles: tuple[str, ...]) -> np.ndarray:
    """Scenes `first` .. `first + count - 1` of the training split as an array of `RECORD`.

    The file in `folder` is made whole or not at all; a later call with the same arguments maps it.
    """
    path = folder / f"scenes-{first}-{count}-{'-'.join(styles)}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        pool = np.lib.format.open_memmap(draft, "w+", RECORD, (count,))
        indices = range(first, first + count)
        with multiprocessing.get_context("spawn").Pool() as workers:
            records = workers.imap(partial(_record, styles=styles), indices, chunksize=64)
            for row, record in enumerate(tqdm(records, "scenes", count)):
                pool[row] = record
        pool.flush()
        draft.rename(path)
    return np.load(path, mmap_mode="r")
