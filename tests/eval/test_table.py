"""The table: measured beside cited figures, never mixed, in all its formats; and pairs of rows."""

import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from stand_ins import cells

from tcig.cli import main
from tcig.eval.comparison import pairs, render_pairs, spreads
from tcig.eval.images import Sizes
from tcig.eval.iou import NAMES, image_iou, reduce
from tcig.eval.judges import ColourJudge, Judge, Segmentation
from tcig.eval.records import read_scores, samples_of
from tcig.eval.rows import read_rows, result_of
from tcig.eval.score import score_images
from tcig.eval.statistics import by_layout, holm, interval, paired_test, parts
from tcig.eval.table import cited, measured, published, render

# MultiDiffusion, arXiv 2302.08113, Table 2; TCIG, arXiv 2403.01212, Table 1.
MULTIDIFFUSION = {
    "real": ("0.43", "0.09"),
    "si": ("0.16", "0.10"),
    "bld": ("0.17", "0.11"),
    "multidiffusion-no-bootstrap": ("0.18", "0.10"),
    "multidiffusion": ("0.26", "0.12"),
}
TCIG = {
    "si": ("0.16", "0.10"),
    "bld": ("0.17", "0.11"),
    "multidiffusion": ("0.26", "0.12"),
    "tcig": ("0.30", "0.26"),
}
CITED = {"MultiDiffusion Table 2 (cited)": MULTIDIFFUSION, "TCIG Table 1 (cited)": TCIG}
NEAR = {
    ("no mask", "mIoU %"): "11.7",
    ("MultiDiffusion", "mIoU %"): "24.8",
    ("MultiDiffusion", "FID"): "22.9",
    ("SpaText", "mIoU %"): "23.8",
    ("Paint-with-Words", "mIoU %"): "23.8",
    ("T2I-Adapter", "mIoU %"): "31.6",
    ("SDM", "mIoU %"): "29.3",
    ("OASIS", "mIoU %"): "41.4",
    ("OASIS", "FID"): "46.8",
    ("InstanceDiffusion", "AP %"): "27.1",
    ("InstanceDiffusion", "AP50 %"): "50.0",
    ("InstanceDiffusion", "IoU %"): "59.3 to 64.5",
    ("best before InstanceDiffusion", "IoU %"): "33.9 to 39.1",
    ("real images", "mIoU %"): "42.61",
}
MAIN = ["iou_image", "iou_region", "iou_dataset", "iou_foreground"]


class Upside(Judge):
    """A judge that sees every image upside down."""

    kind, identity = "built-in", "upside down"

    def segment(self, images):
        return [Segmentation(each.labels[::-1]) for each in ColourJudge().segment(images)]


@pytest.fixture
def runs(scored, tmp_path, layouts, manifest):
    """Scored runs of two methods, a ceiling, an oracle, a floor; a guide judged them too."""
    for what, name in [
        ("damaged", "real"), ("damaged", "tcig"), ("truth", "paste"), ("grey", "mine"),
        ("grey", "empty"),
    ]:  # fmt: skip
        folder = scored(what, f"runs/{name}")
        score_images(folder, layouts, manifest, ("guide", Upside()), Sizes(32, 32))
    return tmp_path / "runs"


def table(folders, names=(), form="md"):
    return render(result_of(folders, "none"), names, form)


def names_of(folders):
    """Names of the rows in the table."""
    return [row["row"] for row in cells(table(folders)) if row["judge"]]


def test_cited_figures_stand_in_their_columns_only(runs):
    rows = cells(table([runs], MAIN))
    first = ["row", "judge", "independent", "n", *MAIN, "of ceiling", "guide - judge"]
    assert list(rows[0]) == [*first, *CITED]
    printed = {" ± ".join(figure) for table in CITED.values() for figure in table.values()}
    for row in rows:
        method = row["row"].split(" (")[0]
        for column, figures in CITED.items():
            assert row[column] == " ± ".join(figures.get(method, ())), row
        for name in MAIN:
            assert row[name] not in printed
            assert bool(row[name]) == bool(row["judge"]) == bool(row["n"])
    unmeasured = [row["row"] for row in rows if not row["judge"]]
    assert unmeasured == ["si", "bld", "multidiffusion-no-bootstrap", "multidiffusion"]


def test_cited_figures_are_those_that_the_papers_print():
    found = {column: {} for column in CITED}
    for figure in cited():
        found[f"{figure.paper} {figure.table} (cited)"][figure.row] = figure.mean, figure.std
        assert (figure.status, figure.metric) == ("verified", "IoU")
    assert found == CITED
    assert {each.judge for each in cited()} == {"Mask2Former", "not stated"}
    others = [each for each in published() if each.group == "near"]
    assert [((each.row, each.metric), each.mean) for each in others] == list(NEAR.items())


@pytest.mark.parametrize("ignore", ["none", "dropped"])
def test_estimates_are_the_reductions_and_the_ceiling_is_given_both_ways(runs, ignore):
    result = result_of([runs], ignore)
    shown = cells(render(result, NAMES, "md"))
    ways = []
    for row, line in zip(result.rows, shown, strict=False):
        assert row.judged.ignore == ignore or row.row == "real"
        ways += [row.judged.ignore] if row.row == "real" else []
        scores = {score.judge: each for score, each in read_scores(runs / row.row)}
        samples = samples_of(scores[row.judge], row.judged.ignore)
        for name in NAMES:
            estimate, reduction = row.figures[name], reduce(samples, name)
            assert (estimate.mean, estimate.std, estimate.n) == reduction
            low, high = interval(by_layout(parts(samples, name), row.layouts))
            assert (estimate.low, estimate.high) == (low, high)
            text = f"{reduction.mean:.3f} ± {reduction.std:.3f}"
            bold = name == "iou_image" and row.row in ("tcig",)
            expected = f"**{text}**" if bold else text
            assert line[name] == f"{expected} [{low:.3f}, {high:.3f}]"
    assert ways == ["none", "dropped"] * 2


def test_csv_reads_back_exactly(runs):
    frame = measured([runs], "none")
    text = table([runs], MAIN, "csv")
    back = pd.read_csv(io.StringIO(text))
    cited = back[back["judge"].str.startswith("cited: ")]
    own = back[~back["judge"].str.startswith("cited: ")]
    for name in NAMES:
        for suffix in ("", "_std", "_n", "_low", "_high"):
            np.testing.assert_array_equal(own[name + suffix], frame[name + suffix])
        assert cited[name].isna().all()
    assert own[["published", "published_std"]].isna().all(axis=None)
    expected = {
        (row, f"cited: {column.removesuffix(' (cited)')}", *map(float, figure))
        for column, published in CITED.items()
        for row, figure in published.items()
    }
    columns = ["row", "judge", "published", "published_std"]
    assert set(cited[columns].itertuples(index=False, name=None)) == expected
    position = text.splitlines()[0].split(",").index("n")
    assert {line.split(",")[position] for line in text.splitlines()[1:]} == {"6", ""}


def test_latex_is_balanced_and_escaped(scored):
    folder = scored("damaged", "mine", row="my_row & 50% {of} $x #1 ~ ^ \\")
    text = table([folder], NAMES, "latex")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    for word in set(re.findall(r"\\begin{(\w+)}", body)):
        assert body.count(rf"\begin{{{word}}}") == body.count(rf"\end{{{word}}}")
    assert not re.search(r"(?<!\\)_", body)
    assert r"my\_row \& 50\% \{of\} \$x \#1" in body
    assert r"0.43 $\pm$ 0.09" in body
    assert "±" not in body
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    columns = 6 + len(NAMES) + len(CITED)
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}
    assert len(re.search(r"\\begin{tabular}{(\w+)}", body)[1]) == columns


def test_failed_samples_are_shown(scored, paint, record_run, layouts):
    folder = paint("damaged", name="tcig-1234")
    record_run(folder, method="tcig")
    (folder / f"{layouts[0].id}-0.png").unlink()
    failure = {"layout": layouts[0].id, "sample": 0, "error": "RuntimeError: no"}
    (folder / "rows.jsonl").write_text(json.dumps(failure) + "\n")
    row = cells(table([scored("damaged", "tcig-1234")], MAIN))[0]
    assert (row["row"], row["n"]) == ("tcig", "5 (1 failed)")


def test_rows_of_one_name_are_distinguished_by_their_run(scored, paint, record_run, capsys):
    names = ["runs/flat-1111", "runs/flat-2222", "runs/other-3333"]
    for name in names:
        record_run(paint("damaged", name=name), method=name[5:].split("-")[0])
        folder = scored("damaged", name)
    places = [folder.parent / name[5:] for name in names]
    assert names_of([*places, places[0]]) == ["flat (1111)", "flat (2222)", "other"]
    assert main(["table", str(folder.parent), "--pairs"]) == 0
    assert "| flat (1111) - flat (2222) |" in capsys.readouterr().out
    copied = folder.parent.parent / "copied" / "flat-1111"
    shutil.copytree(places[0], copied)
    assert names_of([places[0], copied]) == [f"flat ({places[0]})", f"flat ({copied})"]


def test_rows_that_cannot_stand_together_are_refused(
    scored, paint, layouts, manifest, tmp_path, refused
):
    one = scored("damaged", "one")
    other = scored("damaged", "other", manifest="abcdef12" + "0" * 56)
    with refused("abcdef12", "manifests"):
        result_of([one, other], "none")
    small = paint(name="small")
    score_images(small, layouts, manifest, ("colours", ColourJudge()), Sizes(32, 16))
    with refused("colours", "score_size", "32 and 16"):
        result_of([one, small], "none")
    (tmp_path / "file").touch()
    for folder, said in (
        (paint(name="unscored"), "holds no scores: run `tcig score`"),
        (tmp_path / "nowhere", "is not there"),
        (tmp_path / "file", "is a file"),
    ):
        with refused(folder, said):
            result_of([one, folder], "none")
    records = one / "scores" / "colours" / "rows.jsonl"
    records.write_bytes(records.read_bytes()[:-9])
    with refused(records.parent, "lacks 1 of 6 samples"):
        result_of([one], "none")


def test_rows_of_other_samples_and_other_sizes_say_so(paint, layouts, manifest):
    folders = [paint(name="a"), paint(name="b", size=64)]
    judge = ("colours", ColourJudge())
    for folder, resize in zip(folders, (False, True), strict=True):
        score_images(folder, layouts, manifest, judge, Sizes(32, 32, resize))
    note = "not all of the same samples"
    assert names_of(folders) == ["a", "b (resized)"]
    assert note not in table(folders, ["iou_image"])
    score_images(folders[1], layouts, manifest, judge, Sizes(32, 32, True), limit=2)
    assert note in table(folders, ["iou_image"])


def test_independent_judges_stand_above_those_that_guide(paint, layouts, manifest):
    folders = [paint(name="a"), paint(name="b")]
    for folder in folders:
        for name in ("guide", "miniature"):
            score_images(folder, layouts, manifest, (name, ColourJudge()), Sizes(32, 32))
    rows = [(row.judge, row.row) for row in result_of(folders, "none").rows]
    assert rows == [("miniature", "a"), ("miniature", "b"), ("guide", "a"), ("guide", "b")]


def test_a_row_judged_by_its_own_guide_says_so(paint, layouts, manifest, record_run):
    folders = {name: paint(name=name) for name in ("own", "other", "unguided")}
    identity = ColourJudge().identity
    record_run(folders["own"], method="own", weights={"guide x": identity})
    record_run(folders["other"], method="other", weights={"guide x": "0", "clip": identity})
    for folder in folders.values():
        score_images(folder, layouts, manifest, ("colours", ColourJudge()), Sizes(32, 32))
    assert names_of(folders.values()) == ["own (judged by its guide)", "other", "unguided"]


def of(result, row, judge="colours", ignore="none"):
    """The comparison of one row."""
    (found,) = (each for each in result.rows if each.key == (row, judge, ignore))
    return found.comparison


def test_rows_are_compared_with_the_ceiling_the_best_and_another_judge(runs):
    rows = read_rows([runs], "none")
    result = result_of([runs], "none")
    values = {(row.score.row, row.judge, row.ignore): row.value_of() for row in rows}
    for judge in ("colours", "guide"):
        assert of(result, "real", judge).ceiling_share == 1
        assert of(result, "real", judge, "dropped").ceiling_share == 1
        assert of(result, "tcig", judge).ceiling_share == pytest.approx(1)  # the same images
        assert of(result, "mine", judge).ceiling_share == 0
    assert of(result, "tcig").p_best == 1
    assert of(result, "mine").p_best == 2 / 2**6, "all six differences have one sign"
    for name in ("real", "paste", "empty"):
        assert of(result, name).p_best is None, "not methods"
    for name in ("tcig", "mine", "paste"):
        assert of(result, name).leakage is None
        upside, plain = (values[name, judge, "none"] for judge in ("guide", "colours"))
        ids = next(row.layouts for row in rows if row.score.row == name)
        expected = paired_test(upside, plain, ids, ids)
        assert of(result, name, "guide").leakage == pytest.approx(expected[:3])
    alone = result_of([runs / "tcig"], "none")
    assert of(alone, "tcig").ceiling_share is of(alone, "tcig").p_best is None


def test_pairs_are_adjusted_within_a_judge(runs, scored, paint):
    for name, samples in (("first", 1), ("second", 3)):
        paint("damaged", name=f"runs/{name}", samples=samples)
        scored("damaged", f"runs/{name}")
    result = result_of([runs], "none")
    found = pairs(result.rows).set_index("judge").loc["colours"]
    assert {*found["a"], *found["b"]} == {"tcig", "mine", "first", "second"}
    assert len(found) == 6
    assert (found["difference"] >= 0).all()
    rows = {row.row: row for row in result.rows if row.judge == "colours"}
    tests = [
        paired_test(rows[a].value_of(), rows[b].value_of(), rows[a].layouts, rows[b].layouts)
        for a, b in zip(found["a"], found["b"], strict=True)
    ]
    assert found["p"].tolist() == holm([test.p for test in tests]).tolist()
    same = found[found[["a", "b"]].isin(["tcig", "first"]).all(axis=1)]
    assert same[["difference", "p", "won"]].to_numpy().tolist() == [[0, 1, 0.5]]
    assert same["needed"].isna().all()
    bad = found[found["b"] == "mine"]
    assert (bad["needed"] <= 6).all()
    assert (bad["won"] == 1).all()


def test_spreads_need_several_samples(scored, paint):
    for name, samples in [("one", 1), ("many", 4)]:
        paint("damaged", name=name, samples=samples)
    folders = [scored("damaged", name) for name in ("one", "many")]
    rows = result_of(folders, "none").rows
    found = spreads(rows).set_index("row")
    assert found.loc["one", ["seeds", "layouts", "mean"]].isna().all()
    many = image_iou(read_rows(folders, "none")[1].samples).reshape(-1, 4)
    assert found.loc["many", "seeds"] == pytest.approx(np.sqrt(many.var(1, ddof=1).mean()))
    assert "Where ± comes from" in render_pairs(rows)
    assert "nothing to compare" in render_pairs(rows[:1])
    assert pairs([]).empty


def run(capsys, *arguments):
    status = main(["table", *map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_the_command_prints_the_table(runs, capsys):
    assert run(capsys, runs) == (0, table([runs], MAIN), "")
    _, out, _ = run(capsys, runs, "--judge", "guide", "--pairs")
    assert {row["judge"] for row in cells(out.split("\n\n")[0])} == {"guide", ""}
    assert "| guide   | tcig - mine | +" in out
    assert "0.031 *" in out


def test_one_call_writes_what_each_form_prints(runs, tmp_path, capsys):
    out = tmp_path / "tables"
    assert run(capsys, runs, "--out", out, "--ignore", "dropped")[0] == 0
    forms = {
        "table.md": [],
        "table.csv": ["--format", "csv"],
        "table.tex": ["--format", "latex"],
        "pairs.md": ["--pairs", "--reductions", "iou_image"],
    }
    assert {path.name for path in out.iterdir()} == {*forms, "result.json"}
    for name, arguments in forms.items():
        printed = run(capsys, runs, "--ignore", "dropped", *arguments)[1]
        assert (out / name).read_text() == printed, name
    printed = json.loads(run(capsys, runs, "--ignore", "dropped", "--format", "json")[1])
    assert json.loads((out / "result.json").read_text())["rows"] == printed["rows"]
    for arguments in (["--format", "csv"], ["--pairs"], ["--quality"], ["--judge", "colours"]):
        status, _, err = run(capsys, runs, "--out", out, *arguments)
        assert status == 2
        assert f"leave out {arguments[0]}" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reductions", "iou_imag"], "'iou_imag': there are iou_image"),
        (["--reductions", "iou_image_with_background_with_background"], "with_background"),
        (["--judge", "mask2former"], "mask2former"),
        (["--judge", "colours", "--format", "json"], "leave out --judge"),
        (["--pairs", "--format", "csv"], "--pairs goes with --format md"),
        (["--quality"], "run `tcig quality` first"),
    ],
)
def test_the_command_refuses_in_one_line(scored, capsys, arguments, said):
    status, out, err = run(capsys, scored("damaged", "mine"), *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert run(capsys)[0] == 2
