"""The table: measured beside cited figures, never mixed, and the three formats."""

import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from tcig.cli import main
from tcig.eval.iou import NAMES, Samples, reduce
from tcig.eval.judges import ColourJudge
from tcig.eval.score import Sizes, score_images
from tcig.eval.statistics import by_layout, interval, parts
from tcig.eval.stored import dense, read_scores
from tcig.eval.table import figures, measured, render

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
MAIN = ["iou_image", "iou_region", "iou_dataset", "iou_foreground"]


@pytest.fixture
def runs(scored, tmp_path):
    """A folder of four scored runs, two of them of methods with published figures."""
    for what, name in [
        ("damaged", "runs/real"), ("damaged", "runs/tcig"), ("truth", "runs/paste"),
        ("grey", "runs/mine"),
    ]:  # fmt: skip
        scored(what, name, ("colours", "strict"))
    return tmp_path / "runs"


def cells(markdown):
    """Markdown table -> one dictionary per line."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def exact(folder, field="confusion"):
    """The reductions of a folder's first judge, from its rows."""
    _, rows = next(read_scores(folder))
    return Samples.of([dense(row[field]) for row in rows], [row["classes"] for row in rows])


def test_cited_figures_stand_in_their_columns_only(runs):
    rows = cells(render(measured([runs], "none"), MAIN, "md"))
    assert list(rows[0]) == [
        "row",
        "judge",
        "independent",
        "n",
        *MAIN,
        "of ceiling",
        "guide - judge",
        *CITED,
    ]
    printed = {" ± ".join(figure) for table in CITED.values() for figure in table.values()}
    for row in rows:
        method = row["row"].split(" (")[0]
        for column, table in CITED.items():
            assert row[column] == " ± ".join(table.get(method, ())), row
        for name in MAIN:
            assert row[name] not in printed
            if row["judge"]:
                figure = r"[01]\.\d{3} ± 0\.\d{3}"
                assert re.fullmatch(rf"(\*\*{figure}\*\*|{figure}) \[.+, .+\]", row[name])
            else:
                assert row[name] == row["n"] == ""


def test_unmeasured_published_rows_follow_once(runs):
    rows = cells(render(measured([runs], "none"), MAIN, "md"))
    names = [row["row"] for row in rows if not row["judge"]]
    assert names == ["si", "bld", "multidiffusion-no-bootstrap", "multidiffusion"]
    assert [bool(row["judge"]) for row in rows] == sorted(bool(r["judge"]) for r in rows)[::-1]


def test_measured_figures_are_the_reductions(runs):
    found = {
        (r["row"], r["judge"]): r for r in cells(render(measured([runs], "none"), NAMES, "md"))
    }
    layouts = [layout for layout, _ in next(read_scores(runs / "tcig"))[0].samples]
    for name in NAMES:
        samples = exact(runs / "tcig")
        mean, std, _ = reduce(samples, name)
        for judge in ("colours", "strict"):
            low, high = interval(by_layout(parts(samples, name), layouts))
            bold = "**" if name == "iou_image" else ""
            figure = f"{bold}{mean:.3f} ± {std:.3f}{bold} [{low:.3f}, {high:.3f}]"
            assert found["tcig", judge][name] == figure
            assert found["paste (oracle)", judge][name] == "1.000 ± 0.000 [1.000, 1.000]"
    assert found["mine", "colours"]["iou_image"] == "0.000 ± 0.000 [0.000, 0.000]"
    assert found["mine", "colours"]["n"] == "6"


def test_rows_come_judge_by_judge_in_the_order_of_the_folders(runs):
    folders = [runs / "tcig", runs / "mine"]
    frame = measured(folders, "none")
    assert list(zip(frame["judge"], frame["row"], strict=True)) == [
        (judge, row) for judge in ("colours", "strict") for row in ("tcig", "mine")
    ]
    assert list(measured(folders[::-1], "none")["row"]) == ["mine", "tcig"] * 2


@pytest.mark.parametrize("ignore", ["none", "dropped"])
def test_measured_values_are_exact_and_the_ceiling_is_given_both_ways(runs, ignore):
    frame = measured([runs], ignore)
    field = {"none": "confusion", "dropped": "confusion_ignoring_dropped"}
    assert reduce(exact(runs / "tcig"), "iou_image") != reduce(
        exact(runs / "tcig", field["dropped"]), "iou_image"
    )
    for record in frame.to_dict("records"):
        assert record["ignore"] == ignore or record["row"] == "real"
        samples = exact(runs / record["row"], field[record["ignore"]])
        for name in NAMES:
            values = tuple(record[name + suffix] for suffix in ("", "_std", "_n"))
            assert values == reduce(samples, name)
    assert list(frame[frame["row"] == "real"]["ignore"]) == ["none", "dropped"] * 2


def test_csv_reads_back_exactly(runs):
    frame = measured([runs], "none")
    text = render(frame, MAIN, "csv")
    back = pd.read_csv(io.StringIO(text))
    cited = back[back["judge"].str.startswith("cited: ")]
    own = back[~back["judge"].str.startswith("cited: ")]
    for name in NAMES:
        for suffix in ("", "_std", "_n"):
            np.testing.assert_array_equal(own[name + suffix], frame[name + suffix])
        assert cited[name].isna().all()
    assert own["published"].isna().all()
    assert own["published_std"].isna().all()
    expected = {
        (row, f"cited: {column.removesuffix(' (cited)')}", *map(float, figure))
        for column, table in CITED.items()
        for row, figure in table.items()
    }
    columns = ["row", "judge", "published", "published_std"]
    assert set(cited[columns].itertuples(index=False, name=None)) == expected
    assert len(cited) == len(expected)


def test_csv_counts_are_whole_numbers(runs):
    lines = render(measured([runs], "none"), MAIN, "csv").splitlines()
    position = lines[0].split(",").index("n")
    assert {line.split(",")[position] for line in lines[1:]} == {"6", ""}


def test_latex_is_balanced_and_escaped(scored):
    folder = scored("damaged", "mine", row="my_row & 50% {of} $x #1 ~ ^ \\")
    text = render(measured([folder], "none"), NAMES, "latex")
    table = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    for word in set(re.findall(r"\\begin{(\w+)}", table)):
        assert table.count(rf"\begin{{{word}}}") == table.count(rf"\end{{{word}}}")
    assert r"\begin{tabular}" in table
    assert not re.search(r"(?<!\\)_", table)
    assert r"my\_row \& 50\% \{of\} \$x \#1" in table
    assert r"0.43 $\pm$ 0.09" in table
    assert "±" not in table
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    columns = 6 + len(NAMES) + len(CITED)
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}
    assert len(re.search(r"\\begin{tabular}{(\w+)}", table)[1]) == columns


@pytest.mark.parametrize("name", ["a|b", "007", "1e3"])
def test_a_row_may_have_any_name(scored, name):
    folder = scored("damaged", "mine", row=name)
    first = cells(render(measured([folder], "none"), MAIN, "md"))[0]
    assert first["judge"] == "colours"
    assert first["row"].replace("\\|", "|") == name


def test_the_notes_say_what_the_deviation_is_over(runs):
    for form in ("md", "latex"):
        text = render(measured([runs], "none"), ["iou_region", "iou_image_with_background"], form)
        assert "iou_region: (image, class) pairs" in text
        assert "iou_image_with_background: images" in text
        assert "divided by n" in text
        assert "iou_dataset" not in text


def test_failed_samples_are_shown(scored, paint, record_run, layouts):
    folder = paint("damaged", name="tcig-1234")
    record_run(folder, method="tcig")
    (folder / f"{layouts[0].id}-0.png").unlink()
    failure = {"layout": layouts[0].id, "sample": 0, "error": "RuntimeError: no"}
    (folder / "rows.jsonl").write_text(json.dumps(failure) + "\n")
    frame = measured([scored("damaged", "tcig-1234")], "none")
    assert (frame["n"][0], frame["failed"][0]) == (5, 1)
    assert cells(render(frame, MAIN, "md"))[0]["n"] == "5 (1 failed)"
    assert figures(frame, MAIN)["row"][0] == "tcig"


def test_nothing_to_reduce_is_a_dash(scored):
    frame = measured([scored("damaged", "mine")], "none")
    frame[["iou_image", "iou_image_std"]] = np.nan
    assert cells(render(frame, ["iou_image"], "md"))[0]["iou_image"] == "-"


def test_the_same_folder_twice_is_one_row(runs):
    assert len(measured([runs, runs / "tcig"], "none")) == len(measured([runs], "none"))


def test_rows_of_one_name_are_told_apart_by_their_run(scored, paint, record_run, capsys):
    names = ["runs/flat-1111", "runs/flat-2222", "runs/other-3333"]
    for name in names:
        record_run(paint("damaged", name=name), method=name[5:].split("-")[0])
        folder = scored("damaged", name)
    places = [folder.parent / name[5:] for name in names]
    frame = measured(places, "none")
    shown = figures(frame, [])["row"][:3].tolist()
    assert shown == ["flat (1111)", "flat (2222)", "other"]
    assert main(["table", str(folder.parent), "--pairs"]) == 0
    assert "| flat (1111) - flat (2222) |" in capsys.readouterr().out
    copied = folder.parent.parent / "copied" / "flat-1111"
    copied.parent.mkdir()
    shutil.copytree(places[0], copied)
    shown = figures(measured([places[0], copied], "none"), [])["row"][:2].tolist()
    assert shown == [f"flat ({places[0]})", f"flat ({copied})"]


def test_rows_of_other_layouts_are_refused(scored, refused):
    one, other = (
        scored("damaged", "one"),
        scored("damaged", "other", manifest="abcdef12" + "0" * 56),
    )
    with refused("abcdef12", "manifests"):
        measured([one, other], "none")


def test_folders_without_or_with_unfinished_scores_are_refused(scored, paint, tmp_path, refused):
    (tmp_path / "file").touch()
    for folder, said in (
        (paint(name="unscored"), "holds no scores: run `tcig score`"),
        (tmp_path / "nowhere", "is not there"),
        (tmp_path / "file", "is a file"),
    ):
        with refused(folder, said):
            measured([scored("grey", "mine"), folder], "none")
    rows = scored("damaged", "torn") / "scores" / "colours" / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-9])
    with refused(rows.parent, "lacks 1 of 6 samples"):
        measured([tmp_path / "torn"], "none")


def run(capsys, *arguments):
    status = main(["table", *map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_the_command_prints_the_table(runs, capsys):
    status, out, err = run(capsys, runs)
    assert (status, err) == (0, "")
    assert out == render(measured([runs], "none"), MAIN, "md")
    for form in ("csv", "latex"):
        arguments = ("--format", form, "--ignore", "dropped", "--reductions", *NAMES[::2])
        status, out, _ = run(capsys, runs / "mine", runs / "real", *arguments)
        assert status == 0
        assert out == render(measured([runs / "mine", runs / "real"], "dropped"), NAMES[::2], form)
    status, out, _ = run(capsys, runs, "--judge", "strict", "--reductions", "iou_image")
    assert {row["judge"] for row in cells(out)} == {"strict", ""}


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
        (["--reductions", "iou_image", "mIoU"], "mIoU"),
        (["--reductions", "iou_image_with_background_with_background"], "with_background"),
        (["--judge", "mask2former"], "mask2former"),
        (["--format", "html"], "html"),
        (["--ignore", "people"], "people"),
        (["--colour"], "--colour"),
    ],
)
def test_the_command_refuses_in_one_line(scored, capsys, arguments, said):
    folder = scored("damaged", "mine")
    try:
        status, out, err = run(capsys, folder, *arguments)
    except SystemExit as stop:  # tyro's own refusal of an unknown option
        output = capsys.readouterr()
        status, out, err = stop.code, output.out, output.err
        assert status == 2
    else:
        assert err.count("\n") == 1
    assert status == 2
    assert out == ""
    assert said in err


def test_the_command_without_a_folder_or_scores_is_refused(tmp_path, capsys):
    for arguments in ([], [tmp_path]):
        status, out, err = run(capsys, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("tcig: error: ")


def test_rows_of_one_judge_under_other_conditions_are_refused(paint, layouts, manifest, refused):
    folders = [paint(name="a"), paint(name="b")]
    judge = ("colours", ColourJudge())
    score_images(folders[0], layouts, manifest, judge, Sizes(32, 32))
    score_images(folders[1], layouts, manifest, judge, Sizes(32, 16))
    with refused("colours", "score_size", "32 and 16"):
        measured(folders, "none")


def test_rows_of_other_samples_are_footnoted(paint, layouts, manifest):
    folders = [paint(name="a"), paint(name="b")]
    judge = ("colours", ColourJudge())
    for folder in folders:
        score_images(folder, layouts, manifest, judge, Sizes(32, 32))
    note = "not all of the same samples"
    assert note not in render(measured(folders, "none"), ["iou_image"], "md")
    score_images(folders[1], layouts, manifest, judge, Sizes(32, 32), limit=2)
    assert note in render(measured(folders, "none"), ["iou_image"], "md")


def test_independent_judges_stand_above_those_that_guide(paint, layouts, manifest):
    folders = [paint(name="a"), paint(name="b")]
    for folder in folders:
        for name in ("guide", "miniature"):
            score_images(folder, layouts, manifest, (name, ColourJudge()), Sizes(32, 32))
    frame = measured(folders, "none")
    rows = list(zip(frame["judge"], frame["row"], strict=True))
    assert rows == [("miniature", "a"), ("miniature", "b"), ("guide", "a"), ("guide", "b")]


def test_a_resized_row_says_so(paint, layouts, manifest):
    folders = [paint(name="a"), paint(name="b", size=64)]
    for folder, resize in zip(folders, (False, True), strict=True):
        score_images(folder, layouts, manifest, ("colours", ColourJudge()), Sizes(32, 32, resize))
    assert list(figures(measured(folders, "none"), [])["row"][:2]) == ["a", "b (resized)"]


def test_a_row_judged_by_its_own_guide_says_so(paint, layouts, manifest, record_run):
    folders = {name: paint(name=name) for name in ("own", "other", "unguided")}
    identity = ColourJudge().identity
    record_run(folders["own"], method="own", weights={"guide x": identity})
    record_run(folders["other"], method="other", weights={"guide x": "0", "clip": identity})
    for folder in folders.values():
        score_images(folder, layouts, manifest, ("colours", ColourJudge()), Sizes(32, 32))
    frame = measured(list(folders.values()), "none")
    assert frame["guided"].tolist() == [True, False, False]
    shown = figures(frame, [])["row"][:3].tolist()
    assert shown == ["own (judged by its guide)", "other", "unguided"]
