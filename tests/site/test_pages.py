"""Every page of the site in a real browser: nothing missing, nothing cut off, readable by all."""

from pathlib import Path
from typing import Any

import pytest

FIRST_PAGE_BYTES = 1_000_000
SITE_BYTES = 40_000_000
BUILD_SECONDS = 180


def test_page_is_whole(site_page: str, visits: Any) -> None:
    seen = visits.visit(site_page)
    assert seen.console == []
    assert seen.failed == []
    assert seen.elsewhere == []
    assert seen.pictures == []
    assert seen.formulas == []


def test_nothing_is_cut_off(site_page: str, visits: Any) -> None:
    seen = visits.visit(site_page)
    assert {width: problems for width, problems in seen.cut.items() if problems} == {}


def test_no_line_of_code_is_cut_at_a_desk(site_page: str, visits: Any) -> None:
    assert visits.visit(site_page).wide == []


def test_page_is_accessible_in_light_and_dark(site_page: str, visits: Any) -> None:
    seen = visits.visit(site_page)
    assert seen.light == []
    assert seen.dark == []


def test_first_page_is_light(visits: Any) -> None:
    assert 10_000 < visits.visit("index.html").bytes <= FIRST_PAGE_BYTES


def test_the_site_is_small_and_quickly_built(build_figures: dict[str, float]) -> None:
    assert build_figures["bytes"] <= SITE_BYTES
    assert build_figures["cpu_seconds"] <= BUILD_SECONDS


@pytest.mark.parametrize("name", ["index.html", "search.html"])
def test_page_opens_as_a_file(name: str, site: Path, browser: Any) -> None:
    context = browser.new_context()
    tab = context.new_page()
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("requestfailed", lambda request: problems.append(request.url))
    tab.goto((site / name).as_uri() + "?q=anchor")
    if name == "search.html":
        tab.wait_for_selector("#search-results li a")
    assert problems == []
    context.close()


FAULTY = """<html lang="en"><body><article>
<img src="missing.png"><img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" alt="">
<p>A formula $x^2$ in the text.</p><span class="math">x</span>
<div style="width: 3000px">wide</div>
<div style="overflow: hidden; width: 20px; white-space: nowrap">much longer than its box</div>
<p style="color: #ccc; background: #fff">faint</p>
<pre style="width: 50px; overflow-x: auto">a long line of code</pre>
<table><tr><td style="max-width: 40px; overflow-wrap: anywhere">segmentation</td></tr></table>
</article></body></html>"""


def test_the_look_finds_every_fault(browser: Any, axe: str) -> None:
    tab = browser.new_page()
    tab.set_content(FAULTY)
    tab.evaluate((Path(__file__).parent / "look.js").read_text(encoding="utf-8"))
    tab.evaluate(axe)
    pictures = " ".join(tab.evaluate("look.pictures()"))
    assert "missing:" in pictures
    assert pictures.count("no alternative text:") == 2
    assert len(tab.evaluate("look.formulas()")) == 2
    found = " ".join(tab.evaluate("look.cut()"))
    for problem in ("scrolls sideways", "beyond the edge", "cut off"):
        assert problem in found
    assert tab.evaluate("look.wide()") == ["a long line of code"]
    assert tab.evaluate("look.broken()") == ["broken: segmentation"]
    rules = {text.split(":")[0] for text in tab.evaluate("look.findings(null)")}
    assert {"image-alt", "color-contrast"} <= rules
    tab.close()
