"""Which classes the masks of a data set have, and how its files write them.

Three ways of writing a class into a mask file are common: its number (index masks), its number
with a colour table for the eye (palette masks), and its colour (RGB masks). A `ClassTable` says
what the numbers or colours mean; `table_files` reads the files that it may be written in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.findings import DataError
from common.masks import IGNORE_INDEX

MOST_CLASSES = 255  # labels are stored as uint8, and one value is IGNORE_INDEX
LARGEST_VALUE = 65535  # of a 16-bit mask
BLACK_AND_WHITE = (0, 255)
VOC_CLASSES = tuple(
    """background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse
    motorbike person pottedplant sheep sofa train tvmonitor""".split()
)
Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """Names of the classes, and the values and colours that stand for them in mask files.

    Attributes:
        names: of the labels 0, 1, ...
        values: the number of each class in index and palette masks; None where there is none.
        colors: RGB, 0 to 255, of each class in colour masks; None where there is none.
        ignore_values, ignore_colors: what is left out, label IGNORE_INDEX.
        source: the file, for messages.
        objects: masks hold the numbers of objects, 1, 2, ...; whatever its number, an object is of
            the second class, and 0 is the first.

    Raises:
        DataError: no class, too many, or a name, value or colour given twice.
    """

    names: tuple[str, ...]
    values: tuple[int, ...] | None = None
    colors: tuple[Color, ...] | None = None
    ignore_values: tuple[int, ...] = ()
    ignore_colors: tuple[Color, ...] = ()
    source: str = "the class table"
    objects: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MOST_CLASSES:
            raise DataError(
                f"{self.source} has {len(self.names)} classes; 1 to {MOST_CLASSES} are allowed"
            )
        values = [*(self.values or ()), *self.ignore_values]
        colors = [*(self.colors or ()), *self.ignore_colors]
        for kind, entries in (("name", self.names), ("value", values), ("color", colors)):
            twice = [one for k, one in enumerate(entries) if one in entries[:k]]
            if twice:
                raise DataError(f"{self.source}: the {kind} {twice[0]!r} is given twice")

    def ordered(self, names: Sequence[str]) -> ClassTable:
        """Return the table with its classes in the order of `names`, which are the same ones."""
        places = [self.names.index(name) for name in names]
        values, colors = (
            None if entries is None else tuple(entries[k] for k in places)
            for entries in (self.values, self.colors)
        )
        return replace(self, names=tuple(names), values=values, colors=colors)

    @property
    def is_black_and_white(self) -> bool:
        """Tell whether there are two classes, the values 0 and 255 or the colours of those."""
        colors = sorted(self.colors or ())
        if self.ignore_values or self.ignore_colors or len(self.names) != 2:
            return False
        if self.values is None:
            return colors == [(level, level, level) for level in BLACK_AND_WHITE]
        return tuple(sorted(self.values)) == BLACK_AND_WHITE


def numbered_classes(names: Sequence[str], source: str = "the class table") -> ClassTable:
    """Return a table in which class k has the value k, and 255 is ignored."""
    ignored = (IGNORE_INDEX,)
    return ClassTable(tuple(names), tuple(range(len(names))), None, ignored, (), source)


def voc_colors(count: int) -> list[Color]:
    """Return Pascal VOC's colours of the numbers 0 .. count - 1: their bits, dealt out to RGB."""
    colors = []
    for number in range(count):
        red = green = blue = 0
        for place in range(8):
            bits = number >> (3 * place)
            red |= (bits & 1) << (7 - place)
            green |= (bits >> 1 & 1) << (7 - place)
            blue |= (bits >> 2 & 1) << (7 - place)
        colors.append((red, green, blue))
    return colors


def voc_table() -> ClassTable:
    """Return the 21 classes of Pascal VOC; the outlines of objects, number 255, are ignored."""
    count, colors = len(VOC_CLASSES), voc_colors(256)
    return ClassTable(
        VOC_CLASSES,
        tuple(range(count)),
        tuple(colors[:count]),
        (IGNORE_INDEX,),
        (colors[IGNORE_INDEX],),
        "Pascal VOC's list of classes",
    )
