"""The report in Chromium: table, judges, gallery, enlarged pictures, and where it is read."""

import re
import shutil

import pytest
from report_runs import EVIL, SAMPLES

from tcig.cli import main
from tcig.eval.rows import read_rows, result_of
from tcig.eval.table import cells

HTML = "(all) => all.map((node) => node.innerHTML)"
MAIN = ["iou_image", "iou_region", "iou_dataset", "iou_foreground"]


def column(page, name):
    return page.locator(f".results:visible [data-column='{name}']").all_inner_texts()


def judge(page, place):
    page.locator(f"#judge-{place}").check(force=True)


def captions(page):
    return page.locator("article:not([hidden]) h3").all_text_contents()


def opacity(node):
    return float(node.evaluate("(node) => getComputedStyle(node).opacity"))


def test_the_table_is_that_of_the_command(page, runs):
    lines = cells(result_of([runs], "none"), MAIN)
    for place, name in enumerate(("miniature", "guide")):
        judge(page, place)
        wanted = [line for line in lines if line["judge"] == name]
        assert len(wanted) == 4
        for each in MAIN:
            means = [line[each].replace("**", "").partition(" [")[0] for line in wanted]
            assert [text.split("\n")[0].strip() for text in column(page, each)] == means
        bold = page.locator(".results:visible tr:has(b)")
        assert bold.count() == sum("**" in line["iou_image"] for line in wanted) > 0
        for each in ("independent", "n", "of ceiling"):
            assert column(page, each) == [line[each] for line in wanted]
        leaks = [line["guide - judge"] for line in wanted]
        shown = [" ".join(text.split()) for text in column(page, "guide - judge")]
        assert shown == (leaks if any(leaks) else [])
    assert column(page, "time") == ["", "", "", "12.3 s"]
    assert column(page, "memory") == ["", "", "", "2.0 GiB GPU"]
    guided = page.locator(".results:visible tr:has(.loud) th").all_inner_texts()
    assert [text.split() for text in guided] == [["tcig", "judged", "by", "its", "guide"]]
    assert page.locator(".published tr.of").count() == 23
    assert "not comparable" in page.locator("#cited h2").inner_text()
    identity = read_rows([runs], "none")[0].score.identity
    assert identity in page.locator("#provenance").evaluate("(node) => node.textContent")


@pytest.mark.parametrize("name", ["row", "iou_dataset", "time", "of ceiling"])
def test_it_is_sorted_by_a_column_both_ways_and_back(page, name):
    cell = "th" if name == "row" else f"[data-column='{name}']"

    def values():
        texts = page.locator(f".results:visible tbody {cell}").all_text_contents()
        return [text.strip().partition(" ± ")[0].removesuffix(" s") for text in texts]

    own = values()
    key = str.lower if name == "row" else float
    filled = sorted((value for value in own if value), key=key)
    empty = [""] * own.count("")
    ways = [("descending", filled[::-1] + empty), ("ascending", filled + empty)]
    button = page.locator(".results:visible thead button", has_text=re.compile(f"^{name}$"))
    for order, wanted in ways[:: -1 if name == "row" else 1]:
        button.press("Enter")
        assert values() == wanted
        assert page.locator(".results:visible [aria-sort]").get_attribute("aria-sort") == order
    button.click()
    assert values() == own
    assert page.locator("[aria-sort]").count() == 0


def test_the_judge_changes_all_that_is_shown(page):
    sections = ["table", "intervals", "classes", "size", "objects"]

    def shown():
        parts = [page.locator(f"#{each} .judge:visible") for each in sections]
        return [*(part.evaluate_all(HTML) for part in parts), captions(page)]

    before = shown()
    assert page.locator("#table .under:visible").inner_text().startswith("Judge miniature: ")
    assert "independence unknown for" in page.locator("#table .under:visible").inner_text()
    judge(page, 1)
    assert "guided tcig" in page.locator("#table .under:visible").inner_text()
    assert all(a != b for a, b in zip(before, shown(), strict=True))
    page.keyboard.press("ArrowLeft")
    assert shown() == before
    assert page.locator(".intervals:visible svg").count() == 4
    assert page.locator(".panel:visible svg").count() == 8
    assert re.fullmatch(r"0\.\d\d\n\d+", page.locator("[title^='tcig, cat']:visible").inner_text())


def test_the_gallery_is_filtered_and_ordered(page, layouts):
    total = len(layouts) * SAMPLES

    def scores():
        found = (re.search(r"score ([\d.]+)", text) for text in captions(page))
        return [float(match[1]) if match else None for match in found]

    assert len(captions(page)) == total
    page.select_option("#by", "2")
    for order, way in (("worst", 1), ("best", -1)):
        page.select_option("#order", order)
        found = scores()
        assert found[-1] is None  # the sample that failed
        assert found[:-1] == sorted(found[:-1])[::way]
        assert found[0] != found[-2]
    low, high = found[12], found[4]
    page.fill("#low", str(low - 0.005))
    page.fill("#high", str(high + 0.005))
    page.locator("#high").press("Enter")
    kept = [value for value in found[:-1] if low <= value <= high]
    assert scores() == kept
    assert page.locator("#count").inner_text() == f"{len(kept)} of {total} samples"
    page.fill("#high", "1")
    page.fill("#low", "0")
    page.select_option("#class", "12")
    keys = page.locator("article:not([hidden]) .key").all_text_contents()
    assert len(keys) == 2 * SAMPLES
    assert all("dog" in text for text in keys)


def test_the_largest_difference_comes_first_and_rows_are_hidden(page):
    page.select_option("#order", "difference")
    page.select_option("#one", "1")
    page.select_option("#two", "2")
    differences = [re.search(r"difference (-?[\d.]+)", text) for text in captions(page)]
    values = [abs(float(match[1])) for match in differences if match]
    assert len(values) == 17
    assert values == sorted(values, reverse=True)
    assert differences[-1] is None
    assert page.locator("article").first.locator(".cell:visible").count() == 4
    page.locator("#column-1").uncheck()
    names = page.locator("article").first.locator(".name:visible").all_inner_texts()
    assert names == ["mask", EVIL, "tcig"]


def test_pictures_come_on_scrolling(page):
    assert page.locator("img[src]").count() == 0
    page.locator("article").first.scroll_into_view_if_needed()
    page.locator("article img[src]").first.wait_for(state="attached")
    page.wait_for_function(
        "() => [...document.querySelector('article').querySelectorAll('img')]"
        ".every((image) => image.complete && image.naturalWidth > 0)"
    )
    images = page.locator("article").first.locator("img:not(.outline)")
    widths = images.evaluate_all("(all) => all.map((image) => image.naturalWidth)")
    assert widths == [16] * 10  # a mask, three images, two judges' label maps of each
    assert page.locator("article").last.locator("img[src]").count() == 0


def test_marks_show_on_hover_and_focus_and_pictures_are_enlarged(page, opened, report):
    frame = page.locator("article [data-column='1'] button").first
    marks = [frame.locator(".map:visible"), frame.locator(".outline")]
    assert [opacity(mark) for mark in marks] == [0, 0]
    frame.hover()
    assert [opacity(mark) for mark in marks] == [0.72, 1]
    page.mouse.move(0, 0)
    page.check("#all-outlines")
    assert [opacity(mark) for mark in marks] == [0, 1]
    page.check("#all-maps")
    assert [opacity(mark) for mark in marks] == [0.72, 1]
    page.uncheck("#all-maps")
    page.uncheck("#all-outlines")
    frame.press("Enter")
    dialog = page.locator("#enlarged")
    assert dialog.locator("h3").inner_text() == "real"
    boxes = [each.bounding_box()["width"] for each in dialog.locator(".frame").all()]
    assert boxes == [pytest.approx(boxes[0], abs=1)] * 2
    assert boxes[0] > 2 * frame.bounding_box()["width"]
    assert [opacity(each) for each in dialog.locator(".outline").all()] == [0, 1]
    assert re.search(r": 0\.\d\d \(\w+ 0\.\d\d, \w+ 0\.\d\d", dialog.inner_text())
    dialog.locator("#next").click()
    assert dialog.locator("h3").inner_text() == "tcig"
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert frame.evaluate("(node) => node === document.activeElement")
    assert opacity(marks[1]) == 1  # it has the keyboard's focus
    phone = opened(report, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    phone.locator("article [data-column='1'] button").first.tap()
    assert phone.locator("#enlarged .outline").last.is_visible()


def test_a_single_judge_and_a_folder_without_a_run(runs, tmp_path, opened):
    folder = tmp_path / "mine"
    shutil.copytree(runs / "mine", folder)
    shutil.rmtree(folder / "scores" / "guide")
    out, manifest = tmp_path / "report.html", str(runs / "layouts.jsonl")
    assert main(["report", str(folder), "--layouts", manifest, "--out", str(out)]) == 0
    page = opened(out)
    assert page.locator("#judges").inner_text().split() == ["Judge", "miniature", "unknown"]
    heads = page.locator(".results thead th").all_inner_texts()
    assert heads == ["row", "independent", "n", *MAIN]
    assert page.locator("#order option[value=difference]").count() == 0
    assert "without a record" in page.locator("#drawn").evaluate("(n) => n.textContent")
    assert page.locator("article").count() == 12


def test_it_fits_a_phone_the_dark_paper_and_a_browser_without_scripts(page, opened, report):
    phone = opened(report, viewport={"width": 360, "height": 700})
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = opened(report, color_scheme="dark")
    assert page.evaluate(colour) != dark.evaluate(colour)
    dark.emulate_media(media="print")
    assert dark.evaluate(colour) == page.evaluate(colour)
    assert not dark.locator("#controls").is_visible()
    dark.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert dark.locator("article img:not([src])").count() == 0
    plain = opened(report, java_script_enabled=False)
    assert plain.locator(".results:visible").count() == 1
    assert plain.locator(".intervals:visible svg").count() == 4
