"""Downloads from a local server of COCO's shape, with faults injected."""

import hashlib
import io
import itertools
import os
import time
import zipfile

import pytest
import requests
from coco_folder import thing
from PIL import Image
from servers import Fault

from tcig.cli import main
from tcig.data import download
from tcig.data.manifest import read_manifest

pytestmark = pytest.mark.filterwarnings("ignore:.*not the archive that COCO published")
ZIP = "/annotations/annotations_trainval2017.zip"
JPEG = "/val2017/000000000001.jpg"
INSTANCES, CAPTIONS = b'{"images": []}', b'{"annotations": []}'


def archive(instances=INSTANCES, captions=CAPTIONS):
    """A zip of COCO's shape: the two wanted members after a larger one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("annotations/person_keypoints_val2017.json", os.urandom(50_000))
        file.writestr("annotations/instances_val2017.json", instances)
        file.writestr("annotations/captions_val2017.json", captions)
    return buffer.getvalue()


def jpeg(width, height):
    buffer = io.BytesIO()
    noise = Image.frombytes("RGB", (width, height), os.urandom(width * height * 3))
    noise.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def server(empty_server):
    empty_server.files[ZIP] = archive()
    empty_server.files |= {f"/val2017/{i:012}.jpg": jpeg(40 + i, 30) for i in range(4)}
    return empty_server


def images(*indices):
    return [(f"{i:012}.jpg", 40 + i, 30) for i in indices]


def names(folder):
    """The files in `folder` but for the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def assert_annotations(folder, instances=INSTANCES):
    annotations = folder / "annotations"
    assert names(annotations) == ["captions_val2017.json", "instances_val2017.json"]
    assert (annotations / "instances_val2017.json").read_bytes() == instances
    assert (annotations / "captions_val2017.json").read_bytes() == CAPTIONS


def test_only_missing_files_are_fetched_and_written(server, tmp_path, capsys):
    own = tmp_path / "annotations" / "instances_val2017.json"
    own.parent.mkdir()
    own.write_text("mine")
    download.fetch_annotations(tmp_path, 2017)
    download.fetch_images(tmp_path, 2017, images(0, 2, 2))
    assert_annotations(tmp_path, b"mine")
    assert names(tmp_path / "val2017") == ["000000000000.jpg", "000000000002.jpg"]
    assert "241 MB" in capsys.readouterr().err
    assert len(server.log) == 3
    before = sorted(tmp_path.rglob("*"))
    download.fetch_annotations(tmp_path, 2017)
    download.fetch_images(tmp_path, 2017, images(0, 2))
    assert len(server.log) == 3
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([Fault(cut=2000)], [False, True]),
        ([Fault(cut=2000), Fault(ignore_range=True)], [False, True]),
        ([Fault(cut=2000, swap=jpeg(41, 30))], [False, True]),
        ([Fault(cut=2000, headers={"ETag": ""})], [False, False]),
        ([Fault(cut=2000), Fault(416)], [False, True, False]),
        ([Fault(cut=2000), Fault(206, {"Content-Range": "bytes 7-8/9"})], [False, True, False]),
    ],
    ids=["resumed", "range ignored", "file changed", "no etag", "416", "wrong range"],
)
def test_a_cut_connection(server, tmp_path, faults, ranges):
    server.faults[JPEG] = list(faults)
    download.fetch_images(tmp_path, 2017, images(1))
    assert (tmp_path / JPEG[1:]).read_bytes() == server.files[JPEG]
    assert ["Range" in headers for headers in server.asked(JPEG)] == ranges
    assert names(tmp_path / "val2017") == ["000000000001.jpg"]


def killed_in(monkeypatch, folder, owner, name, replacement):
    """Fetches the annotations and is killed where `owner.name` is used."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, replacement)
        with pytest.raises(KeyboardInterrupt):
            download.fetch_annotations(folder, 2017)


def test_a_killed_download_is_resumed(server, tmp_path, monkeypatch):
    def iter_content(response, size, intact=requests.Response.iter_content):
        yield from itertools.islice(intact(response, size), 2)
        raise KeyboardInterrupt

    def interrupt(*args):
        raise KeyboardInterrupt

    killed_in(monkeypatch, tmp_path, requests.Response, "iter_content", iter_content)
    assert names(tmp_path / "annotations") == [f"{ZIP[13:]}.etag", f"{ZIP[13:]}.part"]
    killed_in(monkeypatch, tmp_path, zipfile, "ZipFile", interrupt)  # when all is there
    assert server.asked(ZIP)[1]["Range"] == f"bytes={2 * download.CHUNK}-"
    sent = server.sent(ZIP)
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    assert server.sent(ZIP) == sent, "nothing twice"


def test_a_busy_server_is_waited_for(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.faults[ZIP] = [Fault(503, {"Retry-After": "7"}), Fault(429, {"Retry-After": "9999"})]
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    assert [wait for wait in waits if wait] == [7, 300]


@pytest.mark.parametrize(("fault", "asked"), [(Fault(503), 6), (Fault(cut=0), 6), (Fault(403), 1)])
def test_retries_end_after_exponential_waits(server, tmp_path, monkeypatch, refused, fault, asked):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(download, "BACKOFF", 1)
    server.faults[ZIP] = [fault] * 20
    with refused("TCIG_COCO_MIRROR", "same command again", "answers" if asked == 1 else ""):
        download.fetch_annotations(tmp_path, 2017)
    assert len(server.asked(ZIP)) == asked
    waits = [wait for wait in waits if wait]
    assert len(waits) >= min(asked - 1, 4)
    assert all(later >= 2 * wait for wait, later in itertools.pairwise(waits))


@pytest.mark.parametrize(
    "breaking",
    [lambda good: good.replace(INSTANCES, INSTANCES[::-1]), lambda good: good[:-30]],
    ids=["member", "directory"],
)
def test_a_broken_archive_is_discarded_and_fetched_again(server, tmp_path, refused, breaking):
    good = server.files[ZIP]
    server.files[ZIP] = breaking(good)
    with refused("is broken"):
        download.fetch_annotations(tmp_path, 2017)
    assert not [name for name in names(tmp_path / "annotations") if not name.endswith("json.part")]
    server.files[ZIP] = good
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)


def test_an_unknown_archive_is_refused_from_cocos_own_address(
    server, tmp_path, monkeypatch, refused
):
    """Plain HTTP can be changed on the way; a mirror only gets a warning."""
    with pytest.warns(UserWarning, match="not the archive that COCO published"):
        download.fetch_annotations(tmp_path / "mirrored", 2017)
    monkeypatch.setattr(download, "BASE", os.environ["TCIG_COCO_MIRROR"])
    monkeypatch.delenv("TCIG_COCO_MIRROR")
    with refused("not the archive that COCO published"):
        download.fetch_annotations(tmp_path, 2017)
    assert not list((tmp_path / "annotations").glob("*.json"))
    digest = hashlib.sha256(server.files[ZIP]).hexdigest()
    monkeypatch.setitem(download.ARCHIVES, 2017, digest)
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (None, "404"),
        (jpeg(30, 41), "its size is (30, 41), not (41, 30)"),
        (jpeg(41, 30)[:1500], "truncated"),
    ],
    ids=["missing", "wrong size", "truncated"],
)
def test_broken_images_do_not_stop_the_others(server, tmp_path, refused, broken, reason):
    server.files[JPEG] = broken
    with refused("1 of 3 images", "0001.jpg", reason, "same command"):
        download.fetch_images(tmp_path, 2017, images(0, 1, 2))
    with refused("21 of 22 images", " and more; run"):
        download.fetch_images(tmp_path, 2017, images(*range(4, 24), 0, 1, 2, 3))
    assert names(tmp_path / "val2017") == [f"{i:012}.jpg" for i in (0, 2, 3)]
    server.files[JPEG] = jpeg(41, 30)
    download.fetch_images(tmp_path, 2017, images(0, 1, 2))
    assert len(names(tmp_path / "val2017")) == 4


def test_a_silent_server_is_given_up(tmp_path, monkeypatch, refused):
    asked = []
    intact = requests.Session.get
    monkeypatch.setattr(requests.Session, "get", lambda *a, **k: asked.append(1) or intact(*a, **k))
    with refused("images could not be fetched"):
        download.fetch_images(tmp_path, 2017, images(*range(200)))
    assert len(asked) < 100
    assert names(tmp_path / "val2017") == []


def test_an_unwritable_folder_is_refused(server, tmp_path, refused):
    (tmp_path / "val2017").write_text("a file in the way")
    with refused("cannot write to"):
        download.fetch_images(tmp_path, 2017, images(0))


def test_layouts_fetches_the_photographs_of_its_layouts(coco, empty_server, tmp_path, capsys):
    """Of three images the second alone becomes a layout."""
    large, small = (0, 0, 40, 40), (50, 50, 9, 9)
    coco.add(1, thing("cat", large)).add(3, thing("cat", small), thing("dog", small))
    coco.add(2, thing("cat", large), thing("dog", (50, 50, 40, 40)))
    source, folder = coco.write(photographs=True), tmp_path / "mine"
    empty_server.files[ZIP] = archive(
        coco.instances_file.read_bytes(), coco.captions_file.read_bytes()
    )
    arguments = ["--coco", str(folder), "--download", "--out", str(folder / "l.jsonl")]
    wanted = "val2017/000000000002.jpg"
    assert main(["layouts", *arguments]) == 2
    assert "000000000002.jpg" in capsys.readouterr().err
    assert len(read_manifest(folder / "l.jsonl")[1]) == 1
    empty_server.files[f"/{wanted}"] = (source / wanted).read_bytes()
    assert main(["layouts", *arguments]) == 0
    assert {path for path, *_ in empty_server.log} == {ZIP, f"/{wanted}"}
    asked = len(empty_server.log)
    assert main(["layouts", *arguments]) == 0
    assert len(empty_server.log) == asked
