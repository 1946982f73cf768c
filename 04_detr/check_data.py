"""Look at your own data before you train on it: what is there, what was mended, what is wrong.

    python check_data.py PATH [--draw N] [--decode] [--json]

The command is `common/check_data.py`, the same in all lessons.
"""

import sys

from common.check_data import main as check
from common.labels.survey import survey_labels


def main(arguments: list[str] | None = None) -> int:
    """Run the command on labelled boxes and return its exit code."""
    return check(survey_labels, arguments)


if __name__ == "__main__":
    sys.exit(main())
