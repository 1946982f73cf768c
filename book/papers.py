"""The papers: their names in the text, their entries in references.bib, and citations of them."""

import re
from collections.abc import Mapping
from pathlib import Path

from pybtex.database import parse_file

from markdown_text import LINK, outside_code

NAMED = re.compile(r"^(?:\*\*(?P<bold>.+?)\.\*\*|- .+?: \*(?P<slanted>.+?)\*).*$", re.MULTILINE)
TITLE = re.compile(r"^\*\*.+?\.\*\*.*?: \*(.+?)\*", re.MULTILINE)


def keys_by_address(bibliography: Path) -> dict[str, str]:
    """Return the key of every entry of a BibTeX file by its address."""
    entries = parse_file(str(bibliography), bib_format="bibtex").entries
    return {address(entry.fields): key for key, entry in entries.items()}


def address(fields: Mapping[str, str]) -> str:
    """Return where an entry can be read: it has the number of arXiv, a DOI or an address."""
    if "eprint" in fields:
        return f"https://arxiv.org/abs/{fields['eprint']}"
    return f"https://doi.org/{fields['doi']}" if "doi" in fields else fields["url"]


def keys_by_name(literature: str, addresses: dict[str, str]) -> dict[str, str]:
    """Return the key of every paper by the names that the literature page gives it."""
    names: dict[str, str] = {}
    for match in NAMED.finditer(literature):
        key = next(
            (addresses[link[3]] for link in LINK.finditer(match[0]) if link[3] in addresses), None
        )
        if key:
            title = TITLE.match(match[0])
            given = [match["bold"], match["slanted"], title and title[1].split(":")[0]]
            names |= {name: key for name in given if name}
    return names


class Citations:
    """Adds a citation where a page first names a paper or links to it."""

    def __init__(self, literature: str, bibliography: Path) -> None:
        self.addresses = keys_by_address(bibliography)
        self.names = keys_by_name(literature, self.addresses)

    def page(self) -> "PageCitations":
        """Return what adds the citations of one page, whose texts come in reading order."""
        return PageCitations(self)


class PageCitations:
    """The citations of one page."""

    def __init__(self, papers: Citations) -> None:
        self.papers = papers
        self.cited: set[str] = set()
        slanted = "|".join(map(re.escape, sorted(papers.names, key=len, reverse=True)))
        self.paper = re.compile(rf"(?<!\*)\*(?P<name>{slanted})\*(?!\*)|{LINK.pattern}")

    def add(self, text: str) -> str:
        """Return the Markdown text with its citations; headings get none."""

        def cite(match: re.Match[str]) -> str:
            key = self.papers.names.get(match["name"]) or self.papers.addresses.get(match[4])
            if not key or key in self.cited:
                return match[0]
            self.cited.add(key)
            return f"{match[0]} {{cite:p}}`{key}`"

        def lines(part: str) -> str:
            kept = re.split(r"(^#.*\n)", part, flags=re.MULTILINE)
            return "".join(t if t.startswith("#") else self.paper.sub(cite, t) for t in kept)

        return outside_code(text, lines)
