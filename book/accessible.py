"""What the theme leaves out and a screen reader needs."""

from typing import Any

from sphinx.application import Sphinx

LIST = ' role="list"'
CITATIONS = f'<div{LIST} class="citation-list">'
CAPTION = '<p class="caption" role="heading">'


def complete(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Give the captions of the menu their level as headings; a list of papers has no list items."""
    menu = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = menu.replace(CAPTION, f'{CAPTION[:-1]} aria-level="2">')
    context["body"] = context.get("body", "").replace(CITATIONS, CITATIONS.replace(LIST, ""))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the step, after the theme's own."""
    app.connect("html-page-context", complete, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
