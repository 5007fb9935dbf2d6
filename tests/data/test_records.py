"""The one store of records: what is read back, and what a kill at any point leaves."""

import contextlib
import errno
import json
import os
from functools import partial
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict

from tcig.data.files import Shard
from tcig.data.layout import LayoutId
from tcig.data.records import SAMPLE_RECORD, Count, RecordStore, read_records

GOOD = {"layout": "55", "sample": 0, "error": None, "seconds": 1.5, "note": {"kept": [1]}}
BAD = [
    *({"layout": value} for value in (55, "../55", None, "")),
    *({"sample": value} for value in ("0", -1, 1.5, True)),
    *({"seconds": value} for value in ("fast", float("nan"))),
    {"error": 3},
    {"versions": []},
    {"peak_mib": "much"},
]
TORN = [b"[]", b"3", b"null", b"{", b"\x00" * 40, b"[" * 99_999, b"\xff"]


@pytest.mark.parametrize("line", [json.dumps(GOOD | bad).encode() for bad in BAD] + TORN)
def test_a_line_that_does_not_fit_is_left_out(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b"\n" + json.dumps(GOOD).encode() + b"\n" + line)
    (record,) = read_records(path, SAMPLE_RECORD)
    assert list(record.items()) == list(GOOD.items()), "fields keep their order"
    assert read_records(tmp_path / "none.jsonl", SAMPLE_RECORD) == []


class Header(BaseModel):
    key: str = "one"


class Record(TypedDict):
    layout: LayoutId
    sample: Count


SCHEMA = TypeAdapter(Record)


class Store(RecordStore):
    """A file of the sample's number beside each record."""

    def __init__(self, folder: Path, key: str = "one", shard: Shard | None = None):
        self.paths = lambda layout: folder / f"{layout}.bin"
        header = folder / "header.json"
        whole = lambda record: self.paths(record["layout"]).exists()  # noqa: E731
        super().__init__(header, Header(key=key), SCHEMA, whole, shard=shard)

    def put(self, layout: str, **fields) -> None:
        record = {"layout": layout, "sample": 0} | fields
        self.add(record, {self.paths(layout): layout.encode()})


NAMES = ["a", "b", "c", "d", "e"]


def fill(folder, **options):
    """Adds what the store lacks; what that was."""
    with Store(folder, **options) as store:
        lacking = [name for name in NAMES if (name, 0) not in store.done]
        for name in lacking:
            store.put(name)
    return lacking


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def filled(tmp_path):
    assert fill(tmp_path / "store") == NAMES
    return tmp_path / "store"


def test_a_record_cut_anywhere_is_made_again(filled):
    before = content(filled)
    names = {*(f"{name}.bin" for name in NAMES), "rows.jsonl", "header.json", ".lock"}
    assert before.keys() == names
    rows = before["rows.jsonl"]
    for cut in range(len(rows) + 1):
        (filled / "rows.jsonl").write_bytes(rows[:cut])
        whole = rows[: cut + 1].count(b"}\n") if cut else 0
        assert fill(filled) == NAMES[whole:], cut
        assert content(filled) == before, cut


@pytest.mark.parametrize("tail", [b"\0" * 300 + b"\n\xff\xfe\n", b"\n\n", b'{"layout": "a"}\n'])
def test_what_a_crash_of_the_machine_leaves_is_dropped(filled, tail):
    before = content(filled)
    with (filled / "rows.jsonl").open("ab") as file:
        file.write(tail)
    for name in (".a.bin.4711.part", ".rows.jsonl.4711.part", "notes.part"):
        (filled / name).write_text("half")
    assert fill(filled) == []
    assert content(filled) == before | {"notes.part": b"half"}


def test_the_last_record_of_a_sample_counts(filled):
    with Store(filled) as store:
        store.put("b", note="newer")
    assert fill(filled) == []
    found = read_records(filled / "rows.jsonl", SCHEMA)
    assert [record["layout"] for record in found] == NAMES
    assert [record.get("note") for record in found] == [None, "newer", None, None, None]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda folder: (folder / "c.bin").unlink(), ["c"]),
        (lambda folder: (folder / "rows.jsonl").unlink(), NAMES),
        (lambda folder: (folder / "header.json").unlink(), NAMES),
        (lambda folder: (folder / "header.json").write_bytes(b"\xff{"), NAMES),
        (lambda folder: (folder / "header.json").write_text('{"key": "two"}'), NAMES),
    ],
)
def test_what_is_lost_or_under_another_key_is_made_again(filled, change, again):
    change(filled)
    assert fill(filled) == again
    assert fill(filled) == []
    assert fill(filled, key="two") == NAMES


def test_one_writer_at_a_time_and_none_after_an_error(tmp_path, refused):
    with Store(tmp_path), refused(tmp_path, "being written by another process"):
        Store(tmp_path).__enter__()
    with pytest.raises(ZeroDivisionError), Store(tmp_path):
        raise ZeroDivisionError
    with Store(tmp_path):
        pass


def test_shards_write_beside_each_other_and_are_put_together(tmp_path):
    with Store(tmp_path, shard=Shard(1, 2)) as one, Store(tmp_path, shard=Shard(2, 2)) as two:
        one.put("a")
        two.put("b")
        two.put("c", error="bad")
    with Store(tmp_path, shard=Shard(1, 2)) as store:
        assert store.done.keys() == {("a", 0), ("b", 0)}, "reads the other's"
        store.put("d")
    assert fill(tmp_path) == ["c", "e"]
    assert not list(tmp_path.glob("rows.*-of-*")) + list(tmp_path.glob(".lock.*"))
    kept = [record["layout"] for record in read_records(tmp_path / "rows.jsonl", SCHEMA)]
    assert sorted(kept) == NAMES


class Killed(BaseException):
    """Ends the process."""


class Failing:
    """A file whose `write` is another function."""

    def __init__(self, file, write):
        self.file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self.file, name)


def kill(monkeypatch, point, count):
    """Has the `count`-th writing of its kind die before, within or after, and all later ones."""
    replace, write, left = Path.replace, os.write, [count]

    def due() -> bool:
        left[0] -= 1
        return left[0] <= 0

    def dying_replace(path, target):
        hit = point[1] == target.suffix and due()
        if hit and point[0] == "before":
            raise Killed
        replace(path, target)
        if hit:
            raise Killed

    def dying_write(file, data):
        if not due():
            return file.write(data)
        size = {"first": 1, "half": len(data) // 2, "unended": len(data) - 1}[point[1]]
        write(file.fileno(), data[:size])
        raise Killed

    if point[0] == "row":
        enter = Store.__enter__

        def dying_enter(store):
            enter(store)
            store._file = Failing(store._file, partial(dying_write, store._file))
            return store

        monkeypatch.setattr(Store, "__enter__", dying_enter)
    else:
        monkeypatch.setattr(Path, "replace", dying_replace)
    monkeypatch.setattr(Path, "unlink", lambda *arguments, **options: None)


@pytest.mark.parametrize(
    "point",
    [
        ("before", ".json"), ("after", ".json"), ("before", ".bin"), ("after", ".bin"),
        ("row", "first"), ("row", "half"), ("row", "unended"),
    ],
    ids="-".join,
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_kill_at_any_writing_loses_at_most_one_sample(tmp_path, monkeypatch, point, count):
    fill(tmp_path / "whole")
    folder = tmp_path / "store"
    with monkeypatch.context() as patched:
        kill(patched, point, count)
        if not (point[1] == ".json" and count > 1):
            with pytest.raises(Killed):
                fill(folder)
    done = 0 if point[1] == ".json" else count - (point != ("row", "unended"))
    with monkeypatch.context() as patched:  # the mending is killed too
        kill(patched, ("before", ".jsonl"), 1)
        with contextlib.suppress(Killed):
            fill(folder)
    assert fill(folder) in (NAMES[done:], [])
    assert content(folder) == content(tmp_path / "whole")


def test_a_full_disk_keeps_what_is_done_and_names_the_file(tmp_path):
    def write(data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(tmp_path) as store:
        for name in "ab":
            store.put(name)
        store._file = Failing(store._file, write)
        with pytest.raises(OSError, match=r"rows\.jsonl"):
            store.put("c")
        assert store.done.keys() == {("a", 0), ("b", 0)}
    assert fill(tmp_path) == ["c", "d", "e"]


def test_a_record_is_on_disk_when_add_returns_and_its_file_before_it(tmp_path, monkeypatch):
    order = []
    name = lambda number: Path(f"/proc/self/fd/{number}").readlink().suffix  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda number: order.append(name(number)))
    with Store(tmp_path) as store:
        order.clear()
        store.put("a")
        assert read_records(tmp_path / "rows.jsonl", SCHEMA) == [{"layout": "a", "sample": 0}]
    assert order == [".part", ".jsonl"]
