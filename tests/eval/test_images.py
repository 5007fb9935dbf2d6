"""Which images of a folder are scored, and what is refused, in which words."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tcig.data.records import read_run
from tcig.eval import images as module
from tcig.eval.images import Sizes, find_images, open_image


def names(found):
    return list(found.pairs)


def png(path, mode="RGB", size=(32, 32), **options):
    Image.new(mode, size).save(path, "PNG", **options)
    return path


def test_every_layout_in_hash_order(paint, layouts, manifest):
    found = find_images(paint(name="my method"), layouts[::-1], manifest, None)
    assert names(found) == [(layout.id, 0) for layout in layouts]
    assert found.row == "my method"
    assert found.failed == 0


def test_a_missing_image_is_named(paint, layouts, manifest, refused):
    folder = paint(samples=2)
    missing = folder / f"{layouts[3].id}-1.png"
    missing.unlink()
    with refused(missing, "missing", "--limit"):
        find_images(folder, layouts, manifest, None)
    with refused("--limit must be at least 1, got 0"):
        find_images(folder, layouts, manifest, 0)
    assert len(find_images(folder, layouts, manifest, 3).pairs) == 6


def test_an_empty_folder_or_none_is_refused(tmp_path, layouts, manifest, refused):
    with refused(tmp_path, "holds no images: generate them first"):
        find_images(tmp_path, layouts, manifest, None)
    (tmp_path / "inside").mkdir()
    png(tmp_path / "inside" / "1-0.png")
    with refused(tmp_path, "holds no images: its folder inside has some"):
        find_images(tmp_path, layouts, manifest, None)
    for layout in layouts:
        (tmp_path / f"{layout.id}-0.jpg").write_bytes(b"")
    with refused("0.jpg is lossy"):
        find_images(tmp_path, layouts, manifest, None)
    with refused(tmp_path / "nowhere"):
        find_images(tmp_path / "nowhere", layouts, manifest, None)
    with refused(png(tmp_path / "file.png")):
        find_images(tmp_path / "file.png", layouts, manifest, None)


@pytest.mark.parametrize(
    "name", ["unknown-0.png", "1.png", "1-.png", "1-x.png", "1_0.png", "1-0-0.png", "1-00.png"]
)
def test_a_stray_image_is_named(paint, layouts, manifest, refused, name):
    folder = paint()
    stray = png(folder / name)
    with refused(stray, "LAYOUTID-SAMPLE.png"):
        find_images(folder, layouts, manifest, None)


def test_other_files_are_left_alone(paint, layouts, manifest):
    folder = paint()
    (folder / f"._{layouts[0].id}-0.png").write_bytes(b"x")  # as macOS writes
    (folder / "notes.txt").write_text("mine")
    (folder / "grids").mkdir()
    png(folder / "grids" / "unknown-0.png")
    assert len(find_images(folder, layouts, manifest, None).pairs) == 6


def test_a_run_tells_what_it_was_asked_for(paint, layouts, manifest, record_run, refused):
    folder = paint(samples=2)
    record_run(folder, limit=2, samples=2)
    found = find_images(folder, layouts, manifest, None)
    assert names(found) == [(layout.id, sample) for layout in layouts[:2] for sample in range(2)]
    assert found.row == "tcig"
    run = read_run(folder)
    assert (run.asked.limit, run.asked.samples, run.spec.method) == (2, 2, "tcig")
    assert (run.spec.manifest, run.profile["name"]) == (manifest, "tiny")
    assert len(find_images(folder, layouts, manifest, 1).pairs) == 2
    assert len(find_images(folder, layouts, manifest, 5).pairs) == 10
    record_run(folder, limit=None, samples=1)
    assert len(find_images(folder, layouts, manifest, None).pairs) == 6
    record_run(folder, limit=None, samples=3)
    with refused(f"{layouts[0].id}-2.png", "missing"):
        find_images(folder, layouts, manifest, None)


def rows(folder, *pairs, error="RuntimeError: no"):
    lines = [json.dumps({"layout": n, "sample": s, "error": error}) + "\n" for n, s in pairs]
    (folder / "rows.jsonl").write_text("".join(lines))


def test_failed_samples_are_counted_and_not_missing(paint, layouts, manifest, record_run, refused):
    folder = paint(samples=2)
    record_run(folder, samples=2)
    gone = [(layouts[0].id, 1), (layouts[4].id, 0)]
    for name, sample in gone:
        (folder / f"{name}-{sample}.png").unlink()
    rows(folder, gone[0])
    with refused(f"{layouts[4].id}-0.png", "missing"):
        find_images(folder, layouts, manifest, None)
    rows(folder, *gone, (layouts[1].id, 0))  # the last has its image from a later try
    found = find_images(folder, layouts, manifest, None)
    assert found.failed == 2
    assert len(found.pairs) == 10
    assert not set(gone) & set(names(found))
    rows(folder, *gone, error=None)
    with refused("missing"):
        find_images(folder, layouts, manifest, None)
    for path in folder.glob("*.png"):
        path.unlink()
    rows(folder, *((layout.id, sample) for layout in layouts for sample in (0, 1)))
    with refused(folder, "all 12 samples failed", "rows.jsonl"):
        find_images(folder, layouts, manifest, None)
    record_run(folder, manifest="f" * 64)
    with refused(folder, "another manifest"):
        find_images(folder, layouts, manifest, None)


GOOD = {"method": "m", "manifest": "x"}
PROFILE = {"name": "mini"}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b"{}",
        json.dumps({"spec": GOOD, "profile": PROFILE}).encode(),
        json.dumps({"asked": {}, "spec": {"method": "m"}, "profile": PROFILE}).encode(),
        json.dumps({"asked": {}, "spec": GOOD}).encode(),
        json.dumps({"asked": None, "spec": GOOD, "profile": PROFILE}).encode(),
        json.dumps({"asked": [1], "spec": GOOD, "profile": PROFILE}).encode(),
        json.dumps({"asked": {}, "spec": [1], "profile": PROFILE}).encode(),
    ],
)  # fmt: skip
def test_a_corrupt_record_is_refused(tmp_path, refused, content):
    (tmp_path / "run.json").write_bytes(content)
    with refused(tmp_path / "run.json"):
        read_run(tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA"])
def test_opaque_images_open_as_rgb(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8) * 255
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "a.png")
    opened = open_image(tmp_path / "a.png", 32, False)
    assert opened.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("resize", [False, True])
def test_another_size_is_refused_unless_resized(tmp_path, refused, resize):
    pixels = np.random.default_rng(1).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    if resize:
        opened = open_image(tmp_path / "a.png", 32, True)
        expected = image.resize((32, 32), Image.Resampling.LANCZOS)
        assert opened.tobytes() == expected.tobytes()
    else:
        with refused(tmp_path / "a.png", "50x50", "32x32", "--resize"):
            open_image(tmp_path / "a.png", 32, False)
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    with refused(tmp_path / "a.png", "50x40", "square"):
        open_image(tmp_path / "a.png", 32, resize)


def test_sixteen_bits_a_channel_are_refused(tmp_path, refused):
    rows = b"".join(b"\0" + bytes(32 * 6) for _ in range(32))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with refused(tmp_path / "a.png", "16 bits"):
        open_image(tmp_path / "a.png", 32, False)


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP", "GIF"])
def test_a_png_only_by_name_is_refused(tmp_path, refused, kind, resize):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", kind)
    with refused(tmp_path / "a.png", kind, "PNG"):
        open_image(tmp_path / "a.png", 32, resize)


def test_a_transparent_image_is_refused(tmp_path, refused):
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 255))
    image.putpixel((3, 3), (255, 0, 0, 254))
    image.save(tmp_path / "a.png")
    palette = Image.new("P", (32, 32))
    palette.save(tmp_path / "b.png", transparency=0)
    for name in ("a.png", "b.png"):
        with refused(tmp_path / name, "transparent"):
            open_image(tmp_path / name, 32, True)


def test_a_truncated_png_is_refused_wherever_it_ends(tmp_path, refused):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    whole = buffer.getvalue()
    for cut in range(whole.rindex(b"IDAT") + 100):
        (tmp_path / "a.png").write_bytes(whole[:cut])
        with refused(tmp_path / "a.png"):
            open_image(tmp_path / "a.png", 8, True)


def test_each_image_is_read_once_and_known_ones_are_left_out(paint, layouts, manifest, monkeypatch):
    images = find_images(paint("damaged"), layouts, manifest, None)
    paths = []
    monkeypatch.setattr(
        module, "read_file", lambda path: (paths.append(path), path.read_bytes())[1]
    )
    monkeypatch.setattr(module, "BATCH", 4)
    batches = list(images.changed({}))
    assert [len(batch) for batch in batches] == [4, 2]
    assert paths == [images.path(pair) for pair in images.pairs]
    every = {each.pair: each.sha256 for batch in batches for each in batch}
    assert list(images.changed(every)) == []
    ((one,),) = images.changed(every | {images.pairs[3]: "another"})
    assert one.pair == images.pairs[3]
    assert one.open(Sizes(32, 32)).tobytes() == Image.open(one.path).tobytes()
