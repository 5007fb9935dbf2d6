"""The downloads against a local server of COCO's shape, with faults injected."""

import hashlib
import io
import itertools
import os
import re
import socket
import time
import zipfile

import pytest
import requests
from file_server import Fault
from PIL import Image

from tcig.data import download, transfer
from tcig.data.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*not the archive that COCO published")
ZIP = "/annotations/annotations_trainval2017.zip"
INSTANCES, CAPTIONS = b'{"images": []}', b'{"annotations": []}'


def archive(instances=INSTANCES):
    """A zip of COCO's shape: the two members wanted after a larger one that is not."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("annotations/person_keypoints_val2017.json", os.urandom(50_000))
        file.writestr("annotations/instances_val2017.json", instances)
        file.writestr("annotations/captions_val2017.json", CAPTIONS)
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


def kill_after(monkeypatch, chunks):
    """Let the next bodies break off as Ctrl-C does, after so many chunks."""
    intact = requests.Response.iter_content

    def iter_content(response, size):
        for i, chunk in enumerate(intact(response, size)):
            if i == chunks:
                raise KeyboardInterrupt
            yield chunk

    monkeypatch.setattr(requests.Response, "iter_content", iter_content)


def assert_annotations(folder, instances=INSTANCES):
    annotations = folder / "annotations"
    assert names(annotations) == ["captions_val2017.json", "instances_val2017.json"]
    assert (annotations / "instances_val2017.json").read_bytes() == instances
    assert (annotations / "captions_val2017.json").read_bytes() == CAPTIONS


def test_annotations_are_extracted_alone(server, tmp_path, capsys):
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    assert "241 MB" in capsys.readouterr().err
    (headers,) = server.asked(ZIP)
    assert re.fullmatch(r"tcig/\d[\w.]*", headers["User-Agent"])
    assert "Range" not in headers


def test_only_the_missing_annotation_is_written(server, tmp_path):
    present = tmp_path / "annotations" / "instances_val2017.json"
    present.parent.mkdir()
    present.write_text("mine")
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path, b"mine")


def test_present_files_cause_neither_request_nor_write(server, tmp_path):
    for name in ("annotations/instances_val2017.json", "annotations/captions_val2017.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "000000000001.jpg").write_bytes(b"left alone")
    before = sorted(tmp_path.rglob("*"))
    download.fetch_annotations(tmp_path, 2017)
    download.fetch_images(tmp_path, 2017, images(1))
    assert server.log == []
    assert sorted(tmp_path.rglob("*")) == before


def test_cut_connection_is_resumed_by_the_remaining_bytes(server, tmp_path):
    size = len(server.files[ZIP])
    server.faults[ZIP] = [Fault(cut=30_000)]
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    _, second = server.asked(ZIP)
    start = int(re.fullmatch(r"bytes=(\d+)-", second["Range"])[1])
    assert 30_000 - transfer.CHUNK <= start <= 30_000
    assert server.sent(ZIP) == 30_000 + size - start


def test_cut_image_is_resumed(server, tmp_path):
    path = "/val2017/000000000001.jpg"
    server.faults[path] = [Fault(cut=2000)]
    download.fetch_images(tmp_path, 2017, images(1))
    assert (tmp_path / path[1:]).read_bytes() == server.files[path]
    assert server.sent(path) < 2 * len(server.files[path])
    assert names(tmp_path / "val2017") == ["000000000001.jpg"]


def test_server_ignoring_range_starts_anew(server, tmp_path):
    path = "/val2017/000000000001.jpg"
    server.faults[path] = [Fault(cut=2000), Fault(ignore_range=True)]
    download.fetch_images(tmp_path, 2017, images(1))
    assert (tmp_path / path[1:]).read_bytes() == server.files[path]
    assert "Range" in server.asked(path)[1]


def test_file_changed_between_attempts_starts_anew(server, tmp_path):
    path, changed = "/val2017/000000000001.jpg", jpeg(41, 30)
    assert changed != server.files[path]
    server.faults[path] = [Fault(cut=2000, swap=changed)]
    download.fetch_images(tmp_path, 2017, images(1))
    assert (tmp_path / path[1:]).read_bytes() == changed
    assert "Range" in server.asked(path)[1]


def test_no_etag_starts_anew(server, tmp_path):
    server.faults[ZIP] = [Fault(cut=30_000, headers={"ETag": ""})]
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    assert "Range" not in server.asked(ZIP)[1]


@pytest.mark.parametrize("fault", [Fault(416), Fault(206, {"Content-Range": "bytes 7-8/9"})])
def test_unusable_range_starts_anew(server, tmp_path, fault):
    server.faults[ZIP] = [Fault(cut=30_000), fault]
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    assert ["Range" in headers for headers in server.asked(ZIP)] == [False, True, False]


def test_killed_annotations_resume(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_after(patch, chunks=10)
        with pytest.raises(KeyboardInterrupt):
            download.fetch_annotations(tmp_path, 2017)
    assert names(tmp_path / "annotations") == [f"{ZIP[13:]}.etag", f"{ZIP[13:]}.part"]
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    assert server.asked(ZIP)[1]["Range"] == f"bytes={10 * transfer.CHUNK}-"


def test_killed_before_the_extraction_fetches_nothing_twice(server, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "_extract", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download.fetch_annotations(tmp_path, 2017)
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    assert server.sent(ZIP) == len(server.files[ZIP])


def test_killed_image_resumes(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_after(patch, chunks=2)
        with pytest.raises(KeyboardInterrupt):
            download.fetch_images(tmp_path, 2017, images(1))
    name = "000000000001.jpg"
    assert names(tmp_path / "val2017") == [f"{name}.etag", f"{name}.part"]
    download.fetch_images(tmp_path, 2017, images(1))
    assert names(tmp_path / "val2017") == [name]
    assert server.asked(f"/val2017/{name}")[1]["Range"] == "bytes=2048-"


def test_busy_server_is_waited_for(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.faults[ZIP] = [Fault(503, {"Retry-After": "7"}), Fault(429, {"Retry-After": "9999"})]
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)
    assert [wait for wait in waits if wait] == [7, 300]


@pytest.mark.parametrize("fault", [Fault(503), Fault(cut=0)], ids=["busy", "cut"])
def test_retries_end_after_exponential_waits(server, tmp_path, monkeypatch, fault):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(transfer, "BACKOFF", 1)
    server.faults[ZIP] = [fault] * 20
    with pytest.raises(
        InputError, match=r"(broke off|gives no answer).* TCIG_COCO_MIRROR, .*same command again"
    ):
        download.fetch_annotations(tmp_path, 2017)
    assert len(server.asked(ZIP)) == 1 + transfer.RETRIES
    waits = [wait for wait in waits if wait]
    assert len(waits) >= 4
    assert all(later >= 2 * wait for wait, later in itertools.pairwise(waits))


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_final(server, tmp_path, status):
    server.faults[ZIP] = [Fault(status)]
    with pytest.raises(InputError, match=rf"{ZIP} answers {status} .*: check this address"):
        download.fetch_annotations(tmp_path, 2017)
    assert len(server.log) == 1


@pytest.mark.parametrize("place", ["member", "directory"])
def test_corrupt_archive_is_discarded(server, tmp_path, place):
    good = server.files[ZIP]
    broken = good.replace(INSTANCES, INSTANCES[::-1]) if place == "member" else good[:-30]
    assert broken != good
    server.files[ZIP] = broken
    with pytest.raises(InputError, match="is broken"):
        download.fetch_annotations(tmp_path, 2017)
    assert not [name for name in names(tmp_path / "annotations") if not name.endswith("json.part")]
    server.files[ZIP] = good
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)


def test_an_encrypted_archive_is_discarded_and_fetched_anew(server, tmp_path):
    """Its flag stands in the member's headers; resuming it would refuse it for ever."""
    good = server.files[ZIP]
    locked = bytearray(good)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := locked.find(signature, place + 1)) >= 0:
            locked[place + offset] |= 1
    server.files[ZIP] = bytes(locked)
    with pytest.raises(InputError, match=r"is broken .*encrypted"):
        download.fetch_annotations(tmp_path, 2017)
    server.files[ZIP] = good
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)


def test_an_archive_that_is_not_cocos_is_refused_from_its_own_address(
    server, tmp_path, monkeypatch
):
    """Plain HTTP can be changed on the way; of a mirror it is only said."""
    with pytest.warns(UserWarning, match="not the archive that COCO published"):
        download.fetch_annotations(tmp_path / "mirrored", 2017)
    monkeypatch.setattr(download, "BASE", os.environ["TCIG_COCO_MIRROR"])
    monkeypatch.delenv("TCIG_COCO_MIRROR")
    with pytest.raises(InputError, match="not the archive that COCO published"):
        download.fetch_annotations(tmp_path, 2017)
    assert not list((tmp_path / "annotations").glob("*.json"))
    digest = hashlib.sha256(server.files[ZIP]).hexdigest()
    monkeypatch.setitem(download.ARCHIVES, 2017, digest)
    download.fetch_annotations(tmp_path, 2017)
    assert_annotations(tmp_path)


def test_only_the_images_asked_for_are_fetched(server, tmp_path):
    download.fetch_images(tmp_path, 2017, images(0, 2, 2))
    assert names(tmp_path / "val2017") == ["000000000000.jpg", "000000000002.jpg"]
    assert sorted(path for path, *_ in server.log) == [
        "/val2017/000000000000.jpg",
        "/val2017/000000000002.jpg",
    ]
    assert (tmp_path / "val2017" / "000000000002.jpg").read_bytes() == server.files[
        "/val2017/000000000002.jpg"
    ]


def test_at_most_four_connections(server, tmp_path):
    server.delay = 0.02
    server.files |= {f"/val2017/{i:012}.jpg": jpeg(40 + i, 30) for i in range(16)}
    download.fetch_images(tmp_path, 2017, images(*range(16)))
    assert 1 < server.most_active <= 4
    assert len(names(tmp_path / "val2017")) == 16


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (None, "answers 404"),
        (jpeg(30, 41), r"its size is \(30, 41\), not \(41, 30\)"),
        (jpeg(41, 30)[:1500], "truncated"),
        (b"<html>not an image</html>", "not a picture"),
    ],
    ids=["missing", "wrong size", "truncated", "no image"],
)
def test_a_broken_image_does_not_stop_the_others(server, tmp_path, broken, reason):
    server.files["/val2017/000000000001.jpg"] = broken
    with pytest.raises(InputError, match=f"^1 of 3 images .*0001.jpg .*{reason}.* same command"):
        download.fetch_images(tmp_path, 2017, images(0, 1, 2))
    assert names(tmp_path / "val2017") == ["000000000000.jpg", "000000000002.jpg"]
    server.files["/val2017/000000000001.jpg"] = jpeg(41, 30)
    download.fetch_images(tmp_path, 2017, images(0, 1, 2))
    assert len(names(tmp_path / "val2017")) == 3


def test_many_missing_images_do_not_stop_the_others(server, tmp_path):
    with pytest.raises(InputError, match=r"^20 of 23 images .*; \.\.\.; run") as caught:
        download.fetch_images(tmp_path, 2017, images(*range(4, 24), 0, 1, 2))
    assert str(caught.value).count("answers 404") == 3
    assert len(names(tmp_path / "val2017")) == 3


def test_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "BACKOFF", 0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TCIG_COCO_MIRROR", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        tried = []
        intact = requests.Session.get
        monkeypatch.setattr(
            requests.Session, "get", lambda *args, **kw: tried.append(1) or intact(*args, **kw)
        )
        with pytest.raises(InputError, match="images could not be fetched"):
            download.fetch_images(tmp_path, 2017, images(*range(200)))
    assert len(tried) < 100
    assert names(tmp_path / "val2017") == []


@pytest.mark.parametrize("name", ["../x.jpg", "/x.jpg", "a/b.jpg", "..", "a\\b.jpg", "x.jpg\n", ""])
def test_a_name_that_is_a_path_is_refused(server, tmp_path, name):
    with pytest.raises(InputError, match="no plain file name"):
        download.fetch_images(tmp_path, 2017, [*images(0), (name, 41, 30)])
    assert server.log == []
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_an_input_error(server, tmp_path):
    (tmp_path / "val2017").write_text("a file in the way")
    with pytest.raises(InputError, match="cannot write to"):
        download.fetch_images(tmp_path, 2017, images(0))
