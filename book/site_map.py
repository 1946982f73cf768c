"""Which page of the site a link of the repository leads to.

The READMEs and notebooks link to one another as files. On the site a README's heading may be a
page of its own, and a script is a part of the index of functions. Whatever has no page leads to
the repository on GitHub.
"""

import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from markdown_text import LINK, outside_code, slug
from repository import BLOB, COLAB

IMAGE = re.compile(r"(<img\b[^>]*?\bsrc=\")([^\"]+)")
PICTURES = {".svg", ".png", ".jpg", ".jpeg", ".webp", ".gif"}


@dataclass
class SiteMap:
    """The pages by the path, or path#heading, that the repository calls them by."""

    root: Path
    pages: dict[str, str] = field(default_factory=dict)  # "README.md#anchors": "/chapters/..."

    def resolve(self, link: str, page: str) -> str:
        """Return where a link of the file `page` (a path in the repository) leads on the site."""
        own = next((start for start in (BLOB, COLAB) if link.startswith(f"{start}/")), None)
        if own == COLAB or (own is None and re.match(r"[a-z][a-z0-9+.-]*:|//", link, re.I)):
            return link
        name, _, anchor = unquote(link[len(own) + 1 :] if own else link).partition("#")
        folder = "" if own else posixpath.dirname(page)
        path = posixpath.normpath(posixpath.join(folder, name)) if name else page
        if Path(path).suffix in PICTURES:
            return f"/{path}"
        anchor = slug(anchor) if path.endswith(".ipynb") else anchor
        if anchor and f"{path}#{anchor}" in self.pages:
            return self.pages[f"{path}#{anchor}"]
        if path in self.pages:
            return f"{self.pages[path]}#{anchor}" if anchor else self.pages[path]
        return self.on_github(path)

    def on_github(self, path: str) -> str:
        """Return the address of a file or folder on GitHub.

        Raises:
            ValueError: there is no such file; the message names it.
        """
        if not (self.root / path).exists():
            raise ValueError(f"{path}: no such file")
        return (BLOB if (self.root / path).is_file() else BLOB.replace("/blob/", "/tree/")) + (
            "" if path == "." else f"/{path}"
        )

    def rewrite(self, text: str, page: str) -> str:
        """Return a page's Markdown with all links changed for the site.

        A badge, which is a picture from another host inside a link, becomes the link's text. Behind
        another link in the same line it is set off by a dot.
        """

        def change(match: re.Match[str]) -> str:
            picture, label, link, title = match.groups()
            if picture and link.startswith(("http:", "https:")):
                return label
            label = LINK.sub(change, label)
            return f"{picture}[{label}]({self.resolve(link, page)}{title})"

        def change_image(match: re.Match[str]) -> str:
            return f"{match[1]}{self.resolve(match[2], page)}"

        text = re.sub(r"(?<=\)) (?=\[!\[)", " · ", text)
        return outside_code(text, lambda part: IMAGE.sub(change_image, LINK.sub(change, part)))
