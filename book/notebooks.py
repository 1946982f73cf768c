"""Notebooks as pages: links for the site, words for every figure, what folds away."""

import re
from collections.abc import Callable

from markdown_text import headings, plain, slug, split

COLAB_CELL = "Google Colab only"  # how the cell begins that is needed there and nowhere else
PICTURE_TYPES = ("image/png", "image/svg+xml", "image/jpeg")
ROW = re.compile(
    r"^\| *(?:the )?(?:whole (?=\w+ notebook))?(\w+) notebook\b[^|\n]*\|.*?(\d+) s *\|$",
    re.MULTILINE,
)
MODEL_ROW = re.compile(r"^\| *([\w -]+), [^|\n]*\|.*\| (\d+) s *\|$", re.MULTILINE)
WHOLE_RUN = re.compile(r"the whole (?:lesson|notebook): (\d+) s")


def title(notebook: dict) -> str:
    """Return the notebook's first heading."""
    return split(markdown(notebook)).title


def markdown(notebook: dict) -> str:
    """Return all Markdown of a notebook."""
    cells = notebook["cells"]
    return "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")


def seconds_to_run(notebook: dict, stem: str, measured: str, first: bool) -> int | None:
    """Return how long a notebook runs, None where neither it nor its lesson's README says so.

    A notebook may print it at its end. In a README it is "243 s for the whole notebook", or the
    row of a table that begins with "whole notebook": both mean the lesson's first one. A row that
    begins with "training notebook" means the one with this word in its name, one that begins with
    "Mask R-CNN, " and ends with seconds the notebook mask_r_cnn_....
    """
    for cell in reversed(notebook["cells"]):
        for output in cell.get("outputs", []):
            if match := WHOLE_RUN.search("".join(output.get("text", ""))):
                return int(match[1])
    for row in ROW.finditer(measured):
        if row[1] in stem.split("_") or (first and row[1] == "whole"):
            return int(row[2])
    for row in MODEL_ROW.finditer(measured):
        if stem.startswith(slug(row[1]).replace("-", "_")):
            return int(row[2])
    said = re.search(r"(\d+) s for the whole notebook", measured) if first else None
    return int(said[1]) if said else None


def first_sentence(text: str) -> str:
    """Return the first sentence of the last paragraph of prose, without signs of Markdown."""
    blocks = [block for block in re.split(r"\n\s*\n", text) if re.match(r"[\w*`\"(]", block)]
    if not blocks:
        return ""
    flat = " ".join(plain(blocks[-1]).replace("$", "").split())
    return re.split(r"(?<=[.!?:])\s", flat)[0].rstrip(":")


def describe_figures(notebook: dict) -> None:
    """Give every cell that draws an alternative text, where it has none.

    It names the section and repeats what the prose before the cell says.
    """
    section = prose = ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            found = headings(cell["source"])
            section = plain(found[-1][2]) if found else section
            prose = first_sentence(cell["source"]) or prose
        elif any(
            kind in output.get("data", {})
            for output in cell.get("outputs", [])
            for kind in PICTURE_TYPES
        ):
            image = cell["metadata"].setdefault("mystnb", {}).setdefault("image", {})
            image.setdefault("alt", f'Figure from the section "{section}": {prose}')


def tag(cell: dict, name: str) -> None:
    """Add a tag to a cell."""
    cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), name]


def fold_title(answer: str, below_heading: bool) -> str:
    """Return what a reader sees of a folded text: what it is, but not the answer."""
    if answer.startswith("**Wrong ways."):
        return "Wrong ways"
    return "Answer" if below_heading else "More"


def fold_solutions(notebook: dict) -> None:
    """Hide everything below the second and later headings until a reader asks for it."""
    below_title = False
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            tag(cell, "hide-cell")
            continue
        found = headings(cell["source"])
        below_title = below_title or bool(found and len(found[-1][1]) > 1)
        end = found[-1].end() if found else 0
        answer = cell["source"][end:].strip()
        if below_title and answer:
            title = fold_title(answer, bool(found))
            folded = f"::::{{dropdown}} {title}\n{answer}\n::::"
            cell["source"] = f"{cell['source'][:end]}\n\n{folded}\n"


def prepare(notebook: dict, rewrite: Callable[[str], str], folded: bool) -> None:
    """Change a notebook into a page of the site, in place; nothing is executed."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = rewrite(cell["source"])
        elif COLAB_CELL in cell["source"].split("\n")[0]:
            tag(cell, "remove-cell")
    describe_figures(notebook)
    if folded:
        fold_solutions(notebook)
