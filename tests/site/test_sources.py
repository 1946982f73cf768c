"""The pages' sources: sections, links, figures' words. No Sphinx and no browser is needed."""

import re
from pathlib import Path

import pytest

import chapters
import notebooks
from markdown_text import outside_code, plain, sentence_with, slug, split, words
from repository import ADDRESS
from site_map import SiteMap

README = """# Course

Intro.

## First

Text of the first.

```bash
# no heading
```

## Long part

Lead.

### One

$x$ and [link](01_a/README.md#run-it).

### Two

words
"""


def test_sections_are_found_and_comments_in_code_are_none() -> None:
    top = split(README)
    assert [child.title for child in top.children] == ["First", "Long part"]
    assert [child.anchor for child in top.children[1].children] == ["one", "two"]
    assert "# no heading" in top.children[0].text
    assert top.find("two").text.strip() == "words"
    assert top.find("missing") is None


def test_repeated_headings_get_numbers() -> None:
    assert split("# A\n## B\n## B\n").anchors() == ["a", "b", "b-1"]


def test_a_text_without_heading_is_refused() -> None:
    with pytest.raises(ValueError, match="no heading"):
        split("only words")


def test_a_long_section_is_a_page_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not chapters.read_chapters(README)[1][1].parts
    monkeypatch.setattr(chapters, "LONG", 3)
    pages = chapters.read_chapters(README)[1]
    assert [part.docname for part in pages[1].parts] == ["chapters/one", "chapters/two"]
    assert "/chapters/two" in pages[1].markdown()
    assert "words" not in pages[1].markdown()
    assert chapters.chapter_pages(pages)["README.md#two"] == "/chapters/two.md"
    assert list(chapters.groups(pages)) == ["Start here", "Theory", "About"]
    assert chapters.groups(pages)["Theory"] == [pages[1]]


def test_no_heading_of_the_readme_is_lost(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    top, pages = chapters.read_chapters(text)
    known = chapters.chapter_pages(pages)
    assert all(f"README.md#{anchor}" in known for anchor in top.anchors()[1:])


def test_the_door_is_short(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    door, introduction, _ = text.partition("\n## Introduction\n")
    assert introduction
    assert words(door) <= 900


def test_each_note_says_where_it_is_used_and_from_where_it_comes(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    theory = chapters.groups(chapters.read_chapters(text)[1])["Theory"]
    notes = [part.section for chapter in theory for part in chapter.parts]
    assert len(notes) >= 14
    assert [note.title for note in notes if "\n*Here:* " not in note.text] == []
    without = [note.title for note in notes if not re.search(r"\n\*Papers?:\* ", note.text)]
    assert without == ["Choosing a Model"]


@pytest.mark.parametrize(
    ("link", "page", "expected"),
    [
        ("#one", "README.md", "/chapters/one.md"),
        ("../README.md#one", "01_a/README.md", "/chapters/one.md"),
        ("README.md#run", "01_a/n.ipynb", "/01_a/index.md#run"),
        ("01_a/n.ipynb#Box-formats", "README.md", "/01_a/n.ipynb#box-formats"),
        ("01_a/boxes.py", "README.md", "/functions/01_a.md#boxespy"),
        ("assets/a.svg", "README.md", "/assets/a.svg"),
        ("01_a/other.txt", "README.md", f"https://github.com/{ADDRESS}/"),
        ("01_a", "README.md", "/01_a/index.md"),
        ("https://example.com/x", "README.md", "https://example.com/x"),
        ("mailto:a@b.c", "README.md", "mailto:a@b.c"),
    ],
)
def test_links_lead_to_pages(link: str, page: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "01_a").mkdir()
    (tmp_path / "01_a" / "other.txt").touch()
    pages = {
        "README.md#one": "/chapters/one.md",
        "01_a/README.md": "/01_a/index.md",
        "01_a": "/01_a/index.md",
        "01_a/n.ipynb": "/01_a/n.ipynb",
        "01_a/boxes.py": "/functions/01_a.md#boxespy",
    }
    assert SiteMap(tmp_path, pages).resolve(link, page).startswith(expected)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing.txt: no such file"):
        SiteMap(tmp_path).resolve("missing.txt", "README.md")


def test_badges_of_other_hosts_become_words(tmp_path: Path) -> None:
    badge = "[![Open In Colab](https://host/badge.svg)](https://colab.research.google.com/x)"
    changed = SiteMap(tmp_path).rewrite(f"{badge} `[a](b)`", "README.md")
    assert changed == "[Open In Colab](https://colab.research.google.com/x) `[a](b)`"


def test_code_is_left_alone() -> None:
    text = "a `a` a\n\n```\na\n```\na"
    assert outside_code(text, str.upper) == "A `a` A\n\n```\na\n```\nA"


def test_words_of_headings() -> None:
    assert plain("**a** `b` [c](d)") == "a b c"
    assert slug("RoIPool/RoIAlign, compared") == "roipoolroialign-compared"


def test_sentence_with_a_phrase() -> None:
    text = "One thing. **Anchors** are\nboxes. Another."
    assert sentence_with(text, "are boxes") == "Anchors are boxes."
    assert sentence_with(text, "are cells") is None


def test_a_sentence_ends_with_its_paragraph_and_before_its_formula() -> None:
    text = "# Title\n\n- First. *A* is\n  so.\n- Second\n\nIt is the sum:\n\n$$a. B$$\n\nNext."
    assert sentence_with(text, "is") == "*A* is so."
    assert sentence_with(text, "Second") == "Second"
    assert sentence_with(text, "the sum") == "It is the sum."


def test_theory_stands_beside_the_lesson_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chapters, "LONG", 3)
    text = README.replace("words\n", "*Here:* [a](x.py), [b](01_a/b.py)\n")
    pages = chapters.read_chapters(text)[1]
    assert [page.section.title for page in chapters.theory_of("01_a", pages)] == ["Two"]
    assert chapters.theory_of("02_b", pages) == []


def test_pictures_in_html_lead_to_the_figures(tmp_path: Path) -> None:
    changed = SiteMap(tmp_path).rewrite('<img src="assets/a.png" alt="A."> text', "README.md")
    assert changed == '<img src="/assets/a.png" alt="A."> text'


def figure_cell(**metadata: object) -> dict:
    outputs = [{"data": {"image/png": "AA=="}}]
    return {"cell_type": "code", "metadata": metadata, "source": "draw()", "outputs": outputs}


def notebook(*cells: dict) -> dict:
    return {"metadata": {}, "cells": list(cells)}


def text_cell(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def test_every_figure_gets_words() -> None:
    given = figure_cell(mystnb={"image": {"alt": "Mine."}})
    content = notebook(
        text_cell("# T\n\n## Boxes\n\nTwo **boxes** overlap. More."), figure_cell(), given
    )
    notebooks.describe_figures(content)
    alternatives = [cell["metadata"]["mystnb"]["image"]["alt"] for cell in content["cells"][1:]]
    assert alternatives == ['Figure from the section "Boxes": Two boxes overlap.', "Mine."]


def test_solutions_are_folded_below_their_headings() -> None:
    code = {"cell_type": "code", "metadata": {}, "source": "x", "outputs": []}
    content = notebook(
        text_cell("# Solutions\n\nHow to read."),
        text_cell("## 1\n\nIt is 3."),
        code,
        text_cell("In one line."),
        text_cell("**Wrong ways.** It is 4."),
    )
    notebooks.fold_solutions(content)
    assert "dropdown" not in content["cells"][0]["source"]
    assert content["cells"][1]["source"].startswith("## 1\n")
    assert "{dropdown} Answer\nIt is 3.\n" in content["cells"][1]["source"]
    assert content["cells"][2]["metadata"]["tags"] == ["hide-cell"]
    assert "{dropdown} More\nIn one line.\n" in content["cells"][3]["source"]
    assert "{dropdown} Wrong ways\n**Wrong ways.** It is 4.\n" in content["cells"][4]["source"]


@pytest.mark.parametrize(
    ("printed", "measured", "first", "expected"),
    [
        ("the whole lesson: 31 s\n", "", True, 31),
        ("", "200 s of training, 243 s for the whole notebook", True, 243),
        ("", "200 s of training, 243 s for the whole notebook", False, None),
        ("", "| whole notebook, goal 5 minutes | 339 s |", True, 339),
        ("", "| the training notebook | 6 minutes | 333 s |", False, 333),
        ("", "| the whole training notebook, there | 333 s |", False, 333),
        ("", "| whole notebook on detection | 43 s |", True, 43),
        ("", "| YOLO training, five classes | 0.582 | 333 s |", False, 333),
        ("", "| YOLO, five classes, no seconds | 0.582 |", False, None),
        ("", "| the other notebook | 6 minutes | 333 s |", False, None),
    ],
)
def test_time_to_run(printed: str, measured: str, first: bool, expected: int | None) -> None:
    cell = figure_cell()
    cell["outputs"] = [{"text": [printed]}]
    found = notebooks.seconds_to_run(notebook(cell), "yolo_training", measured, first)
    assert found == expected
