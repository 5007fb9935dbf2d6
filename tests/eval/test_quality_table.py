"""Quality's columns: what they hold, what is marked, and what is refused."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from looking import Looking
from PIL import Image
from scipy.stats import t

from tcig.cli import main
from tcig.eval.measured import read_quality
from tcig.eval.quality_table import DEFINITIONS, NEEDS, check_quality, quality_cell
from tcig.eval.table import measured, render


@pytest.fixture
def ready(paint, score, measure):
    """Paints, scores and measures a folder."""

    def build(what="damaged", name="mine", samples=1, row=None, **networks):
        folder = paint(what, name=name, samples=samples)
        score(folder, row=row)
        measure(folder, **networks)
        return folder

    return build


def cells(markdown):
    """Markdown table -> one dictionary per line."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_columns_are_means_and_deviations_of_the_values(ready):
    folder = ready(samples=2)
    (record,) = measured([folder], "none").to_dict("records")
    found = read_quality(folder)
    for name, (_, values) in (found.own | found.judged["colours"]).items():
        assert record[name] == pytest.approx(values.mean())
        assert record[f"{name}_std"] == pytest.approx(values.std())
        assert record[f"{name}_n"] == (6 if name == "diversity" else 12)
    figure = found.quality.figures["kid_clip"]
    assert (record["kid_clip"], record["kid_clip_std"]) == (figure.value, figure.std)
    assert record["kid_clip_n"] == 12
    shown = cells(render(pd.DataFrame([record]), ["clip_caption", "kid_clip"], "md"))[0]
    expected = found.own["clip_caption"].values
    # two samples of each layout: the interval is that of the means of the six
    six = expected.reshape(6, 2).mean(1)
    half = t.ppf(0.975, 5) * six.std(ddof=1) / 6**0.5
    low, high = expected.mean() - half, expected.mean() + half
    spread = f"{expected.mean():.3f} ± {expected.std():.3f}"
    assert shown["clip_caption"] == f"{spread} [{low:.3f}, {high:.3f}]"
    assert shown["kid_clip"] == f"{figure.value:.4f} ± {figure.std:.4f}"


def test_each_metric_shown_is_defined_below(ready):
    names = ["iou_image", "clip_region", "boundary_iou"]
    frame = measured([ready()], "none")
    for form in ("md", "latex"):
        text = render(frame, names, form)
        lines = [line.removeprefix("% ").strip() for line in text.splitlines()]
        for name in names[1:]:
            (line,) = (line for line in lines if line.startswith(f"{name}: "))
            assert line.endswith(".")
            assert re.search(r"(Hessel|Cheng) et al\. 2021|the square", line)
        (line,) = (line for line in lines if line.startswith("clip_region: "))
        assert "by one-source; " in line
        assert "diversity" not in text
    assert "divided by n" not in render(frame, ["clip_region"], "md")


def test_a_row_without_quality_has_dashes(ready, paint, score):
    other = paint("grey", name="other")
    score(other)
    frame = measured([ready(), other], "none")
    rows = cells(render(frame, ["iou_image", "clip_caption", "kid_clip"], "md"))
    assert rows[1]["row"] == "other"
    assert rows[1]["clip_caption"] == rows[1]["kid_clip"] == "-"
    assert rows[0]["clip_caption"] != "-"


def test_csv_has_all_of_it_unrounded(ready):
    frame = measured([ready()], "none")
    back = pd.read_csv(io.StringIO(render(frame, ["iou_image"], "csv")))
    for name in ("clip_caption", "clip_region", "boundary_iou", "kid_clip"):
        assert back[name][0] == frame[name][0]
        assert back[f"{name}_n"][0] == 6
    assert back["scorer"][0] == "one"


def test_ignoring_dropped_objects_leaves_out_what_does_not(ready):
    folder = ready(row="real")
    frame = measured([folder], "none")
    assert frame["ignore"].tolist() == ["none", "dropped"]
    rows = cells(render(frame, ["boundary_iou", "clip_caption"], "md"))
    assert rows[0]["boundary_iou"] != "-"
    assert rows[1]["boundary_iou"] == "-"
    assert rows[0]["clip_caption"] == rows[1]["clip_caption"]


def test_a_row_that_the_scorer_guided_says_so(paint, score, measure, record_run):
    folders = [paint(name=name) for name in ("own", "other")]
    record_run(folders[0], method="own", weights={"vqgan": "v", "clip": "one"})
    record_run(folders[1], method="other", weights={"clip": "another"})
    for folder in folders:
        score(folder)
        measure(folder)
    frame = measured(folders, "none")
    text = render(frame, ["boundary_iou", "clip_caption", "clip_region", "kid_clip"], "md")
    own, other = cells(text)[:2]
    for name in ("clip_caption", "clip_region", "kid_clip"):
        assert own[name].endswith(" (its guide)")
        assert "guide" not in other[name]
    assert "guide" not in own["boundary_iou"]
    assert "\n(its guide): by a CLIP that guided or ranked these images" in text
    assert "its guide" not in render(frame, ["boundary_iou"], "md")


def test_distances_without_subsets_have_no_deviation():
    record = {"fid": 12.345, "clip_guided": False}
    record |= dict.fromkeys(("fid_std", "fid_low", "fid_high"), np.nan)
    assert quality_cell(record, "fid") == "12.3"
    assert quality_cell(record | {"fid": np.nan}, "fid") == "-"


def test_rows_by_other_networks_are_refused_where_they_count(ready, refused):
    folders = [ready(), ready(name="other", scorer=Looking("two"))]
    frame = measured(folders, "none")
    check_quality(frame, ["boundary_iou"])
    for name in ("clip_caption", "kid_clip"):
        with refused(name, "one and two", "tcig quality"):
            check_quality(frame, [name])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kid", "features are Inception's"),
        ("recall_iou", "a judge that knows instances"),
        ("diversity", "two samples"),
    ],
)
def test_what_no_row_has_is_refused_with_what_it_needs(ready, refused, name, said):
    with refused(f"no row has {name}", said, "there are clip_caption, clip_region, boundary_iou"):
        check_quality(measured([ready()], "none"), [name])


def test_what_some_metrics_need_is_of_metrics(ready, refused):
    assert set(NEEDS) <= set(DEFINITIONS)
    with refused("no row has kid_clip", "and photographs"):
        check_quality(measured([ready(coco=None)], "none"), ["kid_clip"])


def test_what_was_not_measured_asks_for_it(paint, score, refused):
    folder = paint()
    score(folder)
    with refused("no row has clip_caption", "tcig quality"):
        check_quality(measured([folder], "none"), ["clip_caption"])


def rescore(folder, score):
    Image.new("RGB", (32, 32), (9, 90, 200)).save(folder / "1-0.png")
    score(folder)


def score_fewer(folder, score):
    score(folder, limit=3)


def judge_otherwise(folder, score):
    from counting import Counting

    score(folder, Counting("another"))


@pytest.mark.parametrize("change", [rescore, score_fewer, judge_otherwise])
def test_quality_of_other_images_or_scores_is_refused_where_asked_for(
    ready, score, refused, change, capsys
):
    folder = ready()
    change(folder, score)
    frame = measured([folder], "none")
    again = f"`tcig quality {folder} --layouts"
    assert not {*DEFINITIONS} & {*frame}
    with refused(folder, "is not of the images and scores", "run `tcig quality"):
        check_quality(frame, ["clip_caption"])
    assert main(["table", str(folder)]) == 0
    assert again in capsys.readouterr().out
    assert main(["table", str(folder), "--format", "json"]) == 0
    assert "clip_caption" not in json.loads(capsys.readouterr().out)["rows"][0]["figures"]
    for asked in (["--quality"], ["--out", str(folder.parent / "tables")]):
        assert main(["table", str(folder), *asked]) == 2
        assert again in capsys.readouterr().err


def test_the_command_shows_them_by_name(ready, capsys):
    folder = ready()
    names = ["iou_image", "boundary_iou", "clip_caption"]
    assert main(["table", str(folder), "--reductions", *names]) == 0
    out = capsys.readouterr().out
    assert out == render(measured([folder], "none"), names, "md")
    assert list(cells(out)[0])[4:7] == names
    assert main(["table", str(folder), "--quality"]) == 0
    printed = capsys.readouterr().out
    assert main(["table", str(folder), "--out", str(folder.parent / "tables")]) == 0
    assert (folder.parent / "tables" / "quality.md").read_text() == printed
    capsys.readouterr()
    assert main(["table", str(folder), "--reductions", "kid"]) == 2
    assert "no row has kid" in capsys.readouterr().err
    assert main(["table", str(folder), "--reductions", "clip"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("iou_image", *DEFINITIONS))
