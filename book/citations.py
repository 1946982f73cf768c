"""Links from a paper's entry on the page of references back to the pages that cite it."""

from docutils import nodes
from sphinx.application import Sphinx


def add_back_links(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Add to each entry of a bibliography the list of the pages that cite it."""
    domain = app.env.get_domain("cite")
    citing: dict[str, list[str]] = {}
    for reference in domain.citation_refs:
        for key in [target.key for target in reference.targets]:
            pages = citing.setdefault(key, [])
            pages += [] if reference.docname in pages else [reference.docname]
    keys = {citation.citation_id: citation.key for citation in domain.citations}
    for entry in tree.findall(nodes.citation):
        key = next((keys[name] for name in entry["ids"] if name in keys), None)
        if pages := citing.get(key, []):
            entry += back_links(app, docname, sorted(pages))


def back_links(app: Sphinx, docname: str, pages: list[str]) -> nodes.paragraph:
    """Return the paragraph that lists the pages."""
    line = nodes.paragraph("", "Cited in: ", classes=["cited-in"])
    titles = [app.env.titles[page].astext() for page in pages]
    for number, page in enumerate(pages):
        address = app.builder.get_relative_uri(docname, page)
        title = titles[number]
        if titles.count(title) > 1 and not page.endswith("index"):
            title += " (notebook)"
        line += [nodes.Text(", ")] if number else []
        line += nodes.reference("", title, refuri=address, internal=True)
    return line


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the step."""
    app.connect("doctree-resolved", add_back_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
