"""Runs, their report, and Chromium to open it in."""

import shutil

import pytest
from report_runs import make_runs

from tcig.cli import main
from tcig.data.manifest import read_manifest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium: the page is not tried")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: as above")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser):
    """Opens a file; no page may complain, or ask for anything but the file."""
    contexts, complaints = [], []

    def build(path, **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | settings)
        context.set_default_timeout(30000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url == path.as_uri() or request.url.startswith("data:")
                else complaints.append(request.url)
            ),
        )
        page.goto(path.as_uri())
        return page

    yield build
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def runs(layouts, manifest_file, tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("runs"), layouts, read_manifest(manifest_file)[0])


@pytest.fixture(scope="session")
def report(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", str(runs), "--out", str(path), "--thumbnail", "16"]) == 0
    return path


@pytest.fixture
def page(opened, report):
    return opened(report)
