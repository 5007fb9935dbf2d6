"""`tcig calibrate` on the real sample, and its search for the published ceiling."""

import json

import numpy as np
import pandas as pd
import pytest

from tcig import cli
from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.voc import BY_LABEL
from tcig.eval.calibrate import calibration, ceiling, nearest_subsets
from tcig.eval.judges import JUDGES, SOURCES, ColourJudge
from tcig.eval.records import Score, sparse

READINGS = {"masks", "images", "masks, people dropped", "images, people dropped"}
CAT, DOG = (BY_LABEL[label].index for label in ("cat", "dog"))


def write_scores(folder, ious):
    """A scored folder whose cats have these IoUs, of 100 pixels each."""
    place = folder / "scores" / "j"
    place.mkdir(parents=True)
    rows = []
    for number, iou in enumerate(ious):
        counts = np.zeros((21, 21), np.int64)
        hit = round(100 * iou)
        counts[CAT, CAT], counts[CAT, 0], counts[0, 0] = hit, 100 - hit, 300
        row = {"layout": str(number), "sample": 0, "classes": [CAT], "image_sha256": "0"}
        row |= dict.fromkeys(("confusion", "confusion_ignoring_dropped"), sparse(counts))
        rows.append(json.dumps(row))
    (place / "rows.jsonl").write_text("\n".join(rows))
    names = {"row": "real", "judge": "j", "identity": "i", "manifest": "m"}
    sizes = {"score_size": 20, "image_size": 20, "resized": False, "failed": 0}
    samples = tuple((str(number), 0) for number in range(len(ious)))
    score = Score(**names, **sizes, samples=samples)
    (place / "score.json").write_text(score.model_dump_json())


def test_what_lands_on_the_published_figure_comes_first(tmp_path):
    assert ceiling() == (0.43, 0.09), "MultiDiffusion, Table 2"
    write_scores(tmp_path, (0.34, 0.52, 0.90, 0.90))  # the first two: 0.43 ± 0.09
    frame = calibration(tmp_path, {"masks": {"0", "1", "2", "3"}, "images": {"0", "1"}})
    best = frame.iloc[0]
    assert (best["reading"], best["n"], best["lands"]) == ("images", 2, True)
    assert best["mean"] == pytest.approx(0.43)
    assert best["std"] == pytest.approx(0.09)
    assert best["distance"] == pytest.approx(0)
    landing = frame[frame["lands"]]
    assert set(landing["reading"]) == {"images"}
    assert set(landing["reduction"]) == {"iou_image", "iou_region", "iou_foreground"}
    assert frame["distance"].is_monotonic_increasing


def test_the_nearest_subsets_are_those_nearest_to_a_thousand():
    counts = [{"images": n} for n in (10, 1200, 990, 5000, 1001)]
    assert [row["images"] for row in nearest_subsets(counts)] == [1001, 990, 1200]


def test_the_real_sample_is_calibrated(sample, tmp_path, capsys):
    arguments = ["--coco", str(sample), "--profile", "mini", "--out", str(tmp_path)]
    assert cli.main(["calibrate", *arguments]) == 0
    out = capsys.readouterr().out
    assert "against the published 0.43 ± 0.09" in out
    assert "nearest to 1000 images of 2017" in out
    frame = pd.read_csv(tmp_path / "calibration.csv")
    assert set(frame["reading"]) == READINGS
    assert set(frame["judge"]) == {"miniature", "guide"}
    assert len(frame) == len(READINGS) * 2 * 2 * 8
    counted = frame[frame["reduction"] == "iou_image"].groupby("reading")["n"].first()
    assert {name: counted[name] for name in ("masks", "images")} == {"masks": 6, "images": 4}
    assert (frame["slivers"] == 0).all()


def test_mask2former_is_asked_at_both_its_input_sizes(tmp_path, monkeypatch):
    """By stand-ins of its names, which say nothing of sizes, only that both judges score."""
    for name in ("mask2former", "mask2former-800"):
        monkeypatch.setitem(JUDGES, name, lambda name, path: ColourJudge())
        monkeypatch.delitem(SOURCES, name, raising=False)
    profile = tmp_path / "mine.toml"
    profile.write_text('base = "smoke"\njudges = ["mask2former"]\nembedded = false\n')
    arguments = ["--coco", str(EMOJI), "--profile", str(profile), "--limit", "3"]
    assert cli.main(["calibrate", *arguments, "--out", str(tmp_path / "out")]) == 0
    frame = pd.read_csv(tmp_path / "out" / "calibration.csv")
    counts = frame[frame["reduction"] == "iou_image"].groupby("judge")["n"].max()
    assert dict(counts) == {"mask2former": 3, "mask2former-800": 3}
