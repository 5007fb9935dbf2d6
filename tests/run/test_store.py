"""What a folder looks like after a run, and what opening it again mends or refuses."""

import json
from dataclasses import asdict, dataclass

import pytest
from PIL import Image
from toy import rows_of

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


def test_a_finished_folder_holds_images_records_and_header_only(filled, noise, spec):
    names = {f"{n}-0.png" for n in range(1, 5)} | {"rows.jsonl", "run.json", ".lock"}
    assert {path.name for path in filled.iterdir()} == names
    for row in rows_of(filled):
        with Image.open(filled / f"{row['layout']}-0.png") as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert image.tobytes() == noise.image(row["seed"]).tobytes()
    assert json.loads((filled / "run.json").read_text()) == {
        "spec": spec.model_dump(),
        "asked": {"limit": None, "samples": None},
        "profile": {},
    }


def test_a_failed_sample_has_no_image_even_if_a_kill_left_one(open_store, noise, layouts):
    noise.bad = {"2"}
    with open_store() as store:
        noise.image(1).save(store.image("2", 0))
        assert generate(noise, layouts[:4], 1, 2, store) == 1
    assert store.done.keys() == {("1", 0), ("3", 0), ("4", 0)}
    assert not store.image("2", 0).exists()  # else it would be scored
    assert sorted(row["layout"] for row in rows_of(store.folder) if row["error"]) == ["2"]
    noise.image(1).save(store.image("2", 0))
    noise.bad = set()
    noise.calls.clear()
    assert resume(open_store, noise, layouts) == ["2"]
    assert not any(row["error"] for row in rows_of(store.folder))


def test_what_was_asked_is_of_the_last_call(open_store):
    for asked in ({"limit": 5, "samples": 1}, {"limit": None, "samples": 2}):
        with open_store(asked) as store:
            record = json.loads((store.folder / "run.json").read_text())
        assert record["asked"] == asked


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not a run's record"),
        ('{"spec": {}, "asked": {}}', "not a run's record"),
        ("another", "the record of another run"),
    ],
)
def test_another_run_in_the_folder_is_refused_untouched(
    filled, open_store, spec, content, said, refused
):
    if content == "another":
        other = spec.model_copy(update={"manifest": "1" * 64})
        content = json.dumps({"spec": other.model_dump(), "asked": {}, "profile": {}})
    path, rows = filled / "run.json", (filled / "rows.jsonl").read_bytes()
    whole = path.read_bytes()
    path.write_text(content)
    with refused(path, said):
        open_store().__enter__()
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
