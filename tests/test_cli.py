"""The command line: in this process where it can be, in another where imports are the point."""

import importlib.metadata
import json
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


def test_usage_and_version(tcig, refused):
    status, out, _ = tcig("--help")
    assert (status, tcig("-h")[1]) == (0, out)
    assert tcig()[:2] == (2, out)
    assert tcig("--version")[1] == f"tcig {importlib.metadata.version('tcig')}\n"
    assert re.search("no command 'rnu'.*did you mean run?", refused("rnu"))
    assert "did you mean" not in refused("qq")


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
        (["run", "--methods", "pasta"], r"\(did you mean paste\?\); available: real, paste"),
        (["run", "--methods", "qqqq"], "'qqqq'; available: .*, or path/to/file.py:Class"),
        (["run", "--methods", "paste", "--limit", "0"], "--limit"),
        (["run", "--methods", "paste", "--samples", "-1"], "--samples"),
        (["run", "--methods", "paste", "--profile", "minni"], "no profile 'minni': .*mini-fast"),
        (["run", "--methods", "paste", "--profile", "no.toml"], "no.toml"),
        (["run", "--methods", "paste", "--profile", "paper"], "tcig layouts.*--layouts FILE"),
        (["run", "--methods", "paste", "--layouts", "no.jsonl"], r"no\.jsonl cannot be read"),
        (["run", "--methods", "paste", "--layouts", "bad.py"], r"bad\.py line 1 is not JSON"),
        (["run", "--methods", "paste", "--out", "file"], "file"),
        (["run", "--methods", "bad.py:Mine", "--no-score"], r"bad\.py.*syntax"),
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
        (TOML.replace("colours", "colors"), "did you mean colours"),
        (TOML + "name = 'mine'\n", "name is the file's own"),
        ("size =\n", "line 1"),
        ("# \xff\n", "own.toml"),
        ('base = "nothing"', "no profile 'nothing': there are mini, mini-fast, paper"),
        ('base = "paper-small"', "has a base itself: one is enough"),
        ('base = "mini"\n[compute]\non = "tpu"', "compute.on: Input should be 'auto', 'gpu', "),
        ('base = "mini"\n[compute]\nhalf = true', "compute.half: Extra inputs"),
    ],
)
def test_an_unusable_profile_is_one_sentence(refused, tmp_path, content, words):
    (tmp_path / "own.toml").write_text(content, encoding="latin-1")
    error = refused("run", "--methods", "paste", "--profile", "own.toml")
    assert words in error
    assert not list(tmp_path.glob("runs/paste-*"))


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


def test_count_and_export_agree_with_the_manifest(tcig, manifest, tmp_path):
    header, layouts = manifest
    status, out, _ = tcig("layouts", "--coco", EMOJI, "--count")
    default = r"^masks +ignore +ignore +field, original +instance +(\d+)$"
    assert status == 0
    assert re.findall(default, out, re.MULTILINE) == [str(header.counts.filtered)]
    assert f"{header.counts.images} images in instances_val2017.json" in out
    arguments = ["--layouts", "m.jsonl", "--profile", "paper", "--limit", "2"]
    status, out, _ = tcig("layouts", "--export", "e", *arguments)
    assert status == 0
    assert "tcig score FOLDER --layouts m.jsonl --profile paper" in out
    with Image.open(tmp_path / "e" / "masks" / f"{layouts[0].id}-0.png") as mask:
        assert mask.size == (512, 512)


CHANGES = (
    (lambda records: None, None),
    (lambda records: records[1].update(caption="x"), "layout {id} is another"),
    (lambda records: records[1].update(id="999"), "layout 999 is not given"),
    (lambda records: records[0]["sources"][0].update(sha256="0"), "is not the file that it was"),
    (lambda records: records[0]["counts"].update(images=3), "its counts are others"),
)


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_manifest_is_compared_with_cocos_files(tcig, manifest, tmp_path, change, said):
    path = tmp_path / "m.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    first = records[1]["id"]
    change(records)
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    status, out, err = tcig("layouts", "--coco", EMOJI, "--check", path)
    assert status == (said is not None)
    assert f"the manifest {'does not hold' if said else 'holds'}" in out
    assert not said or said.format(id=first) in err


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
        "from tcig.eval.table import published\n"
        "from tcig.profiles import names\n"
        "from tcig.data.emoji import FOLDER\n"
        "assert published() and names() and list(FOLDER.glob('*/*.json'))\n"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    top = importlib.metadata.distribution("tcig").read_text("top_level.txt")
    assert top.split() == ["tcig"]


def test_a_closed_pipe_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tcig.cli", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.stderr, done.returncode) == ("", 141)
