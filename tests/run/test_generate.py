"""The loop and the folder of a run: what is asked for, recorded, resumed, and what stops it."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from toy import rows_of
from tqdm import tqdm

from tcig.data.files import sha256
from tcig.data.layout import seed_of
from tcig.eval.provenance import revision
from tcig.run.generate import RunStore, generate


def test_a_folder_tells_what_was_made(open_store, noise, layouts, spec):
    with open_store() as store:
        assert generate(noise, layouts[:2], 2, 8, store) == 0
    expected = [("1", 0), ("1", 1), ("2", 0), ("2", 1)]
    assert noise.calls == [[(layout, seed_of(layout, n)) for layout, n in expected]]
    rows = rows_of(store.folder)
    assert [(row["layout"], row["sample"]) for row in rows] == expected
    for row in rows:
        assert row["seed"] == seed_of(row["layout"], row["sample"])
        assert (row["error"], row["batch"], row["peak_device_mib"]) == (None, 4, None)
        assert 0 <= row["seconds"] < 5
        assert 20 < row["peak_mib"] < 100_000
        assert row["device"].startswith("cpu ")
        versions = {"tcig", "torch", "diffusers", "numpy", "pillow", "python"}
        assert set(row["versions"]) - {"revision"} == versions
        assert ("revision" in row["versions"]) == (revision()[0] is not None)
        with Image.open(store.image(row["layout"], row["sample"])) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert image.tobytes() == noise.image(row["seed"]).tobytes()
    names = {f"{layout}-{sample}.png" for layout, sample in expected}
    found = {path.name for path in store.folder.iterdir()}
    assert found == names | {"rows.jsonl", "run.json", ".lock"}
    header = json.loads((store.folder / "run.json").read_text())
    asked = {"limit": None, "samples": None}
    assert header == {"spec": spec.model_dump(), "asked": asked, "profile": {}}


def test_subsets_nest_and_samples_extend(open_store, noise, layouts):
    for asked, samples, fresh in [(5, 1, 5), (10, 1, 5), (10, 2, 10), (3, 1, 0), (10, 2, 0)]:
        noise.calls.clear()
        with open_store() as store:
            assert generate(noise, layouts[:asked], samples, 4, store) == 0
        assert len(noise.drawn) == len(set(noise.drawn)) == fresh
    pairs = sorted((row["layout"], row["sample"]) for row in rows_of(store.folder))
    assert pairs == sorted((layout.id, n) for layout in layouts[:10] for n in (0, 1))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("error", [ValueError("no such luck"), MemoryError(), OSError(32, "Pipe")])
def test_a_failing_sample_costs_no_other(open_store, noise, layouts, batch, error, capsys):
    noise.bad, noise.error = {"2", "5"}, error
    with open_store() as store:
        noise.image(1).save(store.image("2", 0))  # as a kill may leave it; it would be scored
        assert generate(noise, layouts[:7], 1, batch, store) == 2
    rows = {row["layout"]: row for row in rows_of(store.folder)}
    assert len(rows_of(store.folder)) == len(rows) == 7
    assert {name for name, row in rows.items() if row["error"]} == {"2", "5"}
    said = rows["2"]["error"]
    assert re.fullmatch(rf"{type(error).__name__}: .*\(line \d+ of \w+\.py\)", said)
    images = {f"{n}-0.png" for n in (1, 3, 4, 6, 7)}
    assert {path.name for path in store.folder.glob("*.png")} == images
    err = capsys.readouterr().err
    assert err.count(f"noise 2-0 failed: {said}\n") == 1
    assert "5-0" not in err, "the same error again is counted"
    assert "noise: 2 of 7 samples failed" in err
    noise.bad = set()
    noise.calls.clear()
    with open_store() as store:
        assert generate(noise, layouts[:7], 1, batch, store) == 0
    assert [layout for layout, _ in noise.drawn] == ["2", "5"]
    assert not any(row["error"] for row in rows_of(store.folder))


RGB = Image.new("RGB", (16, 16))


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], "ValueError: the method gave a list of 0 for 1 layout: "),
        ([RGB.resize((32, 32))], "gave a RGB image of 32x32, RGB of 16x16 is needed"),
        ([RGB.convert("L")], "gave a L image of 16x16, RGB of 16x16 is needed"),
        ([np.asarray(RGB)], "the method gave"),
        ("cut", "truncated"),
    ],
    ids=["none", "large", "grey", "array", "cut"],
)
def test_what_is_no_image_is_the_only_failure(open_store, noise, layouts, images, text, tmp_path):
    """Pillow opens lazily: a method may hand over a file of which only the header is good."""
    noise.image(1).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    draw = noise.generate

    def generate_(layouts, seeds, callback=None):
        if [layout.id for layout in layouts] == ["2"]:
            return [Image.open(tmp_path / "cut.png")] if images == "cut" else images
        return [] if "2" in [layout.id for layout in layouts] else draw(layouts, seeds)

    noise.generate = generate_
    with open_store() as store:
        assert generate(noise, layouts[:3], 1, 3, store) == 1
    assert store.done.keys() == {("1", 0), ("3", 0)}
    (error,) = (row["error"] for row in rows_of(store.folder) if row["error"])
    assert text in error
    assert not store.image("2", 0).exists()


def test_ctrl_c_stops_the_run_between_commits(open_store, noise, layouts):
    noise.bad, noise.error = {"4"}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), open_store() as store:
        generate(noise, layouts[:6], 1, 2, store)
    assert [row["layout"] for row in rows_of(open_store().folder)] == ["1", "2"]
    noise.bad = set()
    with open_store() as store:
        assert generate(noise, layouts[:6], 1, 2, store) == 0
    assert len(store.done) == 6


@pytest.mark.parametrize(("bad", "shares"), [((), (0.25, 0.5, 0.75, 1.0)), (("2",), (0.9,))])
def test_the_bar_moves_by_fractions_and_ends_at_the_whole(
    layouts, open_store, noise, monkeypatch, bad, shares
):
    """Also where a sample fails and its batch is tried again."""
    moves, draw = [], noise.generate
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: moves.append(n))

    def generate_(given, seeds, callback=None):
        for share in shares:
            callback("progress", done=share)
        return draw(given, seeds)

    noise.generate, noise.bad = generate_, set(bad)
    with open_store() as store:
        assert generate(noise, layouts[:6], 1, 3, store) == len(bad)
    assert sum(moves) == pytest.approx(6)
    assert min(moves) >= 0
    if not bad:
        assert moves[:4] == pytest.approx([0.75] * 4), "a quarter of three samples, four times"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not a run's record"),
        ('{"spec": {}, "asked": {}}', "not a run's record"),
        ("another", "the record of another run"),
    ],
)
def test_another_run_in_the_folder_is_refused_untouched(
    noise, layouts, open_store, spec, content, said, refused
):
    with open_store() as store:
        generate(noise, layouts[:4], 1, 2, store)
    if content == "another":
        other = spec.model_copy(update={"manifest": "1" * 64})
        content = json.dumps({"spec": other.model_dump(), "asked": {}, "profile": {}})
    path, rows = store.folder / "run.json", (store.folder / "rows.jsonl").read_bytes()
    path.write_text(content)
    with refused(path, said):
        open_store().__enter__()
    assert path.read_text() == content
    assert (store.folder / "rows.jsonl").read_bytes() == rows
    path.unlink()
    with open_store() as store:  # the refused one no longer holds the folder, whose name says whose
        assert len(store.done) == 4


def test_the_manifest_is_copied_beside_the_images_if_it_is_the_spec_s(tmp_path, spec):
    manifest = tmp_path / "layouts.jsonl"
    manifest.write_bytes(b"{}\n")
    for own in (spec, spec.model_copy(update={"manifest": sha256(manifest)})):
        with RunStore(tmp_path / "runs", own, {}, {}, manifest=manifest) as store:
            copy = store.folder / "layouts.jsonl"
            assert copy.exists() == (own is not spec)
    assert copy.read_bytes() == manifest.read_bytes()
