"""Scoring again: what is reused, what is judged again, and what a stop leaves."""

import shutil

import pytest
from counting import SIZES, Counting
from PIL import Image, PngImagePlugin

from tcig.data.files import sole_writer
from tcig.data.voc import COLOURS
from tcig.eval import score as score_module
from tcig.eval.judging import judged
from tcig.eval.score import Sizes
from tcig.eval.stored import read_scores


def stored(place):
    """All that a scoring leaves, whatever the order of the rows."""
    labels = {path.name: path.read_bytes() for path in (place / "labels").iterdir()}
    rows = sorted((place / "rows.jsonl").read_bytes().splitlines(keepends=True))
    return rows, labels, (place / "score.json").read_bytes()


def read(folder):
    ((score, rows),) = read_scores(folder)
    return score, rows


def test_nothing_is_judged_twice(paint, score):
    folder = paint("damaged")
    place, asked = score(folder)
    before = stored(place)
    assert asked == 6
    for options in ({}, {"limit": 6}):
        assert score(folder, **options) == (place, 0)
        assert stored(place) == before
    assert score(folder, row="renamed") == (place, 0)


def repaint(folder, place):
    Image.new("RGB", (32, 32), COLOURS[8]).save(folder / "1-0.png")


def rewrite(folder, place):
    """The same pixels in another file."""
    with Image.open(folder / "1-0.png") as image:
        note = PngImagePlugin.PngInfo()
        note.add_text("by", "me")
        image.save(folder / "1-0.png", pnginfo=note)


def unlabel(folder, place):
    (place / "labels" / "1-0.png").unlink()


def unrow(folder, place):
    lines = (place / "rows.jsonl").read_text().splitlines(keepends=True)
    (place / "rows.jsonl").write_text("".join(lines[:2] + lines[3:]))


def unrecord(folder, place):
    (place / "score.json").unlink()


def garble(folder, place):
    (place / "score.json").write_bytes(b"\xff{")


@pytest.mark.parametrize(
    ("change", "judged"),
    [(repaint, 1), (rewrite, 1), (unlabel, 1), (unrow, 1), (unrecord, 6), (garble, 6)],
)
def test_what_changed_is_judged_again(paint, score, change, judged):
    folder = paint("damaged")
    place, _ = score(folder)
    change(folder, place)
    assert score(folder)[1] == judged
    kept = stored(place)
    shutil.rmtree(folder / "scores")
    score(folder)
    assert kept == stored(place)


@pytest.mark.parametrize(
    "options",
    [
        {"judge": Counting("another")},
        {"sizes": Sizes(32, 16)},
        {"sizes": Sizes(48, 32, resize=True)},
        {"sizes": Sizes(32, 32, resize=True)},
        {"manifest": "e" * 64},
    ],
    ids=["identity", "score size", "image size", "resized", "manifest"],
)
def test_rows_made_otherwise_are_dropped(paint, score, options):
    folder = paint()
    score(folder)
    place, asked = score(folder, **options)
    assert asked == 6
    assert len((place / "rows.jsonl").read_text().splitlines()) == 6


def test_a_smaller_limit_keeps_the_rows_of_the_others(paint, score):
    folder = paint()
    score(folder)
    assert score(folder, limit=2)[1] == 0
    assert len(read(folder)[1]) == 2
    assert score(folder)[1] == 0
    assert len(read(folder)[1]) == 6


def test_a_row_cut_anywhere_is_judged_again(paint, score, monkeypatch):
    monkeypatch.setattr(score_module, "write_sheet", lambda *arguments: None)
    folder = paint("damaged")
    place, _ = score(folder, limit=2)
    before, content = stored(place), (place / "rows.jsonl").read_bytes()
    last = content.rindex(b"\n", 0, -1) + 1
    for cut in [*range(last, len(content), 5), *range(len(content) - 6, len(content) + 1)]:
        (place / "rows.jsonl").write_bytes(content[:cut])
        _, asked = score(folder, limit=2)
        assert asked == (cut < len(content) - 1), cut
        assert stored(place) == before, cut


@pytest.mark.parametrize("tail", [b'{"layout": "1", "sam', b"\n\n", b"\x00\x00\x00"])
def test_a_torn_tail_is_left_out(paint, score, tail):
    folder = paint("damaged")
    place, _ = score(folder)
    before = stored(place)
    with (place / "rows.jsonl").open("ab") as file:
        file.write(tail)
    assert len(read(folder)[1]) == 6
    assert score(folder)[1] == 0
    assert stored(place) == before


@pytest.mark.parametrize("done", range(0, 6, 2))
def test_an_interrupted_scoring_goes_on(paint, score, monkeypatch, refused, done):
    monkeypatch.setattr(score_module, "BATCH", 2)
    whole = paint("damaged", name="whole/mine")
    expected = stored(score(whole)[0])
    folder = paint("damaged")
    with pytest.raises(RuntimeError, match="out of memory"):
        score(folder, Counting(fails_after=done))
    with refused(folder / "scores" / "colours", f"lacks {6 - done} of 6"):
        list(read_scores(folder))
    place, asked = score(folder)
    assert asked == 6 - done
    assert stored(place) == expected


def test_a_disk_that_fills_within_a_batch_loses_no_row(paint, score, monkeypatch):
    folder, save, saved = paint("damaged"), score_module.write_whole, []

    def fail(path, content, durable=True):
        if path.suffix == ".png":
            if len(saved) == 3:
                raise OSError(28, "No space left on device")
            saved.append(path)
        save(path, content, durable)

    monkeypatch.setattr(score_module, "write_whole", fail)
    with pytest.raises(OSError, match="No space"):
        score(folder)
    monkeypatch.undo()
    place, asked = score(folder)
    assert asked == 3
    kept = stored(place)
    shutil.rmtree(place)
    score(folder)
    assert kept == stored(place)


def test_an_unusable_image_is_refused_before_anything_is_judged(paint, score, refused):
    folder = paint("damaged")
    place, _ = score(folder)
    before, judge = stored(place), Counting("another")
    (folder / "6-0.png").write_bytes(b"no image")
    with refused(folder / "6-0.png"):
        score(folder, judge)
    assert judge.asked == 0
    assert stored(place) == before


def test_a_garbled_record_is_refused_when_it_is_read(paint, score, refused):
    folder = paint()
    place, _ = score(folder)
    garble(folder, place)
    with refused(place / "score.json"):
        list(read_scores(folder))


def test_a_folder_that_another_process_scores_is_refused(paint, score, refused):
    folder = paint()
    place, _ = score(folder)
    with sole_writer(place), refused(place, "another process"):
        score(folder)
    assert score(folder) == (place, 0)


def test_batches_judged_elsewhere_in_any_order_give_the_same(paint, score):
    here, _ = score(paint("damaged", name="here/mine"))

    class Elsewhere:
        identity, kind = "one", "built-in"

    def spread(batches):
        moved = [[each._replace(content=each.path.read_bytes()) for each in b] for b in batches]
        return iter([judged(Counting(), SIZES, batch[::-1]) for batch in moved[::-1]])

    elsewhere, _ = score(paint("damaged", name="elsewhere/mine"), Elsewhere(), spread=spread)
    assert stored(elsewhere) == stored(here)
