"""The pages of a lesson: its README, its notebooks, and a bar with what can be done with each."""

import html
import io
import re
import zipfile
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import notebooks
from chapters import Chapter, minutes, with_line_below_title
from markdown_text import LINK, Section, split
from repository import BLOB, COLAB, lesson_notebooks, project_files, read_notebook

CARD_CHARACTERS = 220
BADGE = "colab-badge.svg"


@dataclass
class Notebook:
    """One notebook of a lesson."""

    path: Path
    content: dict

    @property
    def place(self) -> str:
        """The notebook's path in the repository."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def docname(self) -> str:
        """The notebook's page."""
        return self.place.removesuffix(".ipynb")


@dataclass
class Lesson:
    """One lesson's folder."""

    folder: Path
    readme: Section
    notebooks: list[Notebook] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def summary(self) -> str:
        """Return the first sentences of the README, about as many as a card has room for."""
        paragraph = LINK.sub(r"\2", self.readme.text.strip().split("\n\n")[0])
        sentences = re.split(r"(?<=[.!?])\s+", paragraph)
        lengths = accumulate(len(sentence) for sentence in sentences)
        count = sum(length <= CARD_CHARACTERS for length in lengths)
        return " ".join(sentences[: max(1, count)])

    def picture(self) -> str | None:
        """Return the lesson's picture, a path in the repository; None where there is none."""
        path = f"assets/lesson_{self.name[:2]}.png"
        return path if (self.folder.parent / path).is_file() else None

    def measured(self) -> str:
        """Return what the README measured, as Markdown without headings; empty if nothing."""
        section = self.readme.find("measured")
        if section is None:
            return ""
        parts = [section.text.strip()]
        for child in section.children:
            parts += [f"**{child.title}**", child.text.strip()]
        return "\n\n".join(parts)


def read_lesson(folder: Path) -> Lesson:
    """Return a lesson with all its notebooks."""
    readme = split((folder / "README.md").read_text(encoding="utf-8"))
    paths = lesson_notebooks(folder)
    return Lesson(folder, readme, [Notebook(path, read_notebook(path)) for path in paths])


def duration(seconds: int) -> str:
    """Return seconds as a reader says them."""
    return f"{seconds} s" if seconds < 100 else f"{round(seconds / 60)} min"


def button(address: str, text: str, style: str = "") -> str:
    """Return a link that looks like a button."""
    target = html.escape(address, quote=True)
    return f'<a class="lesson-button {style}" href="{target}">{html.escape(text)}</a>'


def bar(buttons: list[str], facts: list[str]) -> str:
    """Return the bar below a page's title."""
    told = "".join(f"<span>{html.escape(fact)}</span>" for fact in facts)
    return (
        f'\n```{{raw}} html\n<div class="lesson-bar">{"".join(buttons)}'
        f'<span class="lesson-facts">{told}</span></div>\n```\n'
    )


def notebook_bar(notebook: Notebook, lesson: Lesson) -> str:
    """Return a notebook's bar: Colab, download, GitHub, the times to read and to run."""
    text = notebooks.markdown(notebook.content)
    seconds = notebooks.seconds_to_run(
        notebook.content,
        notebook.path.stem,
        lesson.measured(),
        first=notebook is lesson.notebooks[0],
    )
    facts = [f"{minutes(text)} min to read"]
    facts += [f"{duration(seconds)} to run on two CPU cores"] if seconds else []
    return bar(
        [
            button(f"{COLAB}/{notebook.place}", "Open in Colab", "first"),
            button(notebook.path.name, "Download"),
            button(f"{BLOB}/{notebook.place}", "GitHub"),
        ],
        facts,
    )


def theory_line(theory: list[Chapter]) -> str:
    """Return the line that sets the chapters of theory beside their lesson; empty without any."""
    links = " · ".join(
        f"[{page.section.title}](../README.md#{page.section.anchor})" for page in theory
    )
    return f"\n**The theory of this lesson:** {links}\n" if links else ""


def readme_page(lesson: Lesson, theory: list[Chapter]) -> str:
    """Return the lesson's first page: bar, theory, README, and the list of its notebooks."""
    text = lesson.readme.markdown(1)
    blocks = [block for block in text.split("\n\n") if BADGE not in block]
    first = next((note for note in lesson.notebooks), None)
    buttons = [button(f"{COLAB}/{first.place}", "Open in Colab", "first")] if first else []
    buttons += [
        button(f"../downloads/{lesson.name}.zip", "Download the lesson"),
        button(BLOB.replace("/blob/", "/tree/") + f"/{lesson.name}", "GitHub"),
    ]
    top = bar(buttons, [f"{minutes(text)} min to read"]) + theory_line(theory)
    page = with_line_below_title("\n\n".join(blocks), top)
    entries = "\n".join(f"/{notebook.docname}" for notebook in lesson.notebooks)
    return f"{page}\n```{{toctree}}\n:hidden:\n{entries}\n```\n"


def measured_cell(lesson: Lesson) -> list[dict]:
    """Return a notebook cell with the folder's measured figures, folded; none if there are none."""
    if not (text := lesson.measured()):
        return []
    ticks = ":" * 5
    source = f"{ticks}{{dropdown}} Measured in this lesson\n{text}\n{ticks}"
    return [{"cell_type": "markdown", "id": "measured", "metadata": {}, "source": source}]


def first_code_free_cell(content: dict) -> dict:
    """Return the notebook's first cell of text."""
    return next(cell for cell in content["cells"] if cell["cell_type"] == "markdown")


def archive(lesson: Lesson) -> bytes:
    """Return the lesson's folder as a zip file, the same bytes each time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in project_files(lesson.folder):
            name = f"{lesson.name}/{path.relative_to(lesson.folder).as_posix()}"
            bundle.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
