"""Imports run one way, and the source does not grow."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYERS = ("data", "models", "profiles", ("methods", "eval"), "run", "commands", "cli")
"""A package imports itself and what stands before it; those of one place do not see each other."""
RANK = {
    name: rank
    for rank, names in enumerate(LAYERS)
    for name in ([names] if isinstance(names, str) else names)
}
FILES, LINES, TESTS, WEB = 105, 18_249, 16_029, 700
"""Bounds of Python files and lines in data, eval and tcig, of lines of tests, and of HTML, CSS and
JavaScript: lowered whenever the code shrinks."""


def sources() -> list[Path]:
    return sorted(
        path for folder in ("data", "eval", "tcig") for path in ROOT.glob(f"{folder}/**/*.py")
    )


def package_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "tcig" else parts[0]


def imported(path: Path) -> set[str]:
    """The packages of tcig that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "tcig":
            names += [f"tcig.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return {name.split(".")[1] for name in names if name.startswith("tcig.")} & RANK.keys()


def test_imports_run_one_way():
    wrong = [
        f"{path.relative_to(ROOT)} imports tcig.{other}"
        for path in sources()
        if (own := package_of(path)) in RANK and "train" not in path.parts  # not in the wheel
        for other in imported(path)
        if other != own and RANK[other] >= RANK[own]
    ]
    assert wrong == []


def lines_of(paths) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def test_the_source_stays_within_its_bounds():
    assert len(sources()) <= FILES
    assert lines_of(sources()) <= LINES
    assert lines_of(ROOT.glob("tests/**/*.py")) <= TESTS
    web = [path for kind in ("html", "css", "js") for path in ROOT.glob(f"eval/**/*.{kind}")]
    assert lines_of(web) <= WEB


def test_the_wheel_has_every_package_but_the_training_scripts():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    packages = set(settings["setuptools"]["packages"])
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in ROOT.glob("**/__init__.py")
        if path.relative_to(ROOT).parts[0] in ("data", "eval", "results", "tcig")
    }
    names = {name if name.startswith("tcig") else f"tcig.{name}" for name in folders}
    assert packages == {name for name in names if ".mini.train" not in name}
