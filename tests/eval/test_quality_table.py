"""Quality's columns: what they hold, what is marked, and what is refused."""

import json
import re

import pytest
from PIL import Image
from scipy.stats import t
from stand_ins import Counting, Looking, cells

from tcig.cli import main
from tcig.eval.records import read_quality
from tcig.eval.results import Estimate
from tcig.eval.rows import result_of
from tcig.eval.table import DEFINITIONS, NEEDS, check_quality, render


@pytest.fixture
def ready(paint, score, measure):
    """Paints, scores and measures a folder."""

    def build(what="damaged", name="mine", samples=1, row=None, **networks):
        folder = paint(what, name=name, samples=samples)
        score(folder, row=row)
        measure(folder, **networks)
        return folder

    return build


def test_estimates_are_means_and_deviations_of_the_values(ready):
    folder = ready(samples=2)
    result = result_of([folder], "none")
    figures, found = result.rows[0].figures, read_quality(folder)
    for name, (values, _) in found.values.items():
        assert figures[name].mean == pytest.approx(values.mean())
        assert figures[name].std == pytest.approx(values.std())
        assert figures[name].n == (6 if name == "diversity" else 12)
    distance = found.quality.distances["kid_clip"]
    expected = Estimate(mean=distance.value, std=distance.std, n=12, low=None, high=None)
    assert figures["kid_clip"] == expected
    shown = cells(render(result, ["clip_caption", "kid_clip"], "md"))[0]
    expected = found.values["clip_caption"].values
    # two samples of each layout: the interval is that of the means of the six
    six = expected.reshape(6, 2).mean(1)
    half = t.ppf(0.975, 5) * six.std(ddof=1) / 6**0.5
    low, high = expected.mean() - half, expected.mean() + half
    spread = f"{expected.mean():.3f} ± {expected.std():.3f}"
    assert shown["clip_caption"] == f"{spread} [{low:.3f}, {high:.3f}]"
    assert shown["kid_clip"] == f"{distance.value:.4f} ± {distance.std:.4f}"
    alone = result.rows[0].model_copy(
        update={"figures": {"fid": Estimate(mean=12.345, std=None, n=9, low=None, high=None)}}
    )
    alone = result.model_copy(update={"rows": [alone]})
    assert cells(render(alone, ["fid"], "md"))[0]["fid"] == "12.3"


def test_each_metric_shown_is_defined_below(ready, paint, score):
    names = ["iou_image", "clip_region", "boundary_iou"]
    other = paint("grey", name="other")
    score(other)
    result = result_of([ready(), other], "none")
    for form in ("md", "latex"):
        text = render(result, names, form)
        lines = [line.removeprefix("% ").strip() for line in text.splitlines()]
        for name in names[1:]:
            (line,) = (line for line in lines if line.startswith(f"{name}: "))
            assert re.search(r"(Hessel|Cheng) et al\. 2021|the square", line)
        assert "by one-source; " in text
        assert "diversity" not in text
    rows = cells(render(result, names, "md"))
    assert [row["clip_region"] == "-" for row in rows[:2]] == [False, True]


def test_ignoring_dropped_objects_leaves_out_what_does_not(ready):
    result = result_of([ready(row="real")], "none")
    rows = cells(render(result, ["boundary_iou", "clip_caption"], "md"))
    assert [row["boundary_iou"] == "-" for row in rows[:2]] == [False, True]
    assert rows[0]["clip_caption"] == rows[1]["clip_caption"]


def test_a_row_that_the_scorer_guided_says_so(paint, score, measure, record_run):
    folders = [paint(name=name) for name in ("own", "other")]
    record_run(folders[0], method="own", weights={"vqgan": "v", "clip": "one"})
    record_run(folders[1], method="other", weights={"clip": "another"})
    for folder in folders:
        score(folder)
        measure(folder)
    result = result_of(folders, "none")
    text = render(result, ["boundary_iou", "clip_caption", "clip_region", "kid_clip"], "md")
    own, other = cells(text)[:2]
    for name in ("clip_caption", "clip_region", "kid_clip"):
        assert own[name].endswith(" (its guide)")
        assert "guide" not in other[name]
    assert "guide" not in own["boundary_iou"]
    assert "\n(its guide): by a CLIP that guided or ranked these images" in text
    assert "its guide" not in render(result, ["boundary_iou"], "md")


def test_rows_by_other_networks_are_refused_where_they_count(ready, refused):
    result = result_of([ready(), ready(name="other", scorer=Looking("two"))], "none")
    check_quality(result, ["boundary_iou"])
    for name in ("clip_caption", "kid_clip"):
        with refused(name, "one and two", "tcig quality"):
            check_quality(result, [name])


@pytest.mark.parametrize("name", ["kid", "recall_iou", "diversity"])
def test_what_no_row_has_is_refused_with_what_it_needs(ready, paint, score, refused, name):
    folder = paint(name="other")
    score(folder)
    with refused("no row has clip_caption", "tcig quality"):
        check_quality(result_of([folder], "none"), ["clip_caption"])
    with refused(f"no row has {name}", NEEDS[name], "there are clip_caption, clip_region"):
        check_quality(result_of([ready()], "none"), [name])


def rescore(folder, score):
    Image.new("RGB", (32, 32), (9, 90, 200)).save(folder / "1-0.png")
    score(folder)


def score_fewer(folder, score):
    score(folder, limit=3)


def judge_otherwise(folder, score):
    score(folder, Counting("another"))


@pytest.mark.parametrize("change", [rescore, score_fewer, judge_otherwise])
def test_quality_of_other_images_or_scores_is_refused_where_asked_for(
    ready, score, refused, change, capsys
):
    folder = ready()
    change(folder, score)
    result = result_of([folder], "none")
    again = f"`tcig quality {folder} --layouts"
    assert not {*DEFINITIONS} & {*result.rows[0].figures}
    with refused(folder, "is not of the images and scores", "run `tcig quality"):
        check_quality(result, ["clip_caption"])
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
    assert out == render(result_of([folder], "none"), names, "md")
    assert list(cells(out)[0])[4:7] == names
    assert main(["table", str(folder), "--quality"]) == 0
    printed = capsys.readouterr().out
    assert main(["table", str(folder), "--out", str(folder.parent / "tables")]) == 0
    assert (folder.parent / "tables" / "quality.md").read_text() == printed
    capsys.readouterr()
    for asked, said in (("kid", "no row has kid"), ("clip", "clip_caption")):
        assert main(["table", str(folder), "--reductions", asked]) == 2
        assert said in capsys.readouterr().err
