"""One trial: a row under some options, drawn and scored in a run of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tcig.data.imperfect import TRUE, imperfect
from tcig.data.layout import Layout
from tcig.eval.measure import Networks, Photographs, measure_folder
from tcig.eval.score import Sizes, score_folder
from tcig.eval.segmented import Judge
from tcig.eval.table import measured
from tcig.profiles import Profile
from tcig.run.generate import generate
from tcig.run.spec import Chosen, set_up
from tcig.run.store import RunStore

METRICS = ("iou_image", "clip_caption", "clip_region", "diversity", "kid", "kid_clip")
"""What a trial may reach, each with its `_std`, `_low` and `_high`."""


class Data(NamedTuple):
    """What is drawn: the photographs' folder, the manifest's hash, layouts of it, and the first of
    these in the order of a hash of their ids, which are drawn."""

    coco: Path | None
    manifest: str
    layouts: Sequence[Layout]
    drawn: Sequence[Layout]


class Eyes(NamedTuple):
    """Who looks: a judge by its name, and where quality counts too, what measures it."""

    judge: tuple[str, Judge]
    networks: Networks | None = None
    photographs: Photographs | None = None


def measure(
    chosen: Chosen,
    profile: Profile,
    data: Data,
    eyes: Eyes,
    out: Path,
    masks: str = TRUE,
    samples: int = 1,
) -> dict:
    """What a trial reaches; what an earlier call drew and judged is not done again.

    Args:
        chosen: the row with its options.
        profile: as said.
        data: on which.
        eyes: who looks.
        out: where the run's folder is.
        masks: as the method sees them, see `tcig.data.imperfect`.
        samples: of each layout.

    Returns:
        Of `METRICS` those that there are (`iou_image` None where nothing was drawn), `n`,
        `failed`, `seconds` an image, `run` (its folder's name).
    """
    spec, method = set_up(chosen, profile, data.coco, data.manifest, masks)
    asked = {"limit": len(data.drawn), "samples": samples}
    with RunStore(out, spec, asked, profile.model_dump(mode="json")) as store:
        drawn = imperfect(data.drawn, masks)
        failed = generate(method, drawn, samples, profile.batch, store)
        seconds = store.seconds()
    reached = {"iou_image": None, "iou_image_std": None, "n": 0}
    if store.done:
        sizes = Sizes(profile.size, profile.score_size)
        images = store.folder, data.layouts, data.manifest
        score_folder(*images, eyes.judge, sizes)
        if eyes.networks:
            measure_folder(*images, eyes.networks, sizes, eyes.photographs)
        found = measured([store.folder], "none").iloc[0]
        wanted = [name + end for name in METRICS for end in ("", "_std", "_low", "_high")]
        reached = {key: found[key] for key in (*wanted, "n") if key in found}
    return reached | {"failed": failed, "seconds": seconds, "run": store.folder.name}
