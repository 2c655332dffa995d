"""Fixtures of the browser tests: one `mlcc ui` on a new home, one headless browser, a page for each test."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect, sync_playwright

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from dagster_ui import DagsterUi

from resources.home import Home

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
)
PAGE_SECONDS = 90
"""How long a page may take to show what is the case already."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser of this machine; its absence is a failure in CI, where the pages are proven."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = f"no browser is installed (looked for {', '.join(BROWSERS)}; Debian package chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    expect.set_options(timeout=PAGE_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def ui(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterUi]:
    """The UI on a home that was not there before, with its daemon; ended as by Ctrl-C, and then nothing of it may live."""
    folder = tmp_path_factory.mktemp("ui")
    started = DagsterUi(Home(folder / "home"), folder / "ui.log")
    try:
        started.wait_ready()
        yield started
    finally:
        left = started.stop()
    assert left == [], "processes that outlived Ctrl-C"


@pytest.fixture(autouse=True)
def stopped_runs(ui: DagsterUi) -> Iterator[None]:
    """What a failing test leaves running is ended, so that the next test finds the claim free."""
    yield
    ui.stop_runs()


@pytest.fixture
def page(browser: Browser, ui: DagsterUi, tmp_path: Path) -> Iterator[Page]:
    """A page as a first visitor has it: nothing remembered. No error may show in its console, no request be refused."""
    errors: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(f"console: {message.text}")

    def see(response: Response) -> None:
        if response.status >= 400:
            errors.append(f"{response.status} {response.url}")

    context = browser.new_context(base_url=ui.base_url, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PAGE_SECONDS * 1000)
    page = context.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: errors.append(f"script: {error}"))
    page.on("response", see)
    yield page
    page.screenshot(path=tmp_path / "last.png")
    context.close()
    assert errors == []
