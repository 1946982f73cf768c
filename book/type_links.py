"""Types in the signatures of the index of functions: links only to what the same page explains.

Two lessons may have classes of the same name, and Sphinx would choose one of them by chance.
"""

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def settle(app: Sphinx, tree: nodes.document) -> None:
    """Give every link to a type its full name, or make it plain text."""
    heads = tree.findall(addnodes.desc_signature)
    names = [f"{head.get('module', '')}.{head.get('fullname', '')}" for head in heads]
    for link in list(tree.findall(addnodes.pending_xref)):
        if link.get("refdomain") != "py":
            continue
        ending = f".{link['reftarget']}"
        found = [name for name in names if name.endswith(ending)]
        if len(found) == 1:
            link["reftarget"] = found[0]
        else:
            link.parent.replace(link, link.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the step."""
    app.connect("doctree-read", settle)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
