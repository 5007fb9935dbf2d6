"""The pages of the documentation: their links, their commands, and what they take from results."""

import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import chain
from pathlib import Path

import pytest

from tcig.cli import COMMANDS, main
from tcig.commands import parse
from tcig.eval.results import read_result

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MINI = ROOT / "results" / "mini"
FOLDERS = ("data", "eval", "results", "tcig", "tests")
PAGES = [ROOT / "README.md", *chain(*(sorted((ROOT / name).rglob("*.md")) for name in FOLDERS))]
GENERATED = [MINI / name for name in ("table.md", "pairs.md", "quality.md", "suite.md")]
WRITTEN = [page for page in PAGES if page not in GENERATED]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OTHER_PROGRAMS = {"export", "git", "pip", "source"}


def test_every_page_is_reached_from_the_readme():
    found, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            waiting += [target for target, _ in _links(page) if target.suffix == ".md"]
    assert set(PAGES) - found == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in _links(page):
        assert target.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", target.read_text()), re.MULTILINE)
            assert anchor in map(_slug, headings), f"{page} links to {target}#{anchor}"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_fit_in_100_columns(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [each for each in lines if len(each) > 100 and "](" not in each and each[0] != "|"]
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = page.read_text(encoding="utf-8")
    for name, rest in re.findall(r"`tcig\s+([\w-]+)([^`]*)`", FENCE.sub("", text)):
        assert name in COMMANDS, f"{page} names the command {name}"
        unknown = set(re.findall(r"--[\w-]+", rest)) - _flags(name)
        assert not unknown, f"{page} names options that tcig {name} does not have: {unknown}"
    for language, block in FENCE.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                _check_command(shlex.split(line, comments=True))


def _options(command: str) -> type:
    return importlib.import_module(f"tcig.commands.{command.replace('-', '_')}").Options


def _flags(command: str) -> set[str]:
    """The options of a subcommand, with those of its nested dataclasses."""
    found, waiting = set(), [_options(command)]
    while waiting:
        for field in fields(waiting.pop()):
            found.add("--" + field.name.replace("_", "-"))
            if is_dataclass(field.default_factory):
                waiting.append(field.default_factory)
    return found


def _check_command(words: list[str]) -> None:
    """Fails unless the program exists and takes these arguments."""
    while words and re.match(r"\w+=", words[0]):  # variables of the environment
        words = words[1:]
    if not words or words[0] in OTHER_PROGRAMS:
        return
    program, *arguments = words
    if program == "tcig":
        name, *arguments = arguments
        parse(_options(name), arguments, name, "")  # exits where an argument does not exist
    elif program == "python" and arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1])
    elif program == "python":
        assert arguments[0] == "-c" or Path(arguments[0]).is_file()
    else:
        assert Path(program.removeprefix("tcig/")).is_file(), f"{program} does not exist"


def test_the_readme_is_short_and_names_every_command():
    assert len(README.encode()) <= 10_000
    assert set(re.findall(r"^tcig ([\w-]+)", README, re.MULTILINE)) == set(COMMANDS)


def test_results_are_listed_with_their_origin():
    listed = "".join(
        (ROOT / "results" / page).read_text() for page in ("README.md", "mini/README.md")
    )
    files = {path.name for path in (ROOT / "results").rglob("*.*") if path.suffix != ".pyc"}
    assert {name for name in files if name not in listed} == {"__init__.py"}


def test_the_table_of_the_readme_is_the_committed_result():
    rows = [row for row in read_result(MINI / "result.json").rows if row.judged.ignore == "none"]
    figures = {row.row: row.figures for row in rows if row.judged.judge == "miniature"}
    table = README.split("## Quick start")[0]
    shown = dict(re.findall(r"^\| `(.+?)`.*? \| (\d.+?) \|", table, re.MULTILINE))
    assert len(shown) == 9
    for row, cell in shown.items():
        iou = figures[row]["iou_image"]
        assert cell == f"{iou.mean:.2f} ± {iou.std:.2f}"


def test_the_method_and_the_judge_of_the_readme_are_in_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    method, judge = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:2]
    assert len(judge.splitlines()) <= 20
    Path("stripes.py").write_text(method)
    Path("reddish.py").write_text(judge)
    assert main(["check", "stripes.py:Stripes"]) == main(["check", "reddish.py:Reddish"]) == 0
    arguments = ["--limit", "3", "--judge", "colours", "reddish.py:Reddish"]
    assert main(["run", "--methods", "paste", "stripes.py:Stripes", *arguments]) == 0
    capsys.readouterr()
    assert main(["table", "runs", "--judge", "colours"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"\| paste \(oracle\) +\| colours +\| yes +\| +3 \| 1\.000 ± 0\.000", table)
    assert re.search(r"\| Stripes +\| colours +\| yes +\| +3 \| 0\.0", table)
    assert main(["table", "runs", "--judge", "reddish.py:Reddish"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"\| paste \(oracle\) +\| Reddish +\| yes +\| +3 \| 0\.", table)
    assert "colours" not in table.split("\n\n")[0]
    assert main(["report", "runs", "--out", "report.html"]) == 0
    assert "Reddish" in Path("report.html").read_text()


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files that a page links to, each with its anchor."""
    for link in re.findall(
        r"\]\(((?!http)[^)]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))
    ):
        name, _, anchor = link.partition("#")
        yield ((page.parent / name).resolve() if name else page), anchor


def _slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
