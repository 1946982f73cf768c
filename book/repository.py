"""Where things are in the repository, and what its parts are called on GitHub and Colab."""

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = (ROOT / "repository.txt").read_text(encoding="utf-8").strip()  # OWNER/NAME
GITHUB = f"https://github.com/{ADDRESS}"
BLOB = f"{GITHUB}/blob/main"
COLAB = f"https://colab.research.google.com/github/{ADDRESS}/blob/main"
LAST_NOTEBOOKS = ("exercises", "solutions")  # they follow the notebooks that teach


def lesson_folders(root: Path) -> list[Path]:
    """Return the folders of the lessons, in the order of their numbers."""
    return sorted(path for path in root.glob("[0-9][0-9]_*") if (path / "README.md").is_file())


def lesson_notebooks(lesson: Path) -> list[Path]:
    """Return a lesson's notebooks: as its README names them, then exercises and solutions."""
    readme = (lesson / "README.md").read_text(encoding="utf-8")

    def place(path: Path) -> tuple[int, int, str]:
        last = LAST_NOTEBOOKS.index(path.stem) + 1 if path.stem in LAST_NOTEBOOKS else 0
        found = readme.find(f"({path.name})")
        return last, found if found >= 0 else len(readme), path.name

    return sorted(lesson.glob("*.ipynb"), key=place)


def read_notebook(path: Path) -> dict:
    """Return a notebook's JSON, the source of every cell as one text.

    Raises:
        ValueError: not a notebook; the message names the file.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: not a notebook: {error}") from error
    return notebook


def project_files(folder: Path) -> list[Path]:
    """Return the files of a folder that belong to the project, sorted.

    Outside a git checkout these are all files but hidden ones and Python's caches.
    """
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        names = done.stdout.split("\0") if done.returncode == 0 else None
    except OSError:
        names = None
    if names is None:
        paths = [path.relative_to(folder) for path in folder.rglob("*")]
        hidden = re.compile(r"(^|/)(\.|__pycache__)")
        names = [path.as_posix() for path in paths if not hidden.search(path.as_posix())]
    return sorted(path for name in names if name and (path := folder / name).is_file())
