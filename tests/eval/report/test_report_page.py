"""The report's page in Chromium: its table, judges, plots, and where it is read."""

import re
import shutil

import pytest
from report_runs import EVIL

from tcig.cli import main
from tcig.eval.estimates import result_of
from tcig.eval.table import cells

MAIN = ["iou_image", "iou_foreground", "iou_region", "iou_dataset"]


def column(page, name):
    return page.locator(f"#figures [data-column='{name}']").all_inner_texts()


def judge(page, name):
    page.locator(f"#judges input[value={name}]").check(force=True)


def test_the_table_is_that_of_the_command(page, runs):
    lines = cells(result_of([runs], "none"), MAIN)
    for name in ("miniature", "guide"):
        judge(page, name)
        wanted = [line for line in lines if line["judge"] == name]
        assert len(wanted) == 4
        for each in MAIN:
            shown = [" ".join(text.split()) for text in column(page, each)]
            assert shown == [line[each].replace("**", "") for line in wanted]
        bold = page.locator("#figures tbody tr:has(b) th").all_inner_texts()
        assert len(bold) == sum("**" in line["iou_image"] for line in wanted) > 0
        assert column(page, "of ceiling") == [line["of ceiling"] for line in wanted]
        leaks = [line["guide - judge"] for line in wanted]
        assert column(page, "guide - judge") == (leaks if any(leaks) else [])
        assert column(page, "failed") == ["0", "0", "0", "1"]
    assert column(page, "time") == ["", "", "", "12.3 s"]
    assert column(page, "memory") == ["", "", "", "2.0 GiB GPU"]
    guided = page.locator("#figures tr:has(.loud) th").all_inner_texts()
    assert [text.split() for text in guided] == [["tcig", "judged", "by", "its", "guide"]]


@pytest.mark.parametrize("name", ["n", "iou_image", "iou_dataset", "time", "of ceiling"])
def test_it_is_sorted_by_a_column_both_ways_and_back(page, name):
    def numbers():
        found = (re.match(r"[\d.]+", text) for text in column(page, name))
        return [float(match[0]) if match else -1.0 for match in found]

    own = numbers()
    there = sorted(value for value in own if value >= 0)
    none = [-1.0] * own.count(-1.0)
    button = page.locator("#figures thead button", has_text=re.compile(f"^{name}$"))
    for order, wanted in [("descending", there[::-1] + none), ("ascending", there + none)]:
        button.press("Enter")
        assert numbers() == wanted
        assert page.locator("#figures th[aria-sort]").get_attribute("aria-sort") == order
        assert button.evaluate("(node) => node === document.activeElement")
    button.click()
    assert numbers() == own
    assert page.locator("#figures th[aria-sort]").count() == 0


def test_names_are_sorted_from_a_to_z_first(page):
    page.locator("#figures thead button", has_text="row").click()
    names = page.locator("#figures tbody th").all_inner_texts()
    assert [name.split("\n")[0] for name in names] == [
        EVIL,
        "real",
        "real",
        "tcig",
    ]


def test_the_judge_changes_all_that_is_shown(page):
    def shown():
        ids = (
            "judged",
            "figures",
            "interval-plot",
            "heat",
            "size-panels",
            "object-panels",
            "entries",
        )
        return [page.locator(f"#{each}").evaluate("(node) => node.innerHTML") for each in ids]

    before = shown()
    judge(page, "guide")
    assert all(a != b for a, b in zip(before, shown(), strict=True))
    assert "guided tcig" in page.locator("#judged").inner_text()
    page.keyboard.press("ArrowLeft")
    said = page.locator("#judged").inner_text()
    assert said.startswith("Under miniature, which guided none of these rows; unknown for ")
    assert shown()[:-1] == before[:-1]


def test_plots_have_a_mark_for_every_row_and_judge(page):
    plot = page.locator("#interval-plot")
    assert plot.locator("circle.chosen").count() == plot.locator("circle.behind").count() == 4
    mean = float(column(page, "iou_image")[3].split(" ")[0])
    at = plot.locator("circle.chosen").nth(3).get_attribute("cx")
    assert float(at.removesuffix("%")) == pytest.approx(100 * mean, abs=0.06)
    assert plot.locator(".band").count() == 4
    assert (
        page.locator("#size-panels figure").count()
        == page.locator("#object-panels figure").count()
        == 4
    )
    cell = page.locator("#heat td[title^='tcig, cat']")
    assert re.fullmatch(r"0\.\d\d\n\d+", cell.inner_text())
    assert page.locator("#published tbody tr.of").count() == 23
    heading = page.locator("#cited h2").inner_text()
    assert "Cited" in heading
    assert "not comparable" in heading


def test_a_single_judge_and_a_folder_without_a_run(runs, tmp_path, opened):
    folder = tmp_path / "mine"
    shutil.copytree(runs / "mine", folder)
    shutil.rmtree(folder / "scores" / "guide")
    out = tmp_path / "report.html"
    manifest = str(runs / "layouts.jsonl")
    assert main(["report", str(folder), "--layouts", manifest, "--out", str(out)]) == 0
    page = opened(out)
    assert page.locator("#judges input").count() == 1
    heads = page.locator("#figures thead th").all_inner_texts()
    assert heads == ["row", "n", "failed", *MAIN]
    assert page.locator("#interval-plot .behind, #interval-plot .band").count() == 0
    assert page.locator("#order option[value=difference]").count() == 0
    assert "of which nothing is recorded" in page.locator("#drawn").evaluate("(n) => n.textContent")
    assert page.locator("article").count() == 12


def test_it_fits_a_phone_the_dark_and_paper(page, opened, report):
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
