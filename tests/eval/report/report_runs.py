"""Runs for the report's tests: two judges, three samples, a failed one, hostile text everywhere."""

import json

import numpy as np
from PIL import Image

from tcig.data.files import sha256
from tcig.data.manifest import write_manifest
from tcig.data.voc import COLOURS
from tcig.eval.images import Sizes
from tcig.eval.judges import ColourJudge, Segmentation
from tcig.eval.score import score_images

EVIL = "</script><img src=x onerror=\"window.evil=1\"><!-- 'a' & \u2028 {{ 7 * 7 }}"
SAMPLES, SIDE = 3, 32


class Upper(ColourJudge):
    """Sees the upper half alone: another judge with other figures."""

    identity = "upper"

    def segment(self, images):
        found = super().segment(images)
        rows = np.arange(SIDE)[:, None] < SIDE // 2
        return [Segmentation(np.where(rows, each.labels, 0).astype(np.uint8)) for each in found]


JUDGES = {"miniature": ColourJudge(), "guide": Upper()}


def paint(folder, layouts, share, samples=SAMPLES):
    """Images in the truth's colours, but for a `share` of their pixels in one of four."""
    folder.mkdir(parents=True)
    for layout in layouts:
        for sample in range(samples):
            rng = np.random.default_rng([sample, *layout.id.encode()])
            labels = layout.class_map(SIDE)
            wrong = rng.random(labels.shape) < share
            labels = np.where(wrong, rng.choice([0, 8, 12, 20], labels.shape), labels)
            image = Image.fromarray(np.array(COLOURS, np.uint8)[labels])
            image.save(folder / f"{layout.id}-{sample}.png")
    return folder


def make_runs(folder, layouts, header):
    """The manifest, whose first caption is hostile; `real`; a run of `tcig` that its judge guided
    and that failed once; `mine` from elsewhere, of a hostile name, and with a sample less."""
    captioned = [layouts[0].model_copy(update={"caption": EVIL}), *layouts[1:]]
    write_manifest(folder / "layouts.jsonl", header, captioned)
    manifest = sha256(folder / "layouts.jsonl")
    paint(folder / "real", layouts, 0.02)
    paint(folder / "mine", layouts, 0.6, samples=2)
    run = paint(folder / "tcig", layouts, 0.3)
    (run / f"{layouts[1].id}-2.png").unlink()
    spec = {"method": "tcig", "manifest": manifest, "size": SIDE, "options": {"name": EVIL}}
    spec["weights"] = {"guide x": Upper.identity}
    asked = {"limit": None, "samples": SAMPLES}
    (run / "run.json").write_text(json.dumps({"spec": spec, "asked": asked, "profile": {}}))
    rows = [
        {"layout": layouts[0].id, "sample": 0, "error": None, "seconds": 12.3}
        | {"peak_mib": 700, "peak_device_mib": 2048, "device": "a GPU"},
        {"layout": layouts[1].id, "sample": 2, "error": f"RuntimeError: {EVIL}"},
    ]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for place in ("real", "tcig", "mine"):
        for judge in JUDGES.items():
            row = EVIL if place == "mine" else None
            score_images(folder / place, layouts, manifest, judge, Sizes(SIDE, SIDE), row)
    return folder
