"""The built site, and a Chromium that reads it. Both are asked for; where one is missing, the
tests that need it are skipped and say so.
"""

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (1440, 768, 360)
QUIET_MS = 10_000  # the longest wait for a page, in milliseconds

sys.path.append(str(ROOT / "book"))


def html_pages() -> list[str]:
    """Return all pages of the built site as paths inside it."""
    return sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the argument `site_page` once for each page of the site."""
    if "site_page" in metafunc.fixturenames:
        missing = pytest.mark.skip(reason="no site in build/site; make it with: make site")
        pages: list[Any] = html_pages() or [pytest.param("", marks=missing)]
        metafunc.parametrize("site_page", pages)


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site."""
    if not (SITE / "index.html").is_file():
        pytest.skip("no site in build/site; make it with: make site")
    return SITE


@pytest.fixture(scope="session")
def build_figures(site: Path) -> dict[str, float]:
    """What the last build took: `seconds`, `cpu_seconds`, `bytes`."""
    return json.loads(site.with_name("site.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; the environment variable CHROMIUM names another one."""
    names = [os.environ.get("CHROMIUM", ""), *PROGRAMS]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine; on Debian and Ubuntu: apt install chromium")
    return found


class Quiet(SimpleHTTPRequestHandler):
    """A server that writes no log."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The address of the site on this machine, below a path: https://host/site/ as on Pages."""
    handler = partial(Quiet, directory=str(site.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{site.name}/"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the package playwright is missing"
    )
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        opened = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The program axe-core, to be run inside a page."""
    package = pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python is missing"
    )
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


class Visits:
    """Each page is opened once; the tests share what was seen."""

    def __init__(self, browser: Any, address: str, axe: str) -> None:
        self.address, self.axe = address, axe
        self.context = browser.new_context(viewport={"width": WIDTHS[0], "height": 900})
        self.tab = self.context.new_page()
        self.seen: dict[str, SimpleNamespace] = {}
        self.now = SimpleNamespace(console=[], failed=[], elsewhere=[], bytes=0)
        self.tab.on("console", self.heard)
        self.tab.on("pageerror", lambda error: self.now.console.append(str(error)))
        self.tab.on("requestfailed", lambda request: self.now.failed.append(request.url))
        self.tab.on("response", self.answered)
        self.tab.on("request", self.asked)

    def heard(self, message: Any) -> None:
        """Keep a message of the console that tells of an error or a warning."""
        if message.type in {"error", "warning"}:
            self.now.console.append(message.text)

    def asked(self, request: Any) -> None:
        """Keep a request that leaves the site."""
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.now.elsewhere.append(request.url)

    def answered(self, response: Any) -> None:
        """Count what was sent, and keep what was not found."""
        if response.status >= 400:
            self.now.failed.append(response.url)
        self.now.bytes += int(response.headers.get("content-length", 0))

    def visit(self, page: str) -> SimpleNamespace:
        """Return what a page shows: at all widths, in light and dark."""
        if page not in self.seen:
            self.seen[page] = self.now = SimpleNamespace(
                console=[], failed=[], elsewhere=[], bytes=0
            )
            self.tab.emulate_media(color_scheme="light")
            self.tab.set_viewport_size({"width": WIDTHS[0], "height": 900})
            self.tab.goto(self.address + page, timeout=QUIET_MS * 3)
            script = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")
            self.tab.evaluate(script)
            self.tab.evaluate("look.ready()")
            self.now.pictures = self.tab.evaluate("look.pictures()")
            self.now.formulas = self.tab.evaluate("look.formulas()")
            self.now.wide = self.tab.evaluate("look.wide()")
            self.now.cut = {}
            self.tab.evaluate(self.axe)
            self.now.light = self.tab.evaluate("look.findings(null)")
            for width in WIDTHS:
                self.tab.set_viewport_size({"width": width, "height": 900})
                self.now.cut[width] = self.tab.evaluate("look.cut()")
                self.now.cut[width] += self.tab.evaluate("look.broken()")
            self.tab.emulate_media(color_scheme="dark")
            rules = ["color-contrast", "scrollable-region-focusable"]
            self.now.dark = self.tab.evaluate("rules => look.findings(rules)", rules)
        return self.seen[page]


@pytest.fixture(scope="session")
def visits(browser: Any, address: str, axe: str) -> Visits:
    """The pages as Chromium shows them, each opened once."""
    return Visits(browser, address, axe)
