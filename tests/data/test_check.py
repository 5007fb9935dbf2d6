"""`tcig layouts --check`: a manifest against COCO's files."""

import json

import pytest
from coco_folder import thing

from tcig.cli import main


@pytest.fixture
def manifest(coco, tmp_path, capsys):
    """Of two images; the folder beside it."""
    large = (0, 0, 40, 40)
    for number in (1, 2):
        coco.add(number, thing("cat", large), thing("dog", (50, 50, 40, 40)))
    folder, path = coco.write(), tmp_path / "layouts.jsonl"
    arguments = ["--coco", str(folder), "--people", "drop", "--out", str(path)]
    assert main(["layouts", *arguments]) == 0
    capsys.readouterr()
    return path, folder


def check(path, folder):
    return main(["layouts", "--coco", str(folder), "--check", str(path)])


def rewrite(path, change):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    change(records)
    path.write_text("\n".join(map(json.dumps, records)) + "\n")


def test_a_manifest_holds_under_its_own_filter(manifest, capsys):
    path, folder = manifest
    assert check(path, folder) == 0
    assert capsys.readouterr().out == f"{path}: 2 layouts of {folder}, the manifest holds\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r[1].update(caption="another"), "layout {id} is another"),
        (lambda r: r[1].update(id="99"), "layout 99 is not given"),
        (lambda r: r[0]["sources"][0].update(sha256="0" * 64), "is not the file that it was made"),
        (lambda r: r[0]["counts"].update(images=3), "its counts are others"),
    ],
)
def test_what_differs_is_said(manifest, capsys, change, said):
    path, folder = manifest
    first = json.loads(path.read_text().splitlines()[1])["id"]
    rewrite(path, change)
    assert check(path, folder) == 1
    out, error = capsys.readouterr()
    assert "does not hold" in out
    assert said.format(id=first) in error
