"""What a folder looks like after a run, and what opening it again mends or refuses."""

import io
import json
from dataclasses import asdict, dataclass

import pytest
from PIL import Image

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.run.generate import generate
from tcig.run.store import RunStore


@pytest.fixture
def filled(open_store, noise, layouts):
    """A store of four samples, closed; its folder."""
    with open_store() as store:
        assert generate(noise, layouts[:4], 1, 2, store) == 0
    noise.calls.clear()
    return store.folder


def resume(open_store, noise, layouts):
    """Generates again; what the method was asked for."""
    with open_store() as store:
        assert generate(noise, layouts[:4], 1, 2, store) == 0
    return [layout for layout, _ in noise.drawn]


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]


def test_a_finished_folder_holds_images_rows_and_record_only(filled, noise, spec):
    names = {f"{n}-0.png" for n in range(1, 5)} | {"rows.jsonl", "run.json", ".lock"}
    assert {path.name for path in filled.iterdir()} == names
    for row in rows_of(filled):
        path = filled / f"{row['layout']}-0.png"
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert image.tobytes() == noise.image(row["seed"]).tobytes()
    assert json.loads((filled / "run.json").read_text()) == {
        "spec": spec.model_dump(),
        "asked": {},
        "profile": {},
    }


@pytest.mark.parametrize(
    ("cut", "lost"),
    [(0, []), (1, []), (2, ["4"]), (40, ["4"]), ("row", ["4"]), ("row and a bit", ["3", "4"])],
)
def test_a_torn_last_row_is_mended(filled, open_store, noise, layouts, read_rows, cut, lost):
    path = filled / "rows.jsonl"
    whole, before = path.read_bytes(), read_rows(filled)
    length = len(whole.splitlines(keepends=True)[-1])
    cut = {"row": length, "row and a bit": length + 2}.get(cut, cut)
    path.write_bytes(whole[: len(whole) - cut])
    assert resume(open_store, noise, layouts) == lost
    assert read_rows(filled) == before
    assert path.read_bytes().endswith(b"}\n")


def test_rows_that_a_crash_of_the_machine_left_empty_are_dropped(filled, open_store):
    path = filled / "rows.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 300 + b"\n\xff\xfe\n")
    with open_store() as store:
        assert len(store.done) == 4
    assert path.read_bytes() == whole


def test_a_row_that_stands_twice_is_kept_once(filled, open_store):
    path = filled / "rows.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole)
    with open_store():
        pass
    assert path.read_bytes() == whole


def test_a_row_without_its_image_is_done_again(filled, open_store, noise, layouts, read_images):
    before = read_images(filled)
    (filled / "2-0.png").unlink()
    assert resume(open_store, noise, layouts) == ["2"]
    assert read_images(filled) == before
    assert [row["layout"] for row in rows_of(filled)] == ["1", "3", "4", "2"]


def test_an_image_without_a_row_is_done_again(filled, open_store, noise, layouts, read_images):
    before = read_images(filled)
    lines = (filled / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (filled / "rows.jsonl").write_bytes(b"".join(lines[:2]))
    (filled / "4-0.png").write_bytes(b"half an image")
    assert resume(open_store, noise, layouts) == ["3", "4"]
    assert read_images(filled) == before


def test_a_failed_row_is_tried_again_and_goes(open_store, noise, layouts):
    noise.bad = {"2"}
    with open_store() as store:
        assert generate(noise, layouts[:4], 1, 2, store) == 1
    assert store.done == {("1", 0), ("3", 0), ("4", 0)}
    assert not store.image("2", 0).exists()
    assert sorted(row["layout"] for row in rows_of(store.folder) if row["error"]) == ["2"]
    noise.bad = set()
    noise.calls.clear()
    assert resume(open_store, noise, layouts) == ["2"]
    assert sorted(row["layout"] for row in rows_of(store.folder)) == ["1", "2", "3", "4"]
    assert not any(row["error"] for row in rows_of(store.folder))


def test_a_failed_sample_has_no_image_even_if_a_kill_left_one(open_store, noise, layouts):
    noise.bad = {"2"}
    with open_store() as store:
        noise.image(1).save(store.image("2", 0))
        assert generate(noise, layouts[:4], 1, 2, store) == 1
    assert not store.image("2", 0).exists()  # else it would be scored
    noise.image(1).save(store.image("2", 0))
    noise.bad = set()
    noise.calls.clear()
    assert resume(open_store, noise, layouts) == ["2"]


def test_drafts_go_and_all_else_stays(filled, open_store):
    (filled / ".1-0.png.4711.part").write_bytes(b"half")
    (filled / ".rows.jsonl.4711.part").write_bytes(b"half")
    (filled / "scores").mkdir()
    (filled / "notes.part").write_text("mine")
    with open_store() as store:
        assert len(store.done) == 4
    assert not list(filled.glob(".*.part"))
    assert (filled / "scores").is_dir()
    assert (filled / "notes.part").exists()


def test_a_row_is_on_disk_when_add_returns_and_its_image_before_it(open_store, noise, monkeypatch):
    """The row is the commit point: when it is written, the image is whole and in its place."""
    row = {"layout": "1", "sample": 0, "error": None}
    buffer = io.BytesIO()
    noise.image(7).save(buffer, "PNG")
    with open_store() as store:
        write = store._file

        class Watched:
            def write(self, data):
                assert store.image("1", 0).read_bytes() == buffer.getvalue()
                assert not list(store.folder.glob(".*.part"))
                return write.write(data)

            def __getattr__(self, name):
                return getattr(write, name)

        store._file = Watched()
        store.add(row, buffer.getvalue())
        assert rows_of(store.folder) == [row]
        assert store.done == {("1", 0)}
        store.add({"layout": "2", "sample": 0, "error": "bad"}, None)
        assert len(rows_of(store.folder)) == 2
        assert store.done == {("1", 0)}


def test_one_writer_at_a_time(open_store):
    with open_store():
        second = open_store()
        with pytest.raises(InputError, match="being written by another process"):
            second.__enter__()
    with open_store():
        pass
    with pytest.raises(ZeroDivisionError), open_store():
        raise ZeroDivisionError
    with open_store():
        pass


def test_what_was_asked_is_of_the_last_call(open_store):
    for asked in ({"limit": 5, "samples": 1}, {"limit": None, "samples": 2}):
        with open_store(asked) as store:
            record = json.loads((store.folder / "run.json").read_text())
        assert record["asked"] == asked


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "not a run's record"),
        ("[]", "not a run's record"),
        ("{}", "not a run's record"),
        ('{"spec": {}, "asked": {}}', "not a run's record"),
        ('{"spec": null}', "not a run's record"),
        ("another", "the record of another run"),
    ],
)
def test_another_run_in_the_folder_is_refused_untouched(filled, open_store, spec, content, match):
    if content == "another":
        other = spec.model_copy(update={"manifest": "1" * 64})
        content = json.dumps({"spec": other.model_dump(), "asked": {}})
    path, rows = filled / "run.json", (filled / "rows.jsonl").read_bytes()
    whole = path.read_bytes()
    path.write_text(content)
    refused = open_store()
    with pytest.raises(InputError, match=match) as caught:
        refused.__enter__()
    assert str(path) in str(caught.value)
    assert path.read_text() == content
    assert (filled / "rows.jsonl").read_bytes() == rows
    path.write_bytes(whole)
    with open_store() as store:  # the refused one no longer holds the folder
        assert len(store.done) == 4


@dataclass(frozen=True)
class Options:
    scales: tuple[float, ...] = (1.0, 0.5)
    steps: int = 4


def test_options_that_json_changes_do_not_stop_a_resume(tmp_path, spec):
    """JSON turns a tuple into a list; it is the same run all the same."""
    spec = spec.model_copy(update={"options": asdict(Options())})
    for _ in range(2):
        with RunStore(tmp_path, spec, {}, {}):
            pass


def test_the_manifest_is_copied_beside_the_images_if_it_is_the_spec_s(tmp_path, spec):
    manifest = tmp_path / "layouts.jsonl"
    manifest.write_bytes(b"{}\n")
    for own in (spec, spec.model_copy(update={"manifest": sha256(manifest)})):
        with RunStore(tmp_path / "runs", own, {}, {}, manifest=manifest) as store:
            copy = store.folder / "layouts.jsonl"
            assert copy.exists() == (own is not spec)
    assert copy.read_bytes() == manifest.read_bytes()
