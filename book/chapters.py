"""The root README as chapters: its own headings say where a page begins.

A section of the README is a page. A long section whose parts have headings of their own is a page
for each part, behind a first page that lists them.
"""

import re
from dataclasses import dataclass

from markdown_text import Section, split, words

README = "README.md"
LONG = 1200  # words; more are too many for one page
WORDS_A_MINUTE = 200


@dataclass
class Chapter:
    """One page: its place in the site, its section, and the pages below it."""

    docname: str
    section: Section
    parts: list["Chapter"]

    def all(self) -> list["Chapter"]:
        """Return this page and those below it, in reading order."""
        return [self, *self.parts]

    def markdown(self) -> str:
        """Return the page, without the sections that have pages of their own."""
        if not self.parts:
            return self.section.markdown(1)
        entries = "\n".join(f"/{part.docname}" for part in self.parts)
        own = Section(1, self.section.title, self.section.anchor, self.section.text)
        return f"{own.markdown(1)}\n```{{toctree}}\n:maxdepth: 1\n{entries}\n```\n"


def minutes(text: str) -> int:
    """Return how long a text takes to read, in whole minutes, at least one."""
    return max(1, round(words(text) / WORDS_A_MINUTE))


def chapter(section: Section) -> Chapter:
    """Return the page, or pages, of a section of the README."""
    long = len(section.children) > 1 and words(section.markdown(1)) > LONG
    parts = section.children if long else []
    return Chapter(f"chapters/{section.anchor}", section, [chapter(part) for part in parts])


def read_chapters(readme: str) -> tuple[Section, list[Chapter]]:
    """Return the README's own title with its first words, and its chapters."""
    top = split(readme)
    return top, [chapter(section) for section in top.children]


def groups(chapters: list[Chapter]) -> dict[str, list[Chapter]]:
    """Return the chapters as the site's menu has them.

    Those of several pages are the theory; what comes before is for the start, the rest for the end.
    """
    theory = [index for index, entry in enumerate(chapters) if entry.parts]
    first, last = (theory[0], theory[-1] + 1) if theory else (len(chapters), len(chapters))
    return {
        "Start here": chapters[:first],
        "Theory": chapters[first:last],
        "About": chapters[last:],
    }


def theory_of(lesson: str, chapters: list[Chapter]) -> list[Chapter]:
    """Return the pages of theory that name a lesson's folder in their *Here* line."""
    pages = [part for entry in chapters for part in entry.parts]
    here = re.compile(rf"^\*Here:\*.*\]\({re.escape(lesson)}/", re.MULTILINE)
    return [page for page in pages if here.search(page.section.markdown(1))]


def chapter_pages(chapters: list[Chapter]) -> dict[str, str]:
    """Return the page of every heading of the README: "README.md#anchors" to "/chapters/..."."""
    pages = {README: "/index.md"}
    for entry in (page for chapter in chapters for page in chapter.all()):
        sections = [entry.section.anchor] if entry.parts else entry.section.anchors()
        for anchor in sections:
            place = "" if anchor == entry.section.anchor else f"#{anchor}"
            pages[f"{README}#{anchor}"] = f"/{entry.docname}.md{place}"
    return pages


def reading_line(text: str) -> str:
    """Return the line below a chapter's title that says how long it takes to read."""
    return f"\n{{.reading-time}}\n{minutes(text)} min to read\n"


def with_line_below_title(text: str, line: str) -> str:
    """Return a page with a paragraph added below its first heading."""
    return re.sub(r"\A(# .+\n)", lambda match: f"{match[1]}{line}", text)
