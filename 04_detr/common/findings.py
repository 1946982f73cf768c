"""What a reader of data finds on the way: problems, what it mended, and what is worth knowing.

One policy for all data, of boxes and of masks. What can be meant in one way only is read; where it
was not written as it should be, it is mended, counted, and said in one line a kind. What can be
meant in two ways, or is empty, is a problem, with its file, its line and the remedy. Problems
refuse the data, or with `--on-invalid drop` leave out what they touch, and are listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.choices import ON_INVALID
from common.photos import PhotoError

PROBLEMS_SHOWN = 10


class DataError(ValueError):
    """Data that cannot be used; the message names the file, and says why and what helps.

    Attributes:
        line: of the file, where the message does not name it.
        problems: all that led to it, where there are several.
    """

    def __init__(
        self, message: str, line: int | None = None, problems: Sequence[Problem] = ()
    ) -> None:
        super().__init__(message)
        self.line, self.problems = line, tuple(problems)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a file, perhaps a line (from 1), perhaps an entry of the file."""

    file: str
    line: int | None = None
    entry: str = ""

    def __str__(self) -> str:
        # The many lines of a JSON file that is one line are no help.
        line = f":{self.line}" if self.line and (self.line > 1 or not self.entry) else ""
        return f"{self.file}{line}" + f": {self.entry}" * bool(self.entry)


@dataclass(frozen=True)
class Problem:
    """One finding; `objects` is how many objects were left out because of it."""

    place: Place
    message: str
    objects: int = 1

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass
class Findings:
    """Gather what is found while one source of data is read.

    Args:
        source: the file or folder.
        on_invalid: "refuse", or "drop" what has problems.

    Attributes:
        problems: what cannot be used.
        mended: how often each kind of mend was made, by its description.
        notes: lines that the reader of the data should see.

    Raises:
        ValueError: `on_invalid` is neither of the two.
    """

    source: Path
    on_invalid: str
    problems: list[Problem] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_invalid not in ON_INVALID:
            raise ValueError(
                f"on_invalid is {self.on_invalid!r}; allowed are {', '.join(ON_INVALID)}"
            )

    @contextmanager
    def reporting(self, place: Place, objects: int = 1) -> Iterator[None]:
        """Turn a DataError or PhotoError raised inside into a problem at `place`."""
        try:
            yield
        except (DataError, PhotoError) as error:
            line = getattr(error, "line", None)
            where = place if line is None else replace(place, line=line)
            self.problems.append(Problem(where, str(error), objects))

    def mend(self, kind: str, count: int = 1) -> None:
        """Count a mend, such as "size taken from the picture"."""
        self.mended[kind] += count

    def refusal(self, total: str) -> str:
        """Say what is wrong and what can be done.

        Args:
            total: what was looked at, such as "in 28 annotations", or nothing.
        """
        return refusal(self.source, self.problems, total)


def refusal(source: object, problems: list[Problem] | tuple[Problem, ...], total: str = "") -> str:
    """Say which problems a source has, the first ten of them, and what can be done."""
    count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
    about = f"{count} {total}".strip()
    head = f"{source}: {about} (--on-invalid drop leaves them out):"
    lines = [f"  {problem}" for problem in problems[:PROBLEMS_SHOWN]]
    more = len(problems) - len(lines)
    return "\n".join([head, *lines, *([f"  ... and {more} more"] if more else [])])


def note_half_lost(left_out: int, total: int, what: str) -> list[str]:
    """Return a note where more than half of some things are left out, and else none."""
    if 2 * left_out <= total:
        return []
    return [f"more than half of the {what} are left out: {left_out}"]


def report_lines(mended: Counter[str], notes: list[str] | tuple[str, ...]) -> list[str]:
    """Say what was mended, one line a kind, and what else is worth knowing."""
    lines = [f"  mended: {kind} ({count} x)" for kind, count in sorted(mended.items())]
    return [*lines, *(f"  note: {note}" for note in notes)]
