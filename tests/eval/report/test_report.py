"""The report's numbers are the table's, its pictures the files'; refusals are one line."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.path import Path as Shape
from PIL import Image
from report_runs import EVIL, SAMPLES, Upper
from stand_ins import SIDE, SIZES, write_images

from tcig.cli import main
from tcig.data.files import sha256
from tcig.data.voc import COLOURS
from tcig.eval.iou import reduce
from tcig.eval.judges import ColourJudge
from tcig.eval.report.gallery import make_gallery, outline, thumbnail
from tcig.eval.report.page import breakdown_plot, interval_plot
from tcig.eval.report.tables import cut_intervals, make_judges
from tcig.eval.results import Estimate
from tcig.eval.rows import build_result, read_rows, result_of
from tcig.eval.score import score_images


def judges_of(folders, layouts):
    rows = read_rows(folders, "none")
    return make_judges(rows, cut_intervals(build_result(rows)), layouts, "none")


def columns_of(folders):
    columns = {}
    for row in read_rows(folders, "none"):
        if row.ignore == "none":
            columns.setdefault(row.folder, []).append(row)
    return list(columns.values())


@pytest.fixture(scope="module")
def judges(runs, layouts):
    return judges_of([runs], layouts)


@pytest.fixture(scope="module")
def gallery(runs, layouts):
    return make_gallery(columns_of([runs]), layouts, SIDE)


def line_of(judges, row, judge):
    lines = next(each for each in judges if each.name == judge).lines
    return next(line for line in lines if line.result.row == row)


@pytest.mark.parametrize(
    ("breakdown", "name"),
    [("by_class", "iou_region"), ("by_size", "iou_region"), ("by_objects", "iou_image")],
)
def test_the_parts_of_a_row_average_to_its_mean(judges, breakdown, name):
    for line in (line for judge in judges for line in judge.lines):
        parts = [part for part in getattr(line, breakdown) if part.n]
        mean, _, n = reduce(line.row.samples, name)
        assert sum(part.n for part in parts) == n
        assert sum(part.mean * part.n for part in parts) / n == pytest.approx(mean, abs=1e-12)
        assert all(part.low <= part.mean <= part.high for part in parts if part.low is not None)


def test_sizes_and_object_numbers_are_the_layouts(judges, gallery, layouts):
    """Compared with loops over the layouts' own masks and the gallery's scores."""
    line = line_of(judges, "tcig", "miniature")
    by_size, by_objects = {}, {}
    for entry in gallery[0]:
        cell = entry.cells[2]
        if cell and cell.scores:
            scores = cell.scores["miniature"]
            by_objects.setdefault(len(entry.layout.regions), []).append(scores[0])
            for index, iou in zip(entry.layout.classes, scores[2:], strict=True):
                share = (entry.layout.class_map(SIDE) == index).mean()
                place = sum(share >= edge for edge in (0.05, 0.1, 0.2, 0.4))
                by_size.setdefault(place, []).extend([] if np.isnan(iou) else [iou])
    assert len(by_size) > 2
    for place, part in enumerate(line.by_size):
        assert part.n == len(by_size.get(place, []))
        assert not part.n or part.mean == pytest.approx(np.mean(by_size[place]))
    numbers = sorted({len(layout.regions) for layout in layouts})
    for number, part in zip(numbers, line.by_objects, strict=True):
        assert part.mean == pytest.approx(np.mean(by_objects[number]))


def test_intervals_of_iou_are_cut_at_0_and_1(runs, layouts, tmp_path):
    """One image of two is right: the interval by the normal distribution leaves [0, 1]."""
    folder = write_images(tmp_path / "half", layouts)
    for number, layout in enumerate(layouts):
        if number % 3:
            Image.new("RGB", (SIDE, SIDE)).save(folder / f"{layout.id}-0.png")
    manifest = sha256(runs / "layouts.jsonl")
    score_images(folder, layouts, manifest, ("miniature", ColourJudge()), SIZES)
    assert result_of([folder], "none").rows[0].figures["iou_image"].low < 0
    (judge,) = judges_of([folder], layouts)
    (line,) = judge.lines
    assert "[0.000, " in line.cells["iou_image"]
    assert line.headline.low == 0
    assert all(0 <= part.low <= part.high <= 1 for part in line.by_objects if part.n > 1)


def test_independence_is_claimed_only_where_it_is_recorded(judges):
    miniature, guide = judges
    assert miniature.rows_by_independence() == {
        "guide": [],
        "independent": ["tcig"],
        "unknown": [EVIL, "real"],
    }
    assert guide.rows_by_independence()["guide"] == ["tcig"]
    assert (miniature.summary, guide.summary) == ("unknown", "guides TCIG")
    assert guide._replace(name="own").summary == "guide"
    alone = miniature._replace(lines=[line_of(judges, "tcig", "miniature")])
    assert alone.summary == "independent"
    assert line_of(judges, "real", "miniature").cells["independent"] == "unknown"


def test_the_gallery_has_every_sample_and_says_which_failed(gallery, layouts):
    entries, _ = gallery
    keys = [(entry.layout.id, entry.sample) for entry in entries]
    names = ["1", "2.b", "5", "6", "44", "c_3"]
    assert keys == [(name, sample) for name in names for sample in range(SAMPLES)]
    assert [entry.sample for entry in entries if entry.cells[0] is None] == [2] * len(layouts)
    failed = [(key, entry.cells[2].error) for key, entry in zip(keys, entries, strict=True)]
    assert [each for each in failed if each[1]] == [((layouts[1].id, 2), f"RuntimeError: {EVIL}")]


def test_only_the_failures_of_what_was_scored_are_shown(runs, layouts, tmp_path):
    folder = tmp_path / "real"
    shutil.copytree(runs / "real", folder)
    shutil.rmtree(folder / "scores")
    for layout in layouts[2:]:
        (folder / f"{layout.id}-0.png").unlink()
    shutil.copy(runs / "tcig" / "run.json", folder)
    lost = [f'{{"layout": "{each.id}", "sample": 0, "error": "no"}}\n' for each in layouts[2:]]
    (folder / "rows.jsonl").write_text("".join(lost))
    manifest, judge = sha256(runs / "layouts.jsonl"), ("miniature", ColourJudge())
    score_images(folder, layouts, manifest, judge, SIZES, limit=3)
    entries, _ = make_gallery(columns_of([folder]), layouts, SIDE)
    assert [entry.layout.id for entry in entries if entry.cells[0].error] == [layouts[2].id]


def test_pictures_are_the_files(gallery, layouts, runs):
    entries, text = gallery

    def opened(place):
        first, length = map(int, place.split())
        return Image.open(io.BytesIO(base64.b64decode(text[first : first + length], validate=True)))

    first = next(entry for entry in entries if entry.layout.id == layouts[0].id)
    cell = first.cells[1]
    image = opened(cell.picture)
    original, other = (Image.open(runs / "real" / f"{each.id}-0.png") for each in layouts[:2])
    assert (image.format, image.size) == ("WEBP", (SIDE, SIDE))
    own, others = (np.abs(np.asarray(image, float) - each).mean() for each in (original, other))
    assert own < others / 2
    for place, labels in [
        (first.mask, layouts[0].class_map(SIDE)),
        (cell.overlays["miniature"], ColourJudge().segment([original])[0].labels),
        (cell.overlays["guide"], Upper().segment([original])[0].labels),
    ]:
        pixels = np.asarray(opened(place).convert("RGBA"))
        expected = np.array(COLOURS, np.uint8)[labels]
        np.testing.assert_array_equal(pixels[..., 3] > 0, labels > 0)
        np.testing.assert_array_equal(pixels[labels > 0][:, :3], expected[labels > 0])
    again = next(each for each in entries if each.layout.id == layouts[0].id and each.sample == 1)
    assert again.mask == first.mask  # equal files are stored once
    sizes = [Image.open(io.BytesIO(thumbnail(image, side))).size for side in (16, 128)]
    assert sizes == [(16, 16), (SIDE, SIDE)]


def test_the_outline_encloses_the_masks():
    """The filled outline of each class is its mask again, also at the border and around holes."""
    labels = np.zeros((12, 12), np.uint8)
    labels[0:7, 0:7] = 8
    labels[2:5, 2:5] = 0
    labels[6:12, 5:9] = 12
    svg = ElementTree.fromstring(outline(labels))
    path = svg[0][0].get("d")
    inside = np.zeros(labels.shape, int)
    y, x = np.mgrid[: len(labels), : len(labels)]
    centres = np.stack([2 * x.ravel() + 2, 2 * y.ravel() + 2], 1)  # the view box starts at 1
    for part in path.split("M")[1:]:
        start, steps = (np.array(each.split(), int).reshape(-1, 2) for each in part.split("l"))
        inside += (
            Shape(np.cumsum([*start, *steps], 0)).contains_points(centres).reshape(labels.shape)
        )
    np.testing.assert_array_equal(inside % 2, labels > 0)
    assert svg.get("viewBox") == "1 1 24 24"


def test_plots_are_deterministic_and_carry_no_style():
    chosen, other, ceiling = (
        Estimate(mean=mean, std=None, n=8, low=mean - 0.25, high=mean + 0.25)
        for mean in (0.25, 0.5, 0.75)
    )
    single = chosen.model_copy(update={"n": 1, "low": None, "high": None})
    none = single.model_copy(update={"n": 0, "mean": None})

    def draw():
        bins = ("<5", "5–10")
        return [
            interval_plot(chosen, [other], ceiling),
            interval_plot(none, [none, single], single),
            breakdown_plot([chosen, single], [[other, none]], bins, "%"),
            breakdown_plot([none, none], [], bins, "%"),
        ]

    plots = draw()
    assert plots == draw()
    for plot in plots:
        ElementTree.fromstring(plot)
        assert not re.search(r"style|id=|url|#[0-9a-f]{3}|nan", plot)
    interval, breakdown = plots[0], plots[2]
    assert 'd="M 0 11.4 L 240 11.4 "' in interval  # from 0 to 0.5 of 480 units
    assert 'd="M 120 11.4 L 120 11.4 "' in interval
    assert "&lt;5" in breakdown


class Tags(HTMLParser):
    """Collects the page's elements; text within scripts is not parsed."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_hostile_text_makes_no_element(report):
    text = report.read_text(encoding="utf-8")
    tags = Tags(text).tags
    names = {name for _, attributes in tags for name in attributes}
    assert not names & {"style", "onerror", "onclick", "srcset"}
    assert [attributes.get("id") for tag, attributes in tags if tag == "script"] == [
        None,
        "pictures",
    ]
    assert not any("src" in attributes for tag, attributes in tags if tag == "img")
    assert "{{ 7 * 7 }}" in text


def test_the_command_finds_the_manifest_or_says_so(runs, tmp_path, capsys):
    manifest = runs / "layouts.jsonl"
    shutil.copytree(runs / "real", tmp_path / "other" / "real")
    shutil.copytree(runs / "real", tmp_path / "whole" / "real")
    shutil.copy(manifest, tmp_path / "whole" / "real")
    out = tmp_path / "new" / "report.html"
    other = tmp_path / "other"
    for arguments in (
        [runs],
        [runs / "real"],
        [tmp_path / "whole"],
        [other, "--layouts", manifest],
    ):
        assert main(["report", *map(str, arguments), "--out", str(out)]) == 0
        assert re.search(r"report.html: 18 samples, \d+\.\d MB", capsys.readouterr().out)
        out.unlink()
    (tmp_path / "another.jsonl").write_text("{}")
    for arguments, said in [
        ([other], "give it as --layouts FILE"),
        ([runs, "--layouts", tmp_path / "another.jsonl"], "is not the manifest of these scores"),
        ([runs, "--layouts", tmp_path / "none"], "--layouts"),
        ([runs, "--thumbnail", "4"], "--thumbnail 4"),
        ([tmp_path / "new"], "holds no scores"),
        ([], "give a folder of scored images"),
    ]:
        assert main(["report", *map(str, arguments), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert not out.exists()
