"""The loop: what it asks the method for, what it records, and what stops it."""

import errno
import re

import numpy as np
import pytest
from PIL import Image
from toy import rows_of
from tqdm import tqdm

from tcig.data.files import InputError
from tcig.data.layout import seed_of
from tcig.eval.provenance import revision
from tcig.run.generate import generate


def test_a_row_tells_what_was_made(open_store, noise, layouts):
    with open_store() as store:
        assert generate(noise, layouts[:2], 2, 8, store) == 0
    expected = [("1", 0), ("1", 1), ("2", 0), ("2", 1)]
    assert noise.calls == [[(layout, seed_of(layout, n)) for layout, n in expected]]
    rows = rows_of(store.folder)
    assert [(row["layout"], row["sample"]) for row in rows] == expected
    for row in rows:
        assert row["seed"] == seed_of(row["layout"], row["sample"])
        assert row["error"] is None
        assert 0 <= row["seconds"] < 5
        assert 20 < row["peak_mib"] < 100_000
        assert row["batch"] == 4
        assert row["peak_device_mib"] is None
        assert row["device"].startswith("cpu ")
        versions = {"tcig", "torch", "diffusers", "numpy", "pillow", "python"}
        assert set(row["versions"]) - {"revision"} == versions
        assert ("revision" in row["versions"]) == (revision()[0] is not None)


@pytest.mark.parametrize("batch", [3, 64])
def test_images_do_not_depend_on_batch_or_order(open_store, noise, layouts, batch):
    with open_store() as store:
        assert generate(noise, layouts[:10][::-1], 1, batch, store) == 0
    assert max(map(len, noise.calls)) == min(batch, 10)
    assert len(noise.calls) == -(-10 // batch)
    assert len(store.done) == 10
    for layout, sample in store.done:
        with Image.open(store.image(layout, sample)) as image:
            assert image.tobytes() == noise.image(seed_of(layout, sample)).tobytes()


def test_subsets_nest_and_samples_extend(open_store, noise, layouts):
    for asked, samples, fresh in [(5, 1, 5), (10, 1, 5), (10, 2, 10), (3, 1, 0), (10, 2, 0)]:
        noise.calls.clear()
        with open_store() as store:
            assert generate(noise, layouts[:asked], samples, 4, store) == 0
        assert len(noise.drawn) == len(set(noise.drawn)) == fresh
    pairs = sorted((row["layout"], row["sample"]) for row in rows_of(store.folder))
    assert pairs == sorted((layout.id, n) for layout in layouts[:10] for n in (0, 1))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_failing_sample_costs_no_other(open_store, noise, layouts, batch, capsys):
    noise.bad = {"2", "5"}
    with open_store() as store:
        assert generate(noise, layouts[:7], 1, batch, store) == 2
    rows = {row["layout"]: row for row in rows_of(store.folder)}
    assert len(rows_of(store.folder)) == len(rows) == 7
    assert {name for name, row in rows.items() if row["error"]} == {"2", "5"}
    error = rows["2"]["error"]
    assert re.fullmatch(r"ValueError: no such luck \(line \d+ of \w+\.py\)", error)
    assert 0 <= rows["2"]["seconds"] < 5
    assert rows["2"]["seed"] == seed_of("2", 0)
    assert {path.name for path in store.folder.glob("*.png")} == {
        f"{n}-0.png" for n in (1, 3, 4, 6, 7)
    }
    err = capsys.readouterr().err
    assert err.count(f"noise 2-0 failed: {error}\n") == 1
    assert "5-0" not in err, "the same error again is counted"
    assert "noise: 2 of 7 samples failed" in err
    assert "rows.jsonl" in err
    assert "tcig check" in err


@pytest.mark.parametrize(
    "error",
    [
        InputError("give --coco FOLDER."),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_method_raises_is_the_sample_s_failure(open_store, noise, layouts, error):
    noise.bad, noise.error = {"2"}, error
    with open_store() as store:
        assert generate(noise, layouts[:3], 1, 3, store) == 1
    assert store.done.keys() == {("1", 0), ("3", 0)}
    if isinstance(error, InputError):
        assert {row["error"] for row in rows_of(store.folder)} == {None, str(error)}


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


@pytest.fixture
def moves(noise, monkeypatch):
    """Makes the method tell these shares of a call; how the bar moves."""
    moves, draw = [], type(noise).generate
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: moves.append(n))

    def tell(*shares):
        def generate_(self, given, seeds, callback=None):
            for share in shares:
                callback("progress", done=share)
            return draw(self, given, seeds)

        monkeypatch.setattr(type(noise), "generate", generate_)
        return moves

    return tell


def test_the_bar_moves_by_fractions_and_ends_at_the_whole(layouts, open_store, noise, moves):
    told = moves(0.25, 0.5, 0.75, 1.0)
    with open_store() as store:
        assert generate(noise, layouts[:6], 1, 3, store) == 0
    assert sum(told) == pytest.approx(6)
    assert told[:4] == pytest.approx([0.75] * 4), "a quarter of three samples, four times"


def test_what_fails_and_is_tried_again_moves_the_bar_once(layouts, open_store, noise, moves):
    told = moves(0.9)
    noise.bad = {layouts[1].id}
    with open_store() as store:
        assert generate(noise, layouts[:4], 1, 4, store) == 1
    assert sum(told) == pytest.approx(4)
    assert min(told) >= 0
