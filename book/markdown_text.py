"""Markdown as text: headings, sections, and changes that leave blocks of code alone."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

FENCED = r"^ {0,3}(?P<fence>```+|~~~+).*?^ {0,3}(?P=fence)[^\S\n]*$"
QUOTED = r"(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
FENCE = re.compile(FENCED, re.MULTILINE | re.DOTALL)
CODE = re.compile(f"{FENCED}|{QUOTED}", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$", re.MULTILINE)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^\s)<>]+)>?((?:\s+\"[^\"]*\")?)\s*\)")


@dataclass
class Section:
    """A heading and what stands below it, up to the next heading of the same or a higher level."""

    level: int
    title: str
    anchor: str
    text: str  # before the first section below this one
    children: list["Section"] = field(default_factory=list)

    def markdown(self, level: int) -> str:
        """Return the section as Markdown whose heading has the given level."""
        parts = [f"{'#' * level} {self.title}\n\n{self.text.strip()}\n"]
        return "\n".join(parts + [child.markdown(level + 1) for child in self.children])

    def all(self) -> list["Section"]:
        """Return this section and all sections in it, in their order."""
        return [self] + [one for child in self.children for one in child.all()]

    def anchors(self) -> list[str]:
        """Return the anchors of this section and all sections in it."""
        return [one.anchor for one in self.all()]

    def find(self, anchor: str) -> "Section | None":
        """Return the section of that anchor, this one or one in it; None where there is none."""
        return next((one for one in self.all() if one.anchor == anchor), None)


def plain(text: str) -> str:
    """Return Markdown as it reads: no links, emphasis or signs of code."""
    text = LINK.sub(r"\2", text)
    text = re.sub(r"(?<!\w)(\*{1,3}|_{1,3})(\S(?:.*?\S)?)\1(?!\w)", r"\2", text)
    return text.replace("`", "")


def slug(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", plain(heading).strip().lower()).replace(" ", "-")


def headings(text: str) -> list[re.Match[str]]:
    """Return the headings of a Markdown text; comments inside blocks of code are none."""
    fences = [match.span() for match in FENCE.finditer(text)]
    return [
        match
        for match in HEADING.finditer(text)
        if not any(start <= match.start() < end for start, end in fences)
    ]


def split(text: str) -> Section:
    """Return the sections of a Markdown text as a tree; its root is the first heading."""
    found = headings(text)
    if not found:
        raise ValueError("the text has no heading; a page needs one")
    ends = [match.start() for match in found[1:]] + [len(text)]
    seen: dict[str, int] = {}
    stack: list[Section] = []
    for match, end in zip(found, ends, strict=True):
        name = slug(match[2])
        repeated = seen[name] = seen.get(name, -1) + 1
        anchor = f"{name}-{repeated}" if repeated else name
        section = Section(len(match[1]), match[2], anchor, text[match.end() : end])
        while len(stack) > 1 and stack[-1].level >= section.level:
            stack.pop()
        if stack:
            stack[-1].children.append(section)
        stack.append(section)
    return stack[0]


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return the text with `change` applied to everything that is no code."""
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def words(text: str) -> int:
    """Return how many words of prose a Markdown text has: no code, no addresses."""
    return len(re.findall(r"\w+", plain(CODE.sub("", text))))


def sentence_with(text: str, phrase: str) -> str | None:
    """Return the first sentence of a text that contains the phrase, on one line.

    A sentence lies within one paragraph or one entry of a list; a formula that is set apart and the
    colon before it are no part of it.
    """
    for block in re.split(r"\n\s*\n|\n(?=- |\d+\. )", FENCE.sub("", text)):
        flat = " ".join(LINK.sub(r"\2", block).replace("**", "").split())
        flat = re.sub(r"^(?:- |\d+\. |#+ )|\$\$.*?\$\$", "", flat)
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z*`$])", flat):
            if phrase in sentence:
                return re.sub(r":$", ".", sentence.strip())
    return None
