"""One trial: a row under some options, drawn and scored in a run of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tcig.data.imperfect import TRUE, imperfect
from tcig.data.layout import Layout
from tcig.eval.judges import Judge
from tcig.eval.score import Sizes, score_folder
from tcig.eval.table import measured
from tcig.profiles import Profile
from tcig.run.generate import generate
from tcig.run.spec import Chosen, set_up
from tcig.run.store import RunStore


class Data(NamedTuple):
    """What is drawn: the photographs' folder, the manifest's hash, and layouts of it."""

    coco: Path | None
    manifest: str
    layouts: Sequence[Layout]


def measure(
    chosen: Chosen,
    profile: Profile,
    data: Data,
    judge: tuple[str, Judge],
    out: Path,
    masks: str = TRUE,
    samples: int = 1,
) -> dict:
    """What a trial reaches; what an earlier call drew and judged is not done again.

    Args:
        chosen: the row with its options.
        profile: as said.
        data: on which.
        judge: its name and itself.
        out: where the run's folder is.
        masks: as the method sees them, see `tcig.data.imperfect`.
        samples: of each layout.

    Returns:
        `iou_image`, its `_std`, `_low` and `_high` (None where nothing was drawn), `n`, `failed`,
        `seconds` an image, `run` (its folder's name).
    """
    spec, method = set_up(chosen, profile, data.coco, data.manifest, masks)
    asked = {"limit": len(data.layouts), "samples": samples}
    with RunStore(out, spec, asked, profile.model_dump(mode="json")) as store:
        drawn = imperfect(data.layouts, masks)
        failed = generate(method, drawn, samples, profile.batch, store, profile.compute)
        seconds = store.seconds()
    columns = ("iou_image", "iou_image_std", "iou_image_low", "iou_image_high")
    reached = dict.fromkeys(columns) | {"n": 0}
    if store.done:
        sizes = Sizes(profile.size, profile.score_size)
        score_folder(store.folder, data.layouts, data.manifest, judge, sizes)
        found = measured([store.folder], "none").iloc[0]
        reached = {key: found[key] for key in reached}
    return reached | {"failed": failed, "seconds": seconds, "run": store.folder.name}
