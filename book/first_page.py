"""The first page: what the course is, a card for each lesson, and the site's menu."""

from chapters import Chapter, groups
from lesson_pages import Lesson, bar, button
from markdown_text import Section
from repository import GITHUB

REFERENCE = [
    *("/literature/index", "/literature/references", "/assets/index"),
    *("/glossary", "/functions/index"),
]


def menu(caption: str, entries: list[str], depth: int = 2) -> str:
    """Return one group of the menu."""
    lines = "\n".join(entries)
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n:maxdepth: {depth}\n\n{lines}\n```\n"


def grid(cards: list[str]) -> str:
    """Return cards side by side, below one another on a phone."""
    inside = "\n".join(cards)
    return f"::::{{grid}} 1 1 2 2\n:gutter: 3\n\n{inside}\n::::\n"


def lesson_card(lesson: Lesson) -> str:
    """Return the card of a lesson: a figure, the title, what it is about."""
    picture = ""
    if path := lesson.picture():
        picture = f":img-top: /{path}\n:img-alt: A picture of lesson {lesson.readme.title}\n"
    return (
        f":::{{grid-item-card}} {lesson.readme.title}\n"
        f":link: /{lesson.name}/index\n:link-type: doc\n{picture}\n{lesson.summary()}\n:::\n"
    )


def theory_card(chapter: Chapter) -> str:
    """Return the card of a chapter of theory: the names of its pages."""
    names = " · ".join(part.section.title for part in chapter.parts)
    return (
        f":::{{grid-item-card}} {chapter.section.title.split(':')[0]}\n"
        f":link: /{chapter.docname}\n:link-type: doc\n\n{names}\n:::\n"
    )


def ways_in(chapters: list[Chapter], lessons: list[Lesson]) -> str:
    """Return the bar with the places to begin."""
    theory = groups(chapters)["Theory"]
    buttons = [button(f"{lessons[0].name}/index.html", "Begin with the first lesson", "first")]
    buttons += [button(f"{theory[0].docname}.html", "Read the theory")] if theory else []
    buttons += [button(f"{chapters[0].docname}.html", "Run it yourself"), button(GITHUB, "GitHub")]
    return bar(buttons, [])


def first_page(top: Section, chapters: list[Chapter], lessons: list[Lesson]) -> str:
    """Return the first page as Markdown."""
    parts = groups(chapters)
    theory = [chapter for chapter in parts["Theory"] if chapter.parts]
    names = {caption: [f"/{entry.docname}" for entry in group] for caption, group in parts.items()}
    body = [
        f"# {top.title}\n",
        f"{top.text.strip()}\n",
        ways_in(chapters, lessons),
        "## Lessons\n",
        grid([lesson_card(lesson) for lesson in lessons]),
        "## Theory\n",
        grid([theory_card(chapter) for chapter in theory]),
        menu("Start here", names["Start here"]),
        menu("Theory", names["Theory"]),
        menu("Lessons", [f"/{lesson.name}/index" for lesson in lessons]),
        menu("Reference", REFERENCE),
        menu("About", names["About"]),
    ]
    return "\n".join(body)
