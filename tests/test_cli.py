"""The command line: in this process where it can be, in another where imports are the point."""

import csv
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tcig.cli import COMMANDS, main
from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.manifest import read_manifest

HERE = str(Path(__file__).parent)
TOML = 'size = 128\nscore_size = 128\njudges = ["colours"]\nbatch = 8\nembedded = true\n'


@pytest.fixture
def tcig(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder: exit status, standard output, standard error.

    On the CPU, also with the profile `paper`, which would refuse it before any other mistake.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TCIG_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def refused(tcig):
    """Runs a command that must end in status 2 and one sentence; the sentence."""

    def run(*arguments):
        status, _, err = tcig(*arguments)
        assert status == 2
        assert re.fullmatch(r"tcig: error: [^\n]+\n", err), err
        return err.removeprefix("tcig: error: ").strip()

    return run


def python(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_help_names_the_commands_and_loads_none(tmp_path):
    heavy = "torch", "pandas", "tyro", "numpy", "pydantic", "PIL"
    code = (
        "import sys, tcig.cli\n"
        "assert tcig.cli.main(['--help']) == 0\n"
        f"assert not [name for name in {heavy} if name in sys.modules]\n"
    )
    done = python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\w", done.stdout, re.MULTILINE)


def test_usage_and_version(tcig):
    assert tcig("--help") == tcig("-h")
    assert tcig("--help")[0] == 0
    status, out, _ = tcig()
    assert status == 2
    assert out == tcig("--help")[1]
    assert tcig("--version")[1] == f"tcig {importlib.metadata.version('tcig')}\n"


@pytest.mark.parametrize(
    ("name", "hint"), [("rnu", "run"), ("tabel", "table"), ("layout", "layouts"), ("qq", None)]
)
def test_unknown_command(refused, name, hint):
    error = refused(name)
    assert error.startswith(f"no command {name!r}")
    assert ("did you mean" in error) == (hint is not None)
    assert hint is None or f"did you mean {hint}?" in error


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_an_example(tcig, name):
    status, out, err = tcig(name, "--help")
    assert (status, err) == (0, "")
    assert re.search(rf"^ *tcig {name} \S", out, re.MULTILINE)
    assert "--" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run"], "--methods"),
        (["run", "--methods", "paste", "--limit", "many"], "--limit"),
        (["run", "--methods", "paste", "--bogus"], "--bogus"),
        (["layouts", "--coco", "x", "--people", "maybe"], "--people"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_parse_are_named(tcig, arguments, named):
    status, out, err = tcig(*arguments)
    assert (status, out) == (2, "")
    assert named in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--methods"], "method"),
        (["run", "--methods", "pasta", "--no-score"], "did you mean paste"),
        (["run", "--methods", "paste", "--limit", "0"], "--limit"),
        (["run", "--methods", "paste", "--samples", "-1"], "--samples"),
        (["run", "--methods", "paste", "--profile", "minni"], "no profile 'minni': .*mini-fast"),
        (["run", "--methods", "paste", "--profile", "no.toml"], "no.toml"),
        (["run", "--methods", "paste", "--profile", "paper"], "tcig layouts.*--layouts FILE"),
        (["run", "--methods", "paste", "--layouts", "no.jsonl"], r"no\.jsonl cannot be read"),
        (["run", "--methods", "paste", "--layouts", "bad.py"], r"bad\.py line 1 is not JSON"),
        (["run", "--methods", "paste", "--out", "file"], "file"),
        (["run", "--methods", "bad.py:Mine", "--no-score"], r"bad\.py.*syntax"),
        (["run", "--methods", "bare.py:Mine", "--no-score"], "Mine.*generate"),
        (["score", "nowhere", "--layouts", "no.jsonl", "--judge", "colours"], "no"),
        (["table", "nowhere"], "nowhere is not there"),
        (["table"], "give a folder"),
        (["table", "x", "--reductions", "iou"], "no reduction 'iou'"),
        (["layouts"], "give --coco FOLDER"),
        (["layouts", "--coco", EMOJI], "--out FILE"),
        (["layouts", "--coco", "no", "--count"], "instances_val2017.json cannot be read"),
        (["layouts", "--coco", EMOJI, "--year", "2014", "--count"], "val2014.json cannot be read"),
        (["layouts", "--export", "e"], "--layouts FILE"),
        (["layouts", "--export", "e", "--layouts", "x", "--samples", "0"], "--samples"),
        (["layouts", "--coco", EMOJI, "--count", "--out", "o"], "give one of --out FILE .*--count"),
        (["layouts", "--coco", EMOJI, "--area-on", "square", "--count"], "area.from.pixels"),
        (["layouts", "--coco", EMOJI, "--min-objects", "9", "--count"], "min.objects"),
        (["layouts", "--coco", EMOJI, "--min-area", "0.99", "--out", "o"], "passes the filter"),
    ],
    ids=lambda value: (
        " ".join(map(str, value)).replace(str(EMOJI), "EMOJI") if isinstance(value, list) else ""
    ),
)
def test_unusable_input_is_one_sentence(refused, tmp_path, arguments, words):
    (tmp_path / "file").touch()
    (tmp_path / "bad.py").write_text("class Mine(:\n")
    bare = "from tcig.methods.base import Method\nclass Mine(Method):\n    pass\n"
    (tmp_path / "bare.py").write_text(bare)
    assert re.search(words, refused(*arguments))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TOML + "sizes = 3\n", "sizes"),
        (TOML.replace("batch = 8\n", ""), "batch"),
        (TOML.replace("batch = 8", "batch = 0"), "batch"),
        (TOML.replace("size = 128", 'size = "large"', 1), "size"),
        (TOML.replace('["colours"]', "[]"), "judges"),
        (TOML + "name = 'mine'\n", "name"),
        ("size =\n", "line 1"),
        (b"# \xff\n", "own.toml"),
    ],
    ids=["unknown", "lacks", "zero", "text", "no-judge", "name", "no-toml", "no-text"],
)
def test_an_unusable_profile_is_one_sentence(refused, tmp_path, content, words):
    path = tmp_path / "own.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = refused("run", "--methods", "paste", "--profile", "own.toml", "--no-score")
    assert "own.toml" in error
    assert words in error


def test_run_scores_with_the_judges_of_its_profile_and_table_shows_them(tcig, tmp_path):
    """`paste` is the truth and scores 1, `empty` has nothing and scores 0."""
    (tmp_path / "own.toml").write_text(TOML)
    arguments = ["--profile", "own.toml", "--methods", "paste", "empty", "--limit", "3"]
    assert tcig("run", *arguments, "--no-score")[0] == 0
    assert tcig("table", "runs")[0] == 2
    status, out, err = tcig("run", *arguments)
    assert (status, err) == (0, "")
    folders = [tmp_path / line for line in out.splitlines()]
    assert [re.fullmatch(r"(\w+)-[0-9a-f]{8}", f.name)[1] for f in folders] == ["paste", "empty"]
    for folder in folders:
        assert [path.name for path in (folder / "scores").iterdir()] == ["colours"]
    status, out, _ = tcig("table", "runs", "--format", "csv")
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(out))}
    assert status == 0
    for row, value in (("paste", 1), ("empty", 0)):
        assert (rows[row]["judge"], rows[row]["n"], rows[row]["failed"]) == ("colours", "3", "0")
        for name in ("iou_image", "iou_region", "iou_dataset", "iou_foreground"):
            assert (float(rows[row][name]), float(rows[row][f"{name}_std"])) == (value, 0)
    out = tcig("table", *folders)[1]
    assert re.search(r"\| empty +\| colours +\| yes +\| +3 \| 0\.000 ± 0\.000 ", out)
    status, _, err = tcig("table", "runs", "--judge", "guide")
    assert (status, err) == (2, "tcig: error: no row was scored by 'guide'; available: colours.\n")


def test_layouts_makes_a_manifest_and_run_takes_it(tcig, tmp_path):
    status, out, err = tcig("layouts", "--coco", EMOJI, "--out", "deep/m.jsonl", "--people", "drop")
    header, layouts = read_manifest(tmp_path / "deep/m.jsonl")
    assert (status, err) == (0, "")
    assert header.filter.people == "drop"
    assert f"deep/m.jsonl: {len(layouts)} layouts of {header.counts.images} images" in out
    arguments = ["--layouts", "deep/m.jsonl", "--coco", EMOJI, "--limit", "1", "--no-score"]
    status, out, _ = tcig("run", "--profile", "paper", "--methods", "real", *arguments)
    assert status == 0
    (path,) = (tmp_path / out.strip()).glob("*.png")
    with Image.open(path) as image:
        assert image.size == (512, 512)
    assert not list((tmp_path / "runs").glob("*.jsonl"))


@pytest.fixture
def manifest(tcig, tmp_path):
    """The file `m.jsonl` of the embedded data, under the default filter: header and layouts."""
    assert tcig("layouts", "--coco", EMOJI, "--out", "m.jsonl")[0] == 0
    return read_manifest(tmp_path / "m.jsonl")


def test_real_without_photographs_is_refused_before_anything_is_made(refused, manifest, tmp_path):
    """The embedded photographs are not those of a manifest that was given."""
    arguments = ["--layouts", "m.jsonl", "--no-score", "--methods", "empty", "real"]
    for profile in ("paper", "mini"):
        assert "give --coco FOLDER" in refused("run", "--profile", profile, *arguments)
    assert not list((tmp_path / "runs").glob("*/*"))


def test_count_has_the_default_as_the_manifest(tcig, manifest):
    status, out, _ = tcig("layouts", "--coco", EMOJI, "--count")
    default = r"^masks +ignore +ignore +field, original +instance +(\d+)$"
    (images,) = re.findall(default, out, re.MULTILINE)
    counts = manifest[0].counts
    assert status == 0
    assert int(images) == counts.filtered > 0
    assert f"{counts.images} images in instances_val2017.json" in out


def test_export_is_of_the_profiles_size(tcig, manifest, tmp_path):
    arguments = ["--layouts", "m.jsonl", "--profile", "paper", "--limit", "2"]
    status, out, _ = tcig("layouts", "--export", "e", *arguments)
    assert status == 0
    assert "tcig score FOLDER --layouts m.jsonl --profile paper" in out
    with Image.open(tmp_path / "e" / "masks" / f"{manifest[1][0].id}-0.png") as mask:
        assert mask.size == (512, 512)


def test_layouts_says_that_photographs_are_missing(tcig, tmp_path):
    shutil.copytree(EMOJI / "annotations", tmp_path / "coco/annotations")
    status, _, err = tcig("layouts", "--coco", "coco", "--out", "m.jsonl")
    assert status == 0
    assert re.search(r"photographs are not in coco .*--download fetches them\n$", err)
    arguments = ["--layouts", "m.jsonl", "--coco", "coco", "--limit", "1", "--no-score"]
    status, out, err = tcig("run", "--methods", "real", *arguments)
    assert (status, out) == (1, "")
    assert re.search(r"real \d+-0 failed: .+coco/val2017/\d+\.png cannot be read", err)


def test_installed_packages(tmp_path):
    """From another folder: data/ and eval/ are tcig.data and tcig.eval, and nothing else.

    torch-fidelity installs a top-level `tests` of its own.
    """
    code = (
        "import importlib.util, tcig.data.layout, tcig.eval.iou, tcig.results\n"
        "taken = [n for n in ('data', 'eval', 'results') if importlib.util.find_spec(n)]\n"
        "assert not taken, taken\n"
        "tests = importlib.util.find_spec('tests')\n"  # torch-fidelity installs its own
        f"assert not tests or {HERE!r} not in list(tests.submodule_search_locations)\n"
        "from tcig.eval.published import published\n"
        "from tcig.profiles import names\n"
        "from tcig.data.emoji import FOLDER\n"
        "assert published() and names() and list(FOLDER.glob('*/*.json'))\n"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    top = importlib.metadata.distribution("tcig").read_text("top_level.txt")
    assert top.split() == ["tcig"]


def test_judges_are_loaded_before_anything_is_drawn(refused, tmp_path):
    (tmp_path / "own.toml").write_text(TOML.replace("colours", "colors"))
    assert "did you mean colours" in refused("run", "--methods", "paste", "--profile", "own.toml")
    assert not list(tmp_path.glob("runs/paste-*"))


def test_a_closed_pipe_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tcig.cli", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.stderr, done.returncode) == ("", 141)
