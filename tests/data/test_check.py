"""`tcig layouts --check`: a manifest against COCO's files."""

import json
import re

import pytest
from coco_folder import thing

from tcig.cli import main


@pytest.fixture
def check(coco, tmp_path, capsys):
    """Compares a manifest of two images, after a change, with COCO's files."""
    things = thing("cat", (0, 0, 40, 40)), thing("dog", (50, 50, 40, 40))
    folder, path = coco.add(1, *things).add(2, *things).write(), tmp_path / "layouts.jsonl"
    assert main(["layouts", "--coco", str(folder), "--people", "drop", "--out", str(path)]) == 0

    def run(change):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        change(records)
        path.write_text("\n".join(map(json.dumps, records)) + "\n")
        capsys.readouterr()
        status = main(["layouts", "--coco", str(folder), "--check", str(path)])
        return status, *capsys.readouterr()

    return run


def test_a_manifest_holds_under_its_own_filter(check):
    status, out, _ = check(lambda records: None)
    assert status == 0
    assert re.search("layouts.jsonl: 2 layouts of .*coco, the manifest holds\n$", out)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r[1].update(caption="another"), "layout [12] is another"),
        (lambda r: r[1].update(id="99"), "layout 99 is not given"),
        (lambda r: r[0]["sources"][0].update(sha256="0" * 64), "is not the file that it was made"),
        (lambda r: r[0]["counts"].update(images=3), "its counts are others"),
    ],
)
def test_what_differs_is_said(check, change, said):
    status, out, error = check(change)
    assert status == 1
    assert "does not hold" in out
    assert re.search(said, error)
