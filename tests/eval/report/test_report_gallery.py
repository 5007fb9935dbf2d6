"""The report's gallery in Chromium: filters, order, overlays, scrolling, hostile text."""

import json
import re

import numpy as np
import pytest
from report_runs import EVIL, SAMPLES

MAIN = ["iou_image", "iou_foreground", "iou_region", "iou_dataset"]


def captions(page):
    return page.locator("article h3").all_inner_texts()


def choose(page, name, value):
    page.select_option(f"#{name}", value)


def scores(page):
    found = (re.search(r"score ([\d.]+)", text) for text in captions(page))
    return [float(match[1]) if match else None for match in found]


def test_the_gallery_is_filtered_and_ordered(page, scroll, layouts):
    total = len(layouts) * SAMPLES
    scroll(total)
    assert page.locator("#count").inner_text() == f"{total} samples"
    identities = [re.search(r"layout (\S+), sample (\d)", text).groups() for text in captions(page)]
    assert identities == [
        (name, str(n)) for name in ["1", "2.b", "5", "6", "44", "c_3"] for n in range(3)
    ]
    choose(page, "by", "2")
    for order, way in (("worst", 1), ("best", -1)):
        choose(page, "order", order)
        scroll(total)
        found = scores(page)
        assert found[-1] is None  # the sample that failed
        assert found[:-1] == sorted(found[:-1])[::way]
        assert found[0] != found[-2]
    low, high = found[12], found[4]
    page.fill("#low", str(low - 0.005))
    page.fill("#high", str(high + 0.005))
    page.locator("#high").press("Enter")
    kept = [value for value in found[:-1] if low <= value <= high]
    assert scores(page) == kept
    assert page.locator("#count").inner_text() == f"{len(kept)} of {total} samples"
    page.fill("#high", "1")
    page.fill("#low", "0")
    choose(page, "class", "12")
    cats = page.locator("article .key").all_inner_texts()
    assert len(cats) == 2 * SAMPLES
    assert all("dog" in text for text in cats)


@pytest.mark.parametrize(("one", "two"), [("1", "2"), ("2", "1")])
def test_the_largest_difference_comes_first(page, one, two):
    choose(page, "order", "difference")
    choose(page, "one", one)
    choose(page, "two", two)
    differences = []
    for entry in page.locator("article").all():
        cells = [entry.locator(f"[data-column='{n}'] figcaption") for n in (1, 2)]
        if all(cell.count() for cell in cells):
            first, second = (float(cell.inner_text()) for cell in cells)
            differences.append(abs(first - second))
    assert len(differences) > 9
    assert np.all(np.diff(differences) <= 0.011)  # of figures of two digits
    assert re.search(r"difference [+−]0\.\d\d", captions(page)[0])


def test_rows_are_hidden_and_shown(page):
    assert page.locator("article").first.locator(".cell").count() == 4
    page.locator("#column-1").uncheck()
    names = page.locator("article").first.locator(".name").all_inner_texts()
    assert names[0] == "mask"
    assert names[2] == "tcig"
    assert len(names) == 3


def test_what_the_judge_saw_is_shown_on_hover_focus_and_tap(page, opened, report):
    frame = page.locator("article [data-column='1'] button").first
    seen = frame.locator(".seen")
    opacity = "(node) => getComputedStyle(node).opacity"
    assert seen.evaluate(opacity) == "0"
    frame.hover()
    assert seen.evaluate(opacity) == "0.72"
    page.mouse.move(0, 0)
    assert seen.evaluate(opacity) == "0"
    page.locator("#column-2").focus()
    for _ in range(9):
        page.keyboard.press("Tab")
        if frame.evaluate("(node) => node === document.activeElement"):
            break
    assert seen.evaluate(opacity) == "0.72"
    page.check("#all-seen")
    assert page.locator("article .seen").last.evaluate(opacity) == "0.72"
    phone = opened(report, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    frame = phone.locator("article [data-column='1'] button").first
    for pressed, shown in (("true", "0.72"), ("false", "0")):
        frame.tap()
        assert frame.get_attribute("aria-pressed") == pressed
        assert frame.locator(".seen").evaluate(opacity) == shown


def test_pictures_and_entries_come_on_scrolling(page, scroll, layouts):
    total = len(layouts) * SAMPLES
    assert page.locator("article").count() == 12 < total
    assert page.locator("img[src]").count() == 0
    page.locator("#gallery").scroll_into_view_if_needed()
    page.locator("article").first.scroll_into_view_if_needed()
    page.locator("article img[src]").first.wait_for()
    page.wait_for_function(
        "() => [...document.querySelector('article').querySelectorAll('img')]"
        ".every((image) => image.complete && image.naturalWidth > 0)"
    )
    images = page.locator("article").first.locator("img")
    widths = images.evaluate_all("(all) => all.map((image) => image.naturalWidth)")
    assert widths == [16] * 7  # a mask, three images, three overlays
    scroll(total)
    assert page.locator("#more").inner_text() == ""


def test_hostile_text_is_text(page, scroll, layouts):
    scroll(len(layouts) * SAMPLES)
    assert page.evaluate("window.evil === undefined")
    assert page.locator("img[onerror], img[src='x']").count() == 0
    shown = page.evaluate("document.body.textContent")
    for place in ("#figures tbody th", "article h3", ".failed", "#drawn summary", "#drawn pre"):
        texts = page.locator(place).evaluate_all("(all) => all.map((node) => node.textContent)")
        found = [
            text for text in texts if EVIL in text or json.dumps(EVIL, ensure_ascii=False) in text
        ]
        assert found, place
    assert "49" not in re.findall(r"\{\{ .*? \}\}", shown)


def test_failed_samples_show_their_error(page, scroll, layouts):
    scroll(len(layouts) * SAMPLES)
    assert page.locator(".failed").inner_text().startswith("failed: RuntimeError: </script>")
    assert page.locator(".absent").first.inner_text() == "not asked for"


def test_class_by_class_is_opened(page):
    first = page.locator("article").first
    first.locator("summary").click()
    first.locator("details th[scope=col]").last.wait_for()  # made when it opens
    heads = first.locator("details th[scope=col]").all_inner_texts()
    assert heads == ["row", "iou_image", "iou_foreground", "cat", "dog"]
    values = first.locator("details tbody tr").nth(1).locator("td").all_inner_texts()
    assert float(values[0]) == pytest.approx((float(values[2]) + float(values[3])) / 2, abs=0.001)
    assert first.locator("[data-column='1'] figcaption").inner_text() == f"{float(values[0]):.2f}"
