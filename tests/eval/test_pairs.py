"""What rows say about one another, on painted folders whose answers are known."""

import re

import numpy as np
import pandas as pd
import pytest

from tcig.cli import main
from tcig.eval.comparison import holm, paired_test
from tcig.eval.iou import image_iou
from tcig.eval.judges import ColourJudge, Segmentation, StagedJudge
from tcig.eval.pairs import (
    against_best,
    ceiling_shares,
    leakages,
    pairs,
    render,
    spreads,
    values,
)
from tcig.eval.rows import read_rows
from tcig.eval.score import Sizes, score_images


class Upside(StagedJudge):
    """A judge that sees every image upside down."""

    identity = "upside down"

    def look(self, images):
        return [Segmentation(each.labels[::-1]) for each in ColourJudge().segment(images)]


@pytest.fixture
def folders(scored, paint, layouts, manifest):
    """Methods from good to none, a ceiling and an oracle, under two judges, one a guide."""
    found = []
    for what, name in [
        ("damaged", "good"),
        ("grey", "bad"),
        ("damaged", "real"),
        ("truth", "paste"),
        ("grey", "empty"),
    ]:
        folder = scored(what, name)
        score_images(folder, layouts, manifest, ("guide", Upside()), Sizes(32, 32))
        found.append(folder)
    return found


@pytest.fixture
def rows(folders):
    return read_rows(folders, "none")


def of(rows, found, name, judge="colours", ignore="none"):
    """The value of one row."""
    (value,) = [
        v
        for row, v in zip(rows, found, strict=True)
        if (row.name, row.score.judge, row.ignore) == (name, judge, ignore)
    ]
    return value


def test_shares_of_the_ceiling(rows):
    shares = ceiling_shares(rows)
    for judge in ("colours", "guide"):
        assert of(rows, shares, "real", judge) == 1
        assert of(rows, shares, "real", judge, "dropped") == 1
        assert of(rows, shares, "good", judge) == pytest.approx(1)  # the same images
        assert of(rows, shares, "bad", judge) == 0
    mean = values(next(row for row in rows if row.name == "good")).mean()
    assert of(rows, shares, "paste") == pytest.approx(1 / mean)
    without = [row for row in rows if row.name != "real"]
    assert np.isnan(ceiling_shares(without)).all()


def test_leakage_is_under_the_guide_minus_under_the_judge(rows):
    table = leakages(rows)
    found = table["leakage"]
    for name in ("good", "bad", "paste"):
        assert np.isnan(of(rows, found, name))
        upside, plain = (
            image_iou(row.samples)
            for judge in ("guide", "colours")
            for row in rows
            if row.name == name and row.score.judge == judge
        )
        assert of(rows, found, name, "guide") == pytest.approx(np.mean(upside - plain))
        ends = (of(rows, table[f"leakage_{end}"], name, "guide") for end in ("low", "high"))
        ids = next(row.layouts for row in rows if row.name == name)
        expected = paired_test(upside, plain, ids, ids)
        assert tuple(ends) == pytest.approx((expected.low, expected.high))
    assert of(rows, found, "good", "guide") < -0.2
    alone = [row for row in rows if row.score.judge == "guide"]
    assert leakages(alone).isna().all(axis=None)


def test_the_best_method_and_those_that_differ_from_it(rows):
    found = against_best(rows)
    assert of(rows, found, "good") == 1
    assert of(rows, found, "bad") == 2 / 2**6, "all six differences have one sign"
    for name in ("real", "paste", "empty"):
        assert np.isnan(of(rows, found, name)), "no methods"
    assert np.isnan(against_best([row for row in rows if row.name != "bad"])).all()


def test_pairs_are_adjusted_within_a_judge(scored, paint, layouts, manifest, folders):
    for name, samples in (("first", 1), ("second", 3)):
        paint("damaged", name=name, samples=samples)
        folders.append(scored("damaged", name))
    found = pairs(read_rows(folders, "none")).set_index("judge")
    methods = {"good", "bad", "first", "second"}
    colours = found.loc["colours"]
    assert {*colours["a"], *colours["b"]} == methods
    assert len(colours) == 6
    assert (colours["difference"] >= 0).all()
    rows = {row.name: row for row in read_rows(folders, "none") if row.score.judge == "colours"}
    tests = [
        paired_test(values(rows[a]), values(rows[b]), rows[a].layouts, rows[b].layouts)
        for a, b in zip(colours["a"], colours["b"], strict=True)
    ]
    assert colours["p"].tolist() == holm([test.p for test in tests]).tolist()
    same = colours[(colours["a"] == "good") & (colours["b"] == "first")]
    assert same[["difference", "p", "won"]].to_numpy().tolist() == [[0, 1, 0.5]]
    assert same["needed"].isna().all()
    bad = colours[colours["b"] == "bad"]
    assert (bad["needed"] <= 6).all()
    assert (bad["won"] == 1).all()


def test_spreads_need_several_samples(scored, paint):
    for what, name, samples in [("damaged", "one", 1), ("damaged", "many", 4)]:
        paint(what, name=name, samples=samples)
        scored(what, name)
    rows = read_rows([scored("damaged", "one"), scored("damaged", "many")], "none")
    found = spreads(rows).set_index("row")
    assert found.loc["one", ["seeds", "layouts", "mean"]].isna().all()
    many = values(rows[1]).reshape(-1, 4)  # a layout's samples are neighbours
    assert found.loc["many", "seeds"] == pytest.approx(np.sqrt(many.var(1, ddof=1).mean()))
    assert found.loc["many", "layouts"] > found.loc["many", "seeds"]


def test_the_text_says_what_is_significant(folders, rows):
    text = render(rows)
    assert "| colours | good - bad | +" in " ".join(text.split())
    assert "0.031 *" in text
    assert "Where ± comes from" not in text
    assert "nothing to compare" in render([row for row in rows if row.name != "bad"])


def test_the_command(folders, capsys):
    arguments = ["table", *map(str, folders), "--judge", "colours"]
    assert main([*arguments, "--pairs"]) == 0
    out = capsys.readouterr().out
    assert "good - bad" in out
    assert not re.search(r"\| guide +\|", out)
    assert "| colours " in out
    for form in ("csv", "latex", "json"):
        assert main(["table", *map(str, folders), "--pairs", "--format", form]) == 2
        assert "--pairs goes with --format md" in capsys.readouterr().err


def test_frames_of_one_method_are_empty(rows):
    assert isinstance(pairs([]), pd.DataFrame)
    assert pairs([row for row in rows if row.name == "good"]).empty
