"""Every link and picture inside the repository leads somewhere: in the READMEs and the notebooks.

Addresses of other hosts are not tried: tests need no network. Addresses of this project's own
pages on GitHub and Colab are turned into paths and checked like relative links.
"""

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from address import read_address

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("*.md", ".github/*.md", "*/README.md", "[0-9][0-9]_*/*.ipynb")
PAGES = sorted(page for pattern in PATTERNS for page in ROOT.glob(pattern))
ADDRESS = read_address()
OWN_PAGE = re.compile(
    r"https://(?:colab\.research\.google\.com/github|github\.com)"
    rf"/{re.escape(ADDRESS)}/(?:blob|tree)/main/"
)
FENCE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
INLINE = re.compile(r"\]\(\s*<?([^\s)<>]+)>?(?:\s+[\"'][^\"')]*[\"'])?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]^]+\]:\s*<?(\S+?)>?(?:\s|$)", re.MULTILINE)
HTML = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=[\"']([^\"']+)", re.IGNORECASE)
NAMED = re.compile(r"<a\b[^>]*?\b(?:id|name)=[\"']([^\"']+)", re.IGNORECASE)


def markdown(path: Path) -> str:
    """Return a page's Markdown without its blocks of code."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    return FENCE.sub("", text)


def links(text: str) -> list[str]:
    """Return the targets of all links and pictures of a Markdown text."""
    text = CODE.sub("", text)
    return [match for pattern in (INLINE, REFERENCE, HTML) for match in pattern.findall(text)]


def heading_text(heading: str) -> str:
    """Return a heading as it is displayed: without the signs of code, emphasis and links."""
    heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    heading = re.sub(r"(?<!\w)(\*{1,3}|_{1,3})(\S(?:.*?\S)?)\1(?!\w)", r"\2", heading)
    return heading.replace("`", "")


def slug(heading: str) -> str:
    """Return GitHub's anchor of a heading: lower case, hyphens for spaces, no punctuation."""
    kept = re.sub(r"[^\w\- ]", "", heading_text(heading).strip().lower())
    return kept.replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """Return all anchors of a page; repeated headings get -1, -2, ... as on GitHub.

    In notebooks, Jupyter's own anchors, which keep case and punctuation, count as well.
    """
    text = markdown(path)
    found: dict[str, int] = {}
    result = set(NAMED.findall(text))
    for heading in HEADING.findall(text):
        name = slug(heading)
        repeated = found.get(name, 0)
        result.add(f"{name}-{repeated}" if repeated else name)
        found[name] = repeated + 1
        if path.suffix == ".ipynb":
            result.add(heading_text(heading).replace(" ", "-"))
    return result


def problem(link: str, page: Path, root: Path) -> str:
    """Return what is wrong with a link of a page, an empty string when it leads somewhere."""
    own = OWN_PAGE.match(link)
    base = root if own else page.parent
    link = link[own.end() :] if own else link
    if re.match(r"[a-z][a-z0-9+.-]+:|//", link, re.IGNORECASE):
        return ""
    name, _, anchor = unquote(link).partition("#")
    target = (base / name).resolve() if name else page
    if not target.is_relative_to(root):
        return f"{link}: leaves the repository"
    if not target.exists():
        return f"{link}: no such file"
    readable = target.suffix in {".md", ".ipynb"}
    if anchor and readable and anchor not in anchors(target):
        return f"{link}: no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_are_alive(page: Path) -> None:
    problems = [problem(link, page, ROOT) for link in links(markdown(page))]
    assert not any(problems), [text for text in problems if text]


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Overview and File Structure", "overview-and-file-structure"),
        ("YOLO: You Only Look Once", "yolo-you-only-look-once"),
        ("`make run` & **more**", "make-run--more"),
        ("RoIPool/RoIAlign, compared", "roipoolroialign-compared"),
        ("2.1 Über snake_case – [here](x.md)!", "21-über-snake_case--here"),
    ],
)
def test_slug(heading: str, expected: str) -> None:
    assert slug(heading) == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("#first-part", ""),
        ("#first-part-1", ""),
        ("#first-part-2", "no such heading"),
        ("#not-a-heading", "no such heading"),
        ("#by-hand", ""),
        ("sub/other.md#there", ""),
        ("sub/other.md#here", "no such heading"),
        ("sub/a%20picture.png", ""),
        ("sub", ""),
        ("missing.png", "no such file"),
        ("../outside.md", "leaves the repository"),
        ("https://example.com/missing", ""),
        ("mailto:someone@example.com", ""),
        (f"https://github.com/{ADDRESS}/blob/main/sub/other.md", ""),
        (
            f"https://colab.research.google.com/github/{ADDRESS}/blob/main/missing.ipynb",
            "no such file",
        ),
    ],
)
def test_problem(link: str, expected: str, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        "# First part\n\n## First part\n\n<a id='by-hand'></a>\n\n```\n# Not a heading\n```\n"
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.md").write_text("## There\n")
    (tmp_path / "sub" / "a picture.png").write_bytes(b"")
    found = problem(link, page, tmp_path)
    assert expected in found
    assert bool(found) == bool(expected)


def test_every_kind_of_link_is_found() -> None:
    text = (
        '[a](one.md) ![b](two.png "title") [![badge](three.svg)](four.ipynb)\n'
        "<img src='five.png'> <a href=\"six.md#x\">x</a> `[no](code.md)`\n\n[r]: seven.md\n"
    )
    assert set(links(text)) == {
        *("one.md", "two.png", "three.svg", "four.ipynb", "five.png", "six.md#x", "seven.md")
    }
