"""`tcig layouts --download`: annotations first, then the photographs of the layouts alone."""

import io
import zipfile

import pytest
from coco_folder import thing

from tcig.cli import main
from tcig.data.layout import read_manifest

pytestmark = pytest.mark.filterwarnings("ignore:.*not the archive that COCO published")
ZIP = "/annotations/annotations_trainval2017.zip"


def serve(server, folder):
    """Puts a folder of COCO's shape on the server."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for kind in ("instances", "captions"):
            name = f"annotations/{kind}_val2017.json"
            archive.write(folder / name, name)
    server.files[ZIP] = buffer.getvalue()
    for path in (folder / "val2017").iterdir():
        server.files[f"/val2017/{path.name}"] = path.read_bytes()


def fetch(folder, *more):
    arguments = ["--coco", folder, "--download", "--out", folder / "l.jsonl", *more]
    return main(["layouts", *map(str, arguments)])


@pytest.fixture
def one_of_three(coco, empty_server):
    """On the server: three images, of which the second alone becomes a layout."""
    large, small = (0, 0, 40, 40), (50, 50, 9, 9)
    coco.add(1, thing("cat", large)).add(3, thing("cat", small), thing("dog", small))
    coco.add(2, thing("cat", large), thing("dog", (50, 50, 40, 40)))
    serve(empty_server, coco.write(photographs=True))
    return empty_server


def test_only_the_photographs_of_the_layouts_are_fetched_and_once(one_of_three, tmp_path):
    folder = tmp_path / "mine"
    assert fetch(folder) == 0
    assert {path for path, *_ in one_of_three.log} == {ZIP, "/val2017/000000000002.jpg"}
    asked = len(one_of_three.log)
    assert fetch(folder) == 0
    assert len(one_of_three.log) == asked
    arguments = ["--layouts", folder / "l.jsonl", "--coco", folder, "--out", tmp_path / "runs"]
    assert main(["run", "--methods", "real", "--no-score", *map(str, arguments)]) == 0
    assert len(list(tmp_path.glob("runs/real-*/2-0.png"))) == 1


def test_a_photograph_that_is_not_to_be_had_is_named_and_the_manifest_kept(
    one_of_three, tmp_path, capsys
):
    kept = one_of_three.files.pop("/val2017/000000000002.jpg")
    folder = tmp_path / "mine"
    assert fetch(folder) == 2
    assert "000000000002.jpg" in capsys.readouterr().err
    assert len(read_manifest(folder / "l.jsonl")[1]) == 1
    one_of_three.files["/val2017/000000000002.jpg"] = kept
    assert fetch(folder) == 0


def test_the_real_sample_from_a_server(sample, empty_server, tmp_path):
    serve(empty_server, sample)
    folder = tmp_path / "mine"
    assert fetch(folder) == 0
    fetched = {path.name for path in (folder / "val2017").glob("*.jpg")}
    assert fetched == {
        f"{number:012}.jpg" for number in (491497, 463730, 219578, 555705, 25560, 403817)
    }
    for name in fetched:
        content = (folder / "val2017" / name).read_bytes()
        assert content == (sample / "val2017" / name).read_bytes()
