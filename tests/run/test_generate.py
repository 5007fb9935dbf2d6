"""The loop: what it asks the method for, what it records, and what stops it."""

import errno
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tcig.data import records as store_module
from tcig.data.errors import InputError
from tcig.data.files import write_whole
from tcig.data.seeds import seed_of
from tcig.eval.provenance import revision
from tcig.run.generate import generate

ENOSPC = "No space left on device"


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]


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


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 64])
def test_images_do_not_depend_on_batch_or_order(
    open_store, noise, layouts, read_rows, read_images, batch
):
    with open_store() as store:
        assert generate(noise, layouts[:10][::-1], 1, batch, store) == 0
    assert max(map(len, noise.calls)) == min(batch, 10)
    assert len(noise.calls) == -(-10 // batch)
    images = read_images(store.folder)
    assert len(images) == 10
    for row in read_rows(store.folder):
        with Image.open(store.image(row["layout"], 0)) as image:
            assert image.tobytes() == noise.image(seed_of(row["layout"], 0)).tobytes()


def test_subsets_nest_and_samples_extend(open_store, noise, layouts):
    for asked, samples, fresh in [(5, 1, 5), (10, 1, 5), (10, 2, 10), (3, 1, 0), (10, 2, 0)]:
        noise.calls.clear()
        with open_store() as store:
            assert generate(noise, layouts[:asked], samples, 4, store) == 0
        assert len(noise.drawn) == len(set(noise.drawn)) == fresh
    pairs = sorted((row["layout"], row["sample"]) for row in rows_of(store.folder))
    assert pairs == sorted((layout.id, n) for layout in layouts[:10] for n in (0, 1))


@pytest.mark.parametrize("batch", [1, 3, 30])
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


def test_a_user_error_is_recorded_as_its_sentence(open_store, noise, layouts):
    noise.bad, noise.error = {"1"}, InputError("give --coco FOLDER.")
    with open_store() as store:
        assert generate(noise, layouts[:1], 1, 1, store) == 1
    assert rows_of(store.folder)[0]["error"] == "give --coco FOLDER."


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], "ValueError: the method gave a list of 0 for 1 layout: "),
        (
            [Image.new("RGB", (16, 16))] * 2,
            "ValueError: the method gave a list of 2 for 1 layout: ",
        ),
        ([Image.new("RGB", (16, 15))], "gave a RGB image of 16x15, RGB of 16x16 is needed"),
        ([Image.new("RGB", (32, 32))], "gave a RGB image of 32x32, RGB of 16x16 is needed"),
        ([Image.new("RGBA", (16, 16))], "gave a RGBA image of 16x16, RGB of 16x16 is needed"),
        ([Image.new("L", (16, 16))], "gave a L image of 16x16, RGB of 16x16 is needed"),
        ([np.zeros((16, 16, 3), np.uint8)], "the method gave"),
        (None, "the method gave"),
    ],
    ids=["none", "two", "low", "large", "rgba", "grey", "array", "nothing"],
)
def test_what_is_no_image_for_the_layout_is_a_failure(open_store, noise, layouts, images, text):
    noise.generate = lambda layouts, seeds, callback=None: images
    with open_store() as store:
        assert generate(noise, layouts[:1], 1, 4, store) == 1
    (row,) = rows_of(store.folder)
    assert text in row["error"]
    assert not list(store.folder.glob("*.png"))


def test_one_bad_image_in_a_batch_is_the_only_failure(open_store, noise, layouts):
    draw = noise.generate

    def generate_(layouts, seeds, callback=None):
        images = draw(layouts, seeds)
        return [
            image.convert("L") if layout.id == "2" else image
            for layout, image in zip(layouts, images, strict=True)
        ]

    noise.generate = generate_
    with open_store() as store:
        assert generate(noise, layouts[:3], 1, 3, store) == 1
    assert store.done.keys() == {("1", 0), ("3", 0)}


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file", "weights.bin"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError("cannot identify image"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_method_raises_is_the_sample_s_failure(open_store, noise, layouts, error):
    noise.bad, noise.error = {"2"}, error
    with open_store() as store:
        assert generate(noise, layouts[:3], 1, 3, store) == 1
    assert store.done.keys() == {("1", 0), ("3", 0)}


def test_an_image_that_cannot_be_read_after_all_is_a_failure(open_store, noise, layouts, tmp_path):
    """Pillow opens lazily: a method may hand over a file of which only the header is good."""
    noise.image(1).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    draw = noise.generate

    def generate_(layouts, seeds, callback=None):
        images = draw(layouts, seeds)
        cut = [layout.id == "2" for layout in layouts]
        return [
            Image.open(tmp_path / "cut.png") if bad else image
            for bad, image in zip(cut, images, strict=True)
        ]

    noise.generate = generate_
    with open_store() as store:
        assert generate(noise, layouts[:3], 1, 3, store) == 1
    assert store.done.keys() == {("1", 0), ("3", 0)}
    assert "truncated" in next(r["error"] for r in rows_of(store.folder) if r["error"])


class Full(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        raise OSError(errno.ENOSPC, ENOSPC)


@pytest.mark.parametrize("where", ["write", "open", "row"])
def test_a_full_disk_stops_the_run(open_store, noise, layouts, monkeypatch, where):
    """The fourth sample cannot be written: three are committed, once, and none has failed."""

    def full(path, content, durable=True):
        if path.name == "4-0.png" and where != "row":
            raise OSError(errno.ENOSPC, ENOSPC, *([str(path)] if where == "open" else []))
        write_whole(path, content)
        if path.name == "4-0.png":
            stopped._file.close()
            stopped._file = io.BufferedWriter(Full())

    monkeypatch.setattr(store_module, "write_whole", full)
    stopped = open_store()
    with pytest.raises((OSError, InputError), match=ENOSPC), stopped:
        generate(noise, layouts[:8], 1, 8, stopped)
    rows = rows_of(stopped.folder)
    assert [(row["layout"], row["error"]) for row in rows] == [(n, None) for n in "123"]
    assert len(noise.calls) == 1
    monkeypatch.undo()
    noise.calls.clear()
    with open_store() as store:
        assert generate(noise, layouts[:8], 1, 8, store) == 0
    assert [layout for layout, _ in noise.drawn] == list("45678")


def test_ctrl_c_stops_the_run_between_commits(open_store, noise, layouts):
    noise.bad, noise.error = {"4"}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), open_store() as store:
        generate(noise, layouts[:6], 1, 2, store)
    assert [row["layout"] for row in rows_of(open_store().folder)] == ["1", "2"]
    noise.bad = set()
    with open_store() as store:
        assert generate(noise, layouts[:6], 1, 2, store) == 0
    assert len(store.done) == 6
