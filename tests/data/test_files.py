"""Files: what is read, written whole, locked, and parsed."""

import os
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcig.data.files import (
    InputError,
    Shard,
    parse_json,
    read_file,
    read_json,
    read_toml,
    sha256,
    sole_writer,
    write_whole,
)
from tcig.data.pictures import open_picture


@pytest.mark.parametrize("read", [read_file, open_picture, sha256])
def test_only_regular_files_are_read(tmp_path, refused, read):
    pipe, link = tmp_path / "pipe.png", tmp_path / "link.png"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, Path("/dev/zero")):
        with refused(path, "not a regular file"):
            read(path)
    with refused(tmp_path, "a folder"):
        read(tmp_path)
    with refused(tmp_path / "none", "No such file"):
        read(tmp_path / "none")


def test_files_of_many_gigabytes_are_not_read(tmp_path, refused):
    path = tmp_path / "sparse.json"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)
    with refused(path, "3,221,225,472 bytes"):
        read_file(path)


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "file"
    for content in ("text é\n", b"\x00bytes", "abc"):
        write_whole(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("before", [{}, {"file": b"old"}])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there_and_names_its_file(
    tmp_path, monkeypatch, before, failing
):
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space") as caught:
        write_whole(tmp_path / "file", b"new")
    assert caught.value.filename == str(tmp_path / "file")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_place_that_cannot_be_written_is_named(tmp_path, refused):
    with refused(tmp_path, "is a folder"):
        write_whole(tmp_path, "x")
    with pytest.raises(OSError, match="report") as caught:
        write_whole(tmp_path / "none" / "report.html", "x")
    assert caught.value.filename.endswith("none/report.html")


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shards_make_the_whole_once_and_alike(items, count):
    parts = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(chain(*parts)) == sorted(items)
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_a_shard_is_parsed():
    assert Shard.parse("2/8") == (2, 8)
    for text in ("", "2", "0/8", "9/8", "2/0", "-1/8", "a/b", "1/2/3", "1.0/2"):
        with pytest.raises(InputError, match=r"2/8"):
            Shard.parse(text)


def refusal(folder, shard=None):
    """How another process is told that it may not write there, None if it may."""
    try:
        with sole_writer(folder, shard):
            return None
    except InputError as error:
        return str(error)


def test_shards_of_one_whole_write_at_once_each_of_them_once(tmp_path):
    with sole_writer(tmp_path, Shard(1, 3)):
        assert refusal(tmp_path, Shard(2, 3)) is None
        assert "part 1/3, is being written by another" in refusal(tmp_path, Shard(1, 3))
        assert "is being written by another" in refusal(tmp_path)
        assert "as 1-of-3 is being written by another" in refusal(tmp_path, Shard(1, 2))
    assert refusal(tmp_path, Shard(1, 2)) is None
    with sole_writer(tmp_path):
        assert "is being written by another" in refusal(tmp_path, Shard(1, 3))
    assert refusal(tmp_path) is None


def test_a_disk_without_locks_is_named(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    assert ".lock cannot be locked (No locks available)" in refusal(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_of_editors_are_read(tmp_path, encoding):
    path = tmp_path / "file"
    path.write_bytes('{"é": [1]}\r\n'.encode(encoding))
    assert read_json(path) == {"é": [1]}
    path.write_bytes('name = "é"\r\n'.encode(encoding))
    assert read_toml(path) == {"name": "é"}


DEEP = ["[" * 200_000, '{"a":' * 200_000, "9" * 5_000, "[" + "1" * 9_999 + "]"]


@pytest.mark.parametrize("text", [*DEEP, "", "{", "\x00", "[1,]", "{'a': 1}"])
def test_other_files_are_not_json(refused, text):
    with refused("the file", "not JSON", "make it again"):
        parse_json(text.encode(), "the file", "make it again")


@pytest.mark.parametrize(
    "content",
    [b"a = " + b"[" * 200_000, b"a = " + b"9" * 5_000, b"a", b"a = 1\na = 2", b'a = "\xff\xfe"'],
)
def test_other_files_are_not_toml(tmp_path, refused, content):
    path = tmp_path / "p.toml"
    path.write_bytes(content)
    with refused(path, "not TOML"):
        read_toml(path)
