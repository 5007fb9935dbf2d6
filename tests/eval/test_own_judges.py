"""Judges from outside: named, loaded, checked, guarded, recorded; and label maps made elsewhere."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tcig.cli import main
from tcig.data.files import InputError
from tcig.data.voc import COLOURS
from tcig.eval.images import Sizes
from tcig.eval.judges import ColourJudge, check_maps, judge_name, load_judge
from tcig.eval.rows import read_rows
from tcig.eval.score import score_images

JUDGE = """
import sys
import numpy as np
from tcig.data.voc import COLOURS
from tcig.eval.judges import Judge

class Look(Judge):
    identity = "VOC colours by table"
    def segment(self, images):
        return [self.label(np.asarray(image)) for image in images]
    def label(self, pixels):
        labels = np.zeros(pixels.shape[:2], int)
        for index, colour in enumerate(COLOURS):
            labels[(pixels == colour).all(-1)] = index
        {body}
        return labels
"""


@pytest.fixture
def judge_file(tmp_path):
    """Writes a judge; how it is named on the command line."""

    def write(body="pass", text=JUDGE, name="own.py"):
        path = tmp_path / name
        path.write_text(text.format(body=body))
        return f"{path}:Look"

    return write


@pytest.fixture
def score_by(paint, manifest_file, capsys):
    """Scores a painted folder by `tcig score`; its status and what it said."""

    def run(folder, *arguments):
        given = ["--layouts", manifest_file, "--profile", "tiny.toml", *arguments]
        status = main([str(each) for each in ("score", folder, *given)])
        return status, capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def _tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = 'size = 32\nscore_size = 32\njudges = ["colours"]\nbatch = 2\n'
    (tmp_path / "tiny.toml").write_text(text)


def counts(place):
    lines = (place / "rows.jsonl").read_text().splitlines()
    return {row["layout"]: row["confusion"] for row in map(json.loads, lines)}


def test_a_judge_from_a_file_counts_as_the_built_in_one(paint, score_by, judge_file):
    folder, spec = paint("damaged"), judge_file()
    assert score_by(folder, "--judge", "colours", spec)[0] == 0
    own, built_in = (folder / "scores" / name for name in ("Look", "colours"))
    assert counts(own) == counts(built_in)
    score = json.loads((own / "score.json").read_text())
    assert score["kind"] == "plug-in"
    assert score["identity"].startswith("VOC colours by table code ")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sys.exit(0)", r"failed: ExitError: .+ \(line 15 of own\.py\)"),
        ("1 / 0", r"failed: ZeroDivisionError: division by zero \(line 15 of own\.py\)"),
        ("return labels[:16]", r"shape \(16, 32\) for an image of 32x32; expected \(32, 32\)"),
        ("return labels[:, :20]", r"shape \(32, 20\)"),
        ("return labels[None]", r"shape \(1, 32, 32\)"),
        ("return labels[:0]", r"shape \(0, 32\)"),
        ("return labels / 2", "type float64; expected integers"),
        ("return labels > 0", "type bool; expected integers"),
        ("labels[0, 0] = 255", "label 255; expected .+ map 255, VOC's unlabelled border, to 0"),
        ("labels[0, 0] = 21", "label 21; expected integers from 0 to 20"),
        ("labels[0, 0] = -1", "label -1"),
        ("return 'cat'", "shape"),
        ("return None", "shape"),
    ],
)
def test_what_is_no_label_map_is_refused(paint, score_by, judge_file, body, said):
    folder = paint("damaged")
    status, printed = score_by(folder, "--judge", judge_file(body))
    assert status == 2
    assert pd.Series([printed.err]).str.contains(f"the judge Look .*{said}", regex=True).all()
    assert printed.err.count("\n") == 1


def test_the_number_of_maps_is_checked(paint, score_by, judge_file):
    text = JUDGE.replace("for image in images]", "for image in images][1:]")
    status, printed = score_by(paint("truth"), "--judge", judge_file(text=text))
    assert status == 2
    assert "gave 5 label maps for 6 images" in printed.err
    for maps in (None, 3, "x", iter([])):
        with pytest.raises(InputError, match="for 1 images"):
            check_maps("Look", maps, [Image.new("RGB", (8, 8))])


def test_what_was_scored_before_a_judge_fails_is_kept(paint, score_by, judge_file, monkeypatch):
    monkeypatch.setattr("tcig.eval.images.BATCH", 1)
    folder, count = paint("damaged"), "self.n = getattr(self, 'n', 0) + 1"
    failing = judge_file(f"{count}\n        if self.n > 4: 1 / 0")
    assert score_by(folder, "--judge", failing)[0] == 2
    place = folder / "scores" / "Look"
    assert 0 < len(counts(place)) < 6
    whole = paint("damaged", name="whole")
    for each in (folder, whole):
        assert score_by(each, "--judge", judge_file())[0] == 0
    assert counts(place) == counts(whole / "scores" / "Look")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("own.py:Other", "has no class Other that is a tcig.eval.judges.Judge; there are Look"),
        ("own.py", "names no class"),
        ("none.py:Look", "no file none.py to take the judge Look from"),
        ("own.py:colours", "tcig has a judge colours of its own"),
        ("colour", "did you mean colours"),
    ],
)
def test_judges_that_cannot_be_had(judge_file, spec, said):
    judge_file()
    with pytest.raises(InputError, match=said):
        load_judge(spec)


@pytest.mark.parametrize("identity", ["3", "None", "''", "b'x'"])
def test_a_judge_needs_an_identity(judge_file, identity):
    text = JUDGE.replace('"VOC colours by table"', identity)
    with pytest.raises(InputError, match="identity"):
        load_judge(judge_file(text=text))


def test_a_judge_that_needs_arguments_or_segments_nothing_is_refused(judge_file):
    text = JUDGE.replace("def segment(", "def __init__(self, weights): pass\n    def segment(")
    with pytest.raises(InputError, match="cannot be set up: TypeError"):
        load_judge(judge_file(text=text))
    with pytest.raises(InputError, match="Look lacks segment"):
        load_judge(judge_file(text=JUDGE.replace("def segment(", "def segments(")))


def test_two_judges_of_one_name_are_refused(paint, score_by, judge_file):
    first, second = judge_file(), judge_file(name="other.py")
    status, printed = score_by(paint("truth"), "--judge", first, second)
    assert status == 2
    assert "the judge Look is named twice" in printed.err


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a judge."""
    (tmp_path / "seeing.py").write_text(JUDGE.format(body="pass"))
    info = tmp_path / "seeing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: seeing\nVersion: 1.0\n")
    points = ["by-table = seeing:Look", "odd/name = seeing:Look"]
    (info / "entry_points.txt").write_text("[tcig.judges]\n" + "\n".join(points) + "\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("package")
def test_an_installed_packages_judge(paint, score_by):
    folder = paint("truth")
    assert score_by(folder, "--judge", "by-table")[0] == 0
    assert (folder / "scores" / "by-table" / "score.json").is_file()
    assert main(["check", "by-table"]) == 0
    with pytest.raises(InputError, match="expected a name of letters"):
        load_judge("odd/name")


def test_run_scores_by_another_judge_and_table_and_report_show_it(judge_file, tmp_path, capsys):
    spec, out = judge_file(), str(tmp_path / "runs")
    rows = ["--methods", "paste", "empty", "--limit", "2", "--out", out]
    assert main(["run", *rows, "--judge", spec, "colours"]) == 0
    capsys.readouterr()
    for judge in (spec, judge_name(spec)):
        assert main(["table", out, "--judge", judge, "--format", "csv"]) == 0
        printed = capsys.readouterr().out
        assert "Look" in printed
        assert ",colours," not in printed
    page = tmp_path / "r.html"
    assert main(["report", out, "--judge", spec, "--out", str(page)]) == 0
    assert "<span>Look <em>" in page.read_text()
    assert main(["table", out, "--judge", "nobody"]) == 2
    assert "available: " in capsys.readouterr().err
    assert main(["run", *rows, "--judge", spec, "--no-score"]) == 2


WEIGHTS = {"diffusion": "a", "guide mini:guide": "the guide's identity"}


@pytest.mark.parametrize(
    ("weights", "identity", "own", "expected"),
    [
        (None, "x", False, "unknown"),
        (None, "x", True, "unknown"),
        ({}, "x", False, "independent"),
        ({}, "x", True, "independent"),
        (WEIGHTS, "x", False, "independent"),
        (WEIGHTS, "x", True, "unknown"),
        (WEIGHTS, "the guide's identity", False, "guide"),
        (WEIGHTS, "the guide's identity", True, "guide"),
    ],
)
def test_a_judge_is_independent_where_the_record_says_so(
    paint, record_run, layouts, manifest, weights, identity, own, expected
):
    class Own(ColourJudge):
        kind = "plug-in" if own else "built-in"

    folder, judge = paint("truth"), Own()
    object.__setattr__(judge, "identity", identity)
    if weights is not None:
        record_run(folder, weights=weights)
    score_images(folder, layouts, manifest, ("seen", judge), Sizes(32, 32))
    (row,) = read_rows([folder], "none")
    assert row.independence == expected
    assert row.guided is (expected == "guide")


@pytest.fixture
def maps(paint, layouts, tmp_path):
    """Writes label maps of the truth, as somebody else would."""

    def write(mode="P", size=32, name="elsewhere", change=None):
        folder = tmp_path / name
        folder.mkdir()
        for layout in layouts:
            labels = layout.class_map(size)
            if change:
                labels = change(labels)
            image = Image.fromarray(labels.astype(np.uint16 if mode == "I;16" else np.uint8))
            if mode == "P":
                image = Image.fromarray(labels.astype(np.uint8), "P")
                image.putpalette([value for colour in COLOURS for value in colour])
            image.save(folder / f"{layout.id}-0.png")
        return folder

    return write


@pytest.mark.parametrize("mode", ["P", "L", "I;16"])
def test_label_maps_made_elsewhere_are_scored(paint, score_by, maps, mode, capsys):
    folder = paint("grey")
    status, printed = score_by(folder, "--label-maps", maps(mode))
    assert (status, printed.err) == (0, "")
    score = json.loads((folder / "scores" / "elsewhere" / "score.json").read_text())
    assert (score["kind"], score["judge"]) == ("label maps", "elsewhere")
    assert main(["table", str(folder)]) == 0
    assert "1.000 ± 0.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda labels: np.where(labels, labels, 255), "label 255; .+ map 255"),
        (lambda labels: labels + 1, "label 21"),
        (lambda labels: labels[:20], r"shape \(20, 32\) for an image of 32x32"),
        (lambda labels: np.stack([labels] * 3, -1), "is in colours"),
    ],
)
def test_what_are_no_label_maps(paint, score_by, maps, change, said):
    status, printed = score_by(paint("grey"), "--label-maps", maps("L", change=change))
    assert status == 2
    assert pd.Series([printed.err]).str.contains(said, regex=True).all()


def test_label_maps_that_cannot_be_used(paint, score_by, maps, tmp_path):
    folder, made, named = paint("grey"), maps(), maps(name="colours")
    (made / "5-0.png").unlink()
    for arguments, said in [
        (("--label-maps", made), "5-0.png cannot be read"),
        (("--label-maps", tmp_path / "none"), "is not a folder of label maps"),
        (("--label-maps", made, "--judge", "colours"), "leave out --judge"),
        (("--label-maps", named), "rename the folder"),
    ]:
        status, printed = score_by(folder, *arguments)
        assert status == 2
        assert said in printed.err
