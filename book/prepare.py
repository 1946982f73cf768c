"""Write the sources of the site: every page is made from the files of the repository.

Nothing is executed and nothing is written by hand: READMEs, notebooks, docstrings, references.bib.
Sphinx then makes the HTML of them; see `build.py`.
"""

import json
import shutil
from pathlib import Path

import chapters
import functions
import glossary
import notebooks
from figures import figures_page
from first_page import first_page
from lesson_pages import (
    Lesson,
    archive,
    first_code_free_cell,
    measured_cell,
    notebook_bar,
    read_lesson,
    readme_page,
)
from markdown_text import Section, split
from papers import Citations
from repository import lesson_folders
from site_map import PICTURES, SiteMap

REFERENCES = """# References

Every paper with the pages that cite it. What each one is about stands in the
[literature](/literature/index.md).

```{bibliography}
:all:
```
"""


class Sources:
    """The sources of the site in the folder `target`, made from the repository `root`."""

    def __init__(self, root: Path, target: Path) -> None:
        self.root, self.target = root, target
        self.lessons = [read_lesson(folder) for folder in lesson_folders(root)]
        self.top, self.chapters = chapters.read_chapters(self.read("README.md"))
        self.terms = glossary.read_terms()
        literature = root / "literature"
        self.papers = Citations(self.read("literature/README.md"), literature / "references.bib")
        self.site = SiteMap(root, self.page_map())

    def read(self, path: str) -> str:
        """Return the text of a file of the repository."""
        return (self.root / path).read_text(encoding="utf-8")

    def page_map(self) -> dict[str, str]:
        """Return which page shows what of the repository."""
        pages = chapters.chapter_pages(self.chapters)
        folders = [lesson.folder for lesson in self.lessons]
        for lesson in self.lessons:
            pages[f"{lesson.name}/README.md"] = pages[lesson.name] = f"/{lesson.name}/index.md"
            pages |= {note.place: f"/{note.place}" for note in lesson.notebooks}
        pages |= {f"{name}/README.md": f"/{name}/index.md" for name in ("literature", "assets")}
        pages["literature/references.bib"] = "/literature/references.md"
        return pages | functions.script_pages(folders)

    def write(self, path: str, content: str | bytes) -> None:
        """Write one file of the sources."""
        file = self.target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def page(self, text: str, place: str) -> str:
        """Return the Markdown of one file's page: links of the site, citations of the papers."""
        return self.papers.page().add(self.site.rewrite(text, place))

    def write_chapters(self) -> None:
        """Write the chapters of the root README."""
        for entry in (page for chapter in self.chapters for page in chapter.all()):
            text = self.page(entry.markdown(), "README.md")
            place = f"README.md#{entry.section.anchor}"
            line = chapters.reading_line(text) + glossary.index_entries(self.terms, place)
            self.write(f"{entry.docname}.md", chapters.with_line_below_title(text, line))

    def write_lesson(self, lesson: Lesson) -> None:
        """Write the pages of a lesson, and what can be downloaded."""
        theory = chapters.theory_of(lesson.name, self.chapters)
        text = readme_page(lesson, theory)
        self.write(f"{lesson.name}/index.md", self.page(text, f"{lesson.name}/README.md"))
        self.write(f"extra/downloads/{lesson.name}.zip", archive(lesson))
        for notebook in lesson.notebooks:
            self.write(f"extra/{notebook.place}", notebook.path.read_bytes())
            line, content = notebook_bar(notebook, lesson), notebook.content
            measured = measured_cell(lesson)
            cited = self.papers.page()
            content["cells"] += [] if notebook.path.stem in ("exercises", "solutions") else measured
            notebooks.prepare(
                content,
                lambda text, cited=cited: cited.add(
                    self.site.rewrite(text, f"{lesson.name}/README.md")
                ),
                folded=notebook.path.stem == "solutions",
            )
            first = first_code_free_cell(content)
            first["source"] = chapters.with_line_below_title(first["source"], line)
            self.write(notebook.place, json.dumps(content))

    def write_reference(self) -> None:
        """Write literature, references, figures, glossary and the index of functions."""
        self.write(
            "literature/index.md",
            self.page(self.read("literature/README.md"), "literature/README.md"),
        )
        self.write("literature/references.md", REFERENCES)
        self.write(
            "assets/index.md", self.site.rewrite(figures_page(self.root), "assets/README.md")
        )
        for path in (self.root / "assets").iterdir():
            if path.suffix in PICTURES:
                self.write(f"assets/{path.name}", path.read_bytes())
        explained = [(term, self.section(term.page)) for term in self.terms]
        self.write("glossary.md", glossary.glossary_page(explained, self.site))
        titles = {lesson.name: lesson.readme.title for lesson in self.lessons}
        pages = functions.function_pages([lesson.folder for lesson in self.lessons], titles)
        for name, text in {"functions/index": functions.overview(list(pages)), **pages}.items():
            self.write(f"{name}.md", text)

    def section(self, place: str) -> Section:
        """Return a section of a README or notebook, named as path#heading.

        Raises:
            ValueError: there is no such heading.
        """
        path, _, anchor = place.partition("#")
        if path.endswith(".ipynb"):
            notes = [note for lesson in self.lessons for note in lesson.notebooks]
            text = notebooks.markdown(next(note.content for note in notes if note.place == path))
        else:
            text = self.read(path)
        if found := split(text).find(anchor):
            return found
        raise ValueError(f"{place}: no such heading")

    def write_all(self) -> None:
        """Write all sources anew."""
        shutil.rmtree(self.target, ignore_errors=True)
        self.write_reference()
        self.write_chapters()
        for lesson in self.lessons:
            self.write_lesson(lesson)
        self.write(
            "index.md", self.page(first_page(self.top, self.chapters, self.lessons), "README.md")
        )
