"""The glossary: each term with the sentence of the course that explains it.

`glossary.yaml` names a page and a phrase for each term; the sentence is read from that page, so a
definition stands in one place only. The transform links the first mention of a term on a page.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from markdown_text import Section, sentence_with
from site_map import SiteMap

TERMS = Path(__file__).with_name("glossary.yaml")
LINKED_PAGES = ("chapters/", "0")  # chapters and lessons; not the literature or the functions
GLOSSARY_HEAD = """# Glossary

The words of the field, each explained by a sentence of this course.

"""
OTHER_MEANINGS = ("half precision", "single precision")  # of numbers, not of detections
NO_LINKS_IN = (nodes.reference, nodes.literal, nodes.math, nodes.title, nodes.raw, nodes.term)


@dataclass(frozen=True)
class Term:
    """A term, its other spellings, and where the sentence stands that explains it."""

    term: str
    page: str
    phrase: str
    also: tuple[str, ...] = ()

    @property
    def spellings(self) -> list[str]:
        """All ways to write the term."""
        return [self.term, *self.also]


@cache
def read_terms() -> list[Term]:
    """Return the terms, sorted as a dictionary has them."""
    terms = [Term(**entry) for entry in yaml.safe_load(TERMS.read_text(encoding="utf-8"))]
    return sorted(terms, key=lambda entry: entry.term.lower())


def definition(term: Term, section: Section) -> str:
    """Return the sentence that explains a term.

    Raises:
        ValueError: the section has no sentence with the phrase; term, page and phrase are named.
    """
    found = sentence_with(section.markdown(1), term.phrase)
    if not found:
        raise ValueError(
            f"glossary: {term.page} has no sentence with {term.phrase!r} ({term.term})"
        )
    return found


def glossary_page(terms: list[tuple[Term, Section]], site: SiteMap) -> str:
    """Return the page of the glossary as Markdown."""
    entries = []
    for term, section in terms:
        place = site.resolve(term.page, "README.md")
        text = f"{definition(term, section)} *More:* [{section.title}]({place})"
        entries.append("\n".join([*term.spellings, f"  {text}"]))
    lines = "\n\n".join(entries)
    return f"{GLOSSARY_HEAD}```{{glossary}}\n{lines}\n```\n"


def index_entries(terms: list[Term], page: str) -> str:
    """Return the directives that put a page's terms into the index and the search."""
    own = [name for term in terms if term.page == page for name in term.spellings]
    return "".join(f"\n```{{index}} ! {name}\n```\n" for name in own)


class LinkTerms(SphinxTransform):
    """Link the first mention of each term on a page to the glossary."""

    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        """Change the page's tree in place."""
        if not self.env.docname.startswith(LINKED_PAGES):
            return
        terms = {name: term.term for term in read_terms() for name in term.spellings}
        left = dict(terms)
        for text in list(self.document.findall(nodes.Text)):
            if left and linkable(text):
                text.parent.replace(text, self.with_links(str(text), left, terms))

    def with_links(
        self, text: str, left: dict[str, str], terms: dict[str, str]
    ) -> list[nodes.Node]:
        """Return a text as nodes, its new terms as links; take them out of `left`.

        Terms that are linked already are read too: the precision in "average precision" is no
        term of its own.
        """
        known = sorted([*terms, *OTHER_MEANINGS], key=len, reverse=True)
        names = "|".join(map(re.escape, known))
        parts: list[nodes.Node] = []
        end = 0
        for match in re.finditer(rf"(?<![\w-])(?:{names})(?![\w-])", text, re.IGNORECASE):
            name = spelling(match[0], left)
            if name is None:
                continue
            found = terms[name]
            for other in [name for name, term in terms.items() if term == found]:
                left.pop(other, None)
            parts += [nodes.Text(text[end : match.start()]), self.link(match[0], found)]
            end = match.end()
        return [*parts, nodes.Text(text[end:])]

    def link(self, text: str, term: str) -> addnodes.pending_xref:
        """Return a link to a term of the glossary."""
        link = addnodes.pending_xref(
            "", nodes.inline(text, text, classes=["term"]),
            refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True,
        )  # fmt: skip
        link["refdoc"] = self.env.docname
        return link


def spelling(text: str, names: dict[str, str]) -> str | None:
    """Return the name that a text is; only a first letter may be a capital: a map is no mAP."""
    return next((name for name in (text, text[:1].lower() + text[1:]) if name in names), None)


def linkable(text: nodes.Text) -> bool:
    """Tell whether a text is prose: in a paragraph, and in nothing that is a link or code."""
    inside, node = False, text.parent
    while node is not None:
        if isinstance(node, (*NO_LINKS_IN, addnodes.pending_xref, nodes.table)):
            return False
        inside = inside or isinstance(node, nodes.paragraph)
        node = node.parent
    return inside


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(LinkTerms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
