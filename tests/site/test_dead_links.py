"""Every link inside the site leads to a page, and to a place on it."""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


class Page(HTMLParser):
    """The links of a page, and the names of its places."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.bars = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what a tag links to and what it is called."""
        given = dict(attrs)
        self.links += [value for name in ("href", "src") if (value := given.get(name))]
        self.names |= {value for name in ("id", "name") if (value := given.get(name))}
        self.bars += "lesson-bar" in (given.get("class") or "").split()


@cache
def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def dead(link: str, path: Path, site: Path) -> str:
    """Return what is wrong with a link of the page `path`; an empty string if nothing is."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return "" if parts.scheme in {"https", "http", "mailto", "data"} else f"{link}: odd address"
    if parts.path.startswith("/"):
        return f"{link}: not below the site"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(site) or not target.is_file():
        return f"{link}: no such file"
    if parts.fragment and target.suffix == ".html":
        names = read(target).names | {"top", ""}
        return "" if unquote(parts.fragment) in names else f"{link}: no such place"
    return ""


def test_links_of_a_page(site_page: str, site: Path) -> None:
    path = site / site_page
    assert [problem for link in read(path).links if (problem := dead(link, path, site))] == []


def test_pages_of_the_site_are_not_looked_up_on_github(site: Path) -> None:
    for path in site.rglob("*.html"):
        own = [link for link in read(path).links if "/blob/main/" in link and "colab" not in link]
        pages = [link for link in own if link.endswith(("README.md", ".ipynb"))]
        assert len(pages) <= read(path).bars, f"{path.name}: {pages}"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("other.html", ""),
        ("other.html#there", ""),
        ("other.html#here", "no such place"),
        ("missing.html", "no such file"),
        ("/other.html", "not below the site"),
        ("../outside.html", "no such file"),
        ("file:///other.html", "odd address"),
        ("https://example.com/missing", ""),
    ],
)
def test_dead(link: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p id='x'></p>")
    (tmp_path / "other.html").write_text("<p id='there'></p>")
    found = dead(link, tmp_path / "page.html", tmp_path)
    assert expected in found
    assert bool(found) == bool(expected)
