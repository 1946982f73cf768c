"""What `check_data.py` says about a folder of data, in words and as JSON.

The reader of a lesson's data fills a `Survey`; nothing here knows boxes from masks.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from common.findings import Problem, refusal, report_lines

SIZES_SHOWN = 5


@dataclass
class Survey:
    """What was found.

    Attributes:
        source: the path that was asked about.
        unit: what `counts` counts: "objects" or "pixels".
        format: such as "Pascal VOC"; "" where none was recognised.
        parts: by the name of the data's own lists ("all" without any), how many "images", how
            many "objects" in them, and how many of them are "empty".
        classes: their names in the order of training.
        counts: objects, or pixels, of each class in all parts.
        sizes: how many pictures have each size (width, height).
        mended: how often each kind of mend was made.
        problems: what cannot be used, and is left out with `--on-invalid drop`.
        notes: likely mistakes, and what else to know before training.
        error: why nothing can be trained on it; None where something can.
        num_pictures: how many pictures `draw` knows.
        draw: draws picture number k with its labels into an axes.
    """

    source: str
    unit: str = "objects"
    format: str = ""
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    num_pictures: int = 0
    draw: Callable[[Axes, int], None] | None = None

    @property
    def usable(self) -> bool:
        """Tell whether something can be trained on what is left."""
        return self.error is None

    @property
    def exit_code(self) -> int:
        """Return 0 for usable data, 1 for data that is usable with drops, 2 for the rest."""
        return 2 if not self.usable else int(bool(self.problems))

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the README shows their words."""
        refused = [
            {"file": one.place.file, "line": one.place.line, "reason": str(one)}
            for one in self.problems
        ]
        if self.error is not None:
            refused.append({"file": self.source, "line": None, "reason": self.error})
        return {
            "format": self.format,
            "parts": self.parts,
            "classes": self.classes,
            "counts": self.counts,
            "mended": dict(self.mended),
            "refused": refused,
            "usable": self.usable,
            "notes": self.notes,
        }

    def to_text(self) -> str:
        """Return a report for a reader."""
        lines = [f"{self.source}: {self.format or 'no known format'}"]
        width = max([len(name) for name in (*self.parts, *self.classes)], default=0)
        for name, part in self.parts.items():
            about = ", ".join(f"{count:,} {what}" for what, count in part.items())
            lines.append(f"  {name:<{width}}  {about}")
        if self.classes:
            lines.append(f"{self.unit} of each class, in the order of training:")
            for name in self.classes:
                lines.append(f"  {name:<{width}}  {self.counts.get(name, 0):,}")
        if self.sizes:
            lines.append(f"sizes, width x height: {self._sizes()}")
        lines += report_lines(self.mended, self.notes)
        if self.problems:
            lines.append(refusal(self.source, self.problems))
        lines.append(self._verdict())
        return "\n".join(lines)

    def _sizes(self) -> str:
        common = self.sizes.most_common(SIZES_SHOWN)
        shown = [f"{width} x {height} ({count} x)" for (width, height), count in common]
        more = len(self.sizes) - len(shown)
        return ", ".join([*shown, *([f"and {more} more"] if more else [])])

    def _verdict(self) -> str:
        if self.error is not None:
            return f"not usable: {self.error}"
        if self.problems:
            return "usable with --on-invalid drop, which leaves the problems out"
        return "usable"


def same_pictures(lists: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return a note for each two lists, by their names, that have pictures of the same bytes."""
    by_length: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for name, paths in lists.items():
        for path in paths:
            by_length[path.stat().st_size].append((name, path))
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for some in (some for some in by_length.values() if len({name for name, _ in some}) > 1):
        by_content = defaultdict(list)
        for name, path in some:
            by_content[hashlib.blake2b(path.read_bytes()).digest()].append((name, path))
        for (first, path), *others in by_content.values():
            for other in dict.fromkeys(name for name, _ in others if name != first):
                shared[first, other].append(path.name)
    return [
        f"{len(names)} pictures of {first} stand in {other} too, such as {names[0]}"
        for (first, other), names in shared.items()
    ]
