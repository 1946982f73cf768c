"""The page of figures: all pictures of `assets`, each with the words of the page that shows it."""

import re
from pathlib import Path

from markdown_text import LINK, split
from repository import lesson_folders
from site_map import PICTURES

TAG = re.compile(r'<img src="(?P<path>assets/[^"]+)"[^>]* alt="(?P<text>[^"]*)">')


def uses(root: Path) -> dict[str, tuple[str, str]]:
    """Return for each picture of `assets` its alternative text, and a link to what shows it."""
    found: dict[str, tuple[str, str]] = {}
    for page in [root / "README.md", *(folder / "README.md" for folder in lesson_folders(root))]:
        place = page.relative_to(root).as_posix()
        for section in split(page.read_text(encoding="utf-8")).all():
            links = LINK.finditer(section.text)
            pictures = [(m[3], m[2]) for m in links if m[1] and "assets/" in m[3]]
            pictures += [(m["path"], m["text"]) for m in TAG.finditer(section.text)]
            for path, words in pictures:
                shown = f"[{section.title}](../{place}#{section.anchor})"
                found.setdefault(path.split("/")[-1], (words, shown))
    return found


def figures_page(root: Path) -> str:
    """Return the page as Markdown: the README of `assets`, then all its pictures."""
    used = uses(root)
    parts = [(root / "assets" / "README.md").read_text(encoding="utf-8").strip()]
    for path in sorted((root / "assets").iterdir()):
        if path.suffix in PICTURES and path.name in used:
            text, shown = used[path.name]
            parts.append(f"![{text}]({path.name})\n\n{text.rstrip('.')}. Shown in {shown}.")
    return "\n\n".join(parts) + "\n"
