"""A result holds what its folders do, comes back from its file, and is compared or refused."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tcig
from tcig.cli import main
from tcig.eval import provenance as made
from tcig.eval.comparison import compare
from tcig.eval.images import Sizes
from tcig.eval.iou import foreground_iou, image_iou
from tcig.eval.judges import ColourJudge
from tcig.eval.results import Result, dump, read_result
from tcig.eval.rows import read_rows, result_of
from tcig.eval.score import score_images

ROOT = Path(__file__).parents[2]
COMMAND = ["tcig", "table", "a folder"]


@pytest.fixture
def folder(paint, record_run, scored):
    """A run of two samples, one row of which failed once."""
    folder = paint("damaged", name="run", samples=2)
    record_run(folder, samples=2, weights=[("guide x", "abc"), ("diffusion", "def")])
    record = json.loads((folder / "run.json").read_text())
    record["spec"] |= {"version": 3, "options": {"steps": 4, "first": {"rate": 0.1}}}
    (folder / "run.json").write_text(json.dumps(record))
    rows = [
        {"layout": "1", "sample": 0, "error": None, "seconds": 2.0, "peak_mib": 70}
        | {"device": "cpu x", "versions": {"torch": "2"}, "peak_device_mib": None},
        {"layout": "1", "sample": 1, "error": None, "seconds": 4.0, "peak_mib": 90}
        | {"device": "an H100", "versions": {"torch": "2"}, "peak_device_mib": 500},
        {"layout": "5", "sample": 1, "error": "lost", "seconds": 99.0, "device": "cpu x"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text + '{"layout": "6", "sam')
    return scored("damaged", "run")


@pytest.fixture
def result(folder):
    return result_of([folder], "none", COMMAND)


def test_it_holds_what_the_folders_do(folder, result):
    (row,), (read,) = result.rows, read_rows([folder], "none")
    assert row.key == ("tcig", "colours", "none")
    assert row.layouts == read.layouts
    for name, values in (("iou_image", image_iou), ("iou_foreground", foreground_iou)):
        np.testing.assert_allclose(row.value_of(name), values(read.samples), atol=1e-6)
    drawn = row.drawn
    assert (drawn.seconds, drawn.peak_mib, drawn.peak_device_mib) == (3.0, 90, 500)
    assert drawn.devices == ["an H100", "cpu x"]
    assert drawn.spec.options["first"] == {"rate": 0.1}
    assert row.judged.identity == ColourJudge().identity


def test_it_comes_back_from_its_file(result, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(dump(result))
    assert dump(read_result(path)) == dump(result)
    assert list(read_result(path).to_frame()) == list(result.to_frame())
    json.loads(dump(result), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert sum(line.startswith('{"row"') for line in dump(result).splitlines()) == 1


def test_the_committed_schema_is_its_own():
    committed = json.loads((ROOT / "results" / "schema.json").read_text())
    assert committed == Result.model_json_schema()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[1]", "not a result of schema"),
        ('{"schema_version": 7}', "not a result of schema 1 (but 7)"),
        (
            '{"schema_version": 1, "manifest": "m", "rows": []}',
            "not a result (made: Field required)",
        ),
    ],
)
def test_what_is_no_result(text, said, tmp_path, refused):
    path = tmp_path / "result.json"
    if text:
        path.write_text(text)
    with refused(path, said):
        read_result(path)


def test_where_it_comes_from(result, tmp_path, monkeypatch):
    assert result.made.command == "tcig table 'a folder'"
    assert result.made.packages["torch"] == version("torch")
    assert result.made.at.endswith("+00:00")
    monkeypatch.setattr(tcig, "__file__", str(tmp_path / "tcig" / "__init__.py"))
    assert made.provenance(COMMAND).revision is None

    def git(*arguments):
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *name, *arguments], cwd=tmp_path, capture_output=True)
        return done.stdout.decode().strip()

    (tmp_path / "file").write_text("one")
    git("init", "-q")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    (tmp_path / "other").write_text("not tracked")
    found = made.provenance(COMMAND)
    assert (found.revision, found.dirty) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "file").write_text("two")
    assert made.provenance(COMMAND).dirty


def changed(result, **changes):
    """A copy of which all rows are judged otherwise."""
    rows = [
        row.model_copy(update={"judged": row.judged.model_copy(update=changes)})
        for row in result.rows
    ]
    return result.model_copy(update={"rows": rows})


def renamed(result, name):
    return result.model_copy(
        update={"rows": [row.model_copy(update={"row": name}) for row in result.rows]}
    )


def shifted(result, amount, samples=None):
    """Whose values are larger, and fewer."""
    rows = []
    for row in result.rows:
        found = [value + amount for value in row.values["iou_image"]][:samples]
        values = {"iou_image": found, "iou_foreground": row.values["iou_foreground"][:samples]}
        update = {"values": values, "samples": row.samples[:samples]}
        rows.append(row.model_copy(update=update))
    return result.model_copy(update={"rows": rows})


def test_a_result_against_itself_and_against_a_better_one(result):
    (line,) = compare(result, result, "iou_image")
    assert (line.paired.difference, line.p, line.notes) == (0, 1, ())
    (line,) = compare(result, shifted(result, 0.125), "iou_image")
    assert line.paired.difference == pytest.approx(0.125)
    assert line.second == pytest.approx(line.first + 0.125)
    assert line.p == 2 / 2**6


def test_only_samples_of_both_count(result):
    (line,) = compare(result, shifted(result, 0.125, samples=5), "iou_image")
    assert line.paired.n == 3
    assert line.paired.difference == pytest.approx(0.125)
    assert "12 and 5 samples" in line.notes
    assert line.second == pytest.approx(line.first + 0.125)
    values = result.rows[0].values["iou_image"][:5]
    layouts = [layout for layout, _ in result.rows[0].samples[:5]]
    means = pd.Series(values).groupby(layouts).mean()
    assert line.first == pytest.approx(means.mean())
    assert line.second - line.first == pytest.approx(line.paired.difference)


def test_rows_of_one_side_are_named(result, tmp_path, capsys):
    both = {
        "one": ("tcig", "ours", "mine"),
        "two": ("tcig", "theirs"),
    }
    for name, rows in both.items():
        some = result.model_copy(
            update={"rows": [row for each in rows for row in renamed(result, each).rows]}
        )
        (tmp_path / f"{name}.json").write_text(dump(some))
    assert main(["compare", *(str(tmp_path / f"{name}.json") for name in both)]) == 0
    out = capsys.readouterr().out
    assert "one.json: ours, mine\n" in out
    assert "two.json: theirs\n" in out


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        (lambda r: r.model_copy(update={"manifest": "f" * 64}), ["different layouts", "ffffffff"]),
        (lambda r: changed(r, judge="mask2former"), ["no judge in common", "mask2former"]),
        (lambda r: changed(r, identity="other"), ["colours differ in identity", "other"]),
        (lambda r: changed(r, identity="VOC palette, revision 2"), ["differ in identity"]),
        (lambda r: changed(r, score_size=64), ["score_size (32 and 64)"]),
        (lambda r: changed(r, image_size=64), ["image_size (32 and 64)"]),
        (lambda r: changed(r, ignore="dropped"), ["dropped objects count differently"]),
        (
            lambda r: r.model_copy(update={"rows": r.rows * 2}),
            ["two rows tcig under the judge colours", "--name"],
        ),
        (lambda r: renamed(r, "mine"), ["no row in common", "tcig in one, mine in the other"]),
    ],
)
def test_what_differs_in_conditions_is_refused_with_the_reason(other, parts, result, refused):
    with refused(*parts):
        compare(result, other(result), "iou_image")


def test_what_else_differs_is_noted(result):
    (row,) = result.rows
    spec = row.drawn.spec.model_copy(
        update={
            "options": {"steps": 5, "first": {"rate": 0.2}},
            "weights": {"diffusion": "other", "guide x": "abc"},
        }
    )
    drawn = row.drawn.model_copy(update={"spec": spec, "devices": ["cpu x"]})
    other = result.model_copy(update={"rows": [row.model_copy(update={"drawn": drawn})]})
    (line,) = compare(result, other, "iou_image")
    assert line.notes == (
        "options first rate: 0.1 and 0.2",
        "options steps: 4 and 5",
        "weights diffusion: def and other",
        "drawn on an H100, cpu x and on cpu x",
    )


@pytest.fixture
def files(result, tmp_path):
    """A result and one shifted by 0.02."""
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path, amount in zip(paths, (0.0, 0.02), strict=True):
        path.write_text(dump(shifted(result, amount)))
    return [str(path) for path in paths]


@pytest.mark.parametrize(
    ("text", "status"),
    [("row,tolerance\ntcig,0.03\n", 0), ("row,tolerance\ntcig,0.01\n", 1), ("row,tolerance\n", 1)],
)
def test_a_tolerance_is_kept_or_not(text, status, files, tmp_path, capsys):
    (tmp_path / "tolerance.csv").write_text(text)
    arguments = ["compare", *files, "--within", str(tmp_path / "tolerance.csv")]
    assert main(arguments) == status
    out = capsys.readouterr().out
    assert "+0.020" in out
    assert ("BEYOND" in out) == ("beyond their tolerance" in out) == bool(status)
    assert main([*arguments[:2], files[0], *arguments[3:]]) == 0, "against itself"


def test_tolerances_are_measured_on_two_machines(result, files, tmp_path, capsys):
    path = tmp_path / "tolerance.csv"
    assert main(["compare", *files, "--measure", str(path)]) == 0
    assert path.read_text() == "row,tolerance\ntcig,0.03\n", "a shift without spread"
    (row,) = result.rows
    values = [v + (0.1 if n % 4 < 2 else -0.1) for n, v in enumerate(row.values["iou_image"])]
    other = row.model_copy(update={"values": row.values | {"iou_image": values}})
    (tmp_path / "two.json").write_text(dump(result.model_copy(update={"rows": [other]})))
    main(["compare", *files, "--measure", str(path)])
    half = 2.5706 * 0.1 / np.sqrt(5)  # Student's t of 5 degrees; six layouts of ±0.1
    assert float(path.read_text().split(",")[-1]) == pytest.approx(0.01 + half, abs=2e-4)


def test_the_command_refuses_in_one_sentence(files, folder, layouts, manifest, paint, capsys):
    other = paint("truth", name="other")
    score_images(other, layouts, "ab" * 32, ("colours", ColourJudge()), Sizes(32, 32))
    for arguments, said in [
        ([files[0], str(other)], "different layouts"),
        ([files[0], files[1], "--judge", "nobody"], "no row of both was scored by 'nobody'"),
        ([files[0], files[1], "--within", "nowhere.csv"], "nowhere.csv holds no tolerances"),
        ([files[0], "nowhere.json"], "nowhere.json cannot be read"),
        ([*files, "--reduction", "iou_dataset"], "iou_dataset cannot be compared sample by sample"),
    ]:
        assert main(["compare", *arguments]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert main(["table", str(folder), "--format", "json", "--judge", "colours"]) == 2
