"""The project's address on GitHub: one file says it, and this command writes it wherever it stands.

`repository.txt`, at the top, holds OWNER/NAME. Badges, the first cells of the notebooks and links
have to spell it out, for each is read alone. After a fork or a move:

    python tools/address.py someone/their_course     writes it into all files
    python tools/address.py                          says what it is

Notebooks need not be executed again: their first cell has no part in what they show.
"""

import argparse
import re
import sys
from pathlib import Path

from atomic import replacing
from rooms import ROOT, project_files

FILE = "repository.txt"
SUFFIXES = (
    ".md",
    ".ipynb",
    ".py",
    ".txt",
    ".toml",
    ".yml",
    ".yaml",
    ".cff",
    ".bib",
    ".html",
    ".js",
)
ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/[\w.-]+")


def read_address(root: Path = ROOT) -> str:
    """Return OWNER/NAME, as `repository.txt` says it."""
    return (root / FILE).read_text(encoding="utf-8").strip()


def text_files(root: Path) -> list[Path]:
    """Return the files under version control in which people read text."""
    return [path for path in project_files(root) if path.suffix in SUFFIXES]


def write_address(new: str, root: Path = ROOT) -> list[Path]:
    """Write another address wherever the present one stands, and return the files changed.

    Raises:
        ValueError: it is not of the form OWNER/NAME.
    """
    if not ADDRESS.fullmatch(new):
        raise ValueError(f"{new}: not of the form OWNER/NAME, such as someone/their_course")
    old = read_address(root)
    changed = []
    for path in text_files(root):
        content = path.read_bytes()
        if old.encode() in content and new != old:
            with replacing(path) as file:
                file.write(content.replace(old.encode(), new.encode()))
            changed.append(path)
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 done, 2 wrong usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", nargs="?", metavar="OWNER/NAME", help="the new address")
    options = parser.parse_args(arguments)
    if options.address is None:
        print(read_address())
        return 0
    try:
        changed = write_address(options.address)
    except ValueError as error:
        parser.error(str(error))
    for path in changed:
        print(path.relative_to(ROOT).as_posix())
    print(f"{len(changed)} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
