"""The first code cell of every notebook: it prepares Google Colab and does nothing elsewhere.

Colab opens a notebook alone, without the files beside it. The cell fetches the lesson's folder,
enters it and installs the packages Colab lacks. Its text is the same in all notebooks, apart from
the folder's name. The environment variable `LESSON_REPOSITORY` names another git address, for a
fork or for the tests.

    python tools/colab_cell.py 02_yolo_v3_darknet      prints the cell for a new notebook
"""

import argparse

from address import read_address

CELL = """\
# Google Colab only: fetch this lesson's files and the packages it lacks. Elsewhere: nothing.
import os
import sys
from pathlib import Path
from subprocess import check_call

if "google.colab" in sys.modules and Path.cwd().name != "{folder}":
    address = "https://github.com/{repository}"
    clone = ["git", "clone", "--quiet", "--depth=1", "--filter=blob:none", "--sparse"]
    if not Path("lessons").exists():
        check_call([*clone, os.getenv("LESSON_REPOSITORY", address), "lessons"])
    check_call(["git", "-C", "lessons", "sparse-checkout", "add", "{folder}"])
    os.chdir("lessons/{folder}")
    sys.path.insert(0, str(Path.cwd()))
    check_call([sys.executable, "-m", "pip", "install", "-qr", "requirements.txt"])"""


def colab_cell(folder: str) -> str:
    """Return the source of the first code cell for the lesson in `folder`.

    Args:
        folder: name of the lesson's folder, such as "02_yolo_v3_darknet".
    """
    return CELL.format(folder=folder, repository=read_address())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the first code cell of a lesson.")
    parser.add_argument("folder", help="name of the lesson's folder")
    print(colab_cell(parser.parse_args().folder))
