"""Which classes a folder of masks has, and how its files write them.

Three ways of writing a class into a mask file are common: its number (index masks), its number
with a colour table for the eye (palette masks), and its colour (RGB masks). A class table says
what the numbers or colours mean. It is a file beside the pictures:

- `classes.json`: `["background", "person"]` (numbers 0, 1, ...), or
  `{"classes": [{"name": "road", "value": 7, "color": [128, 64, 128]}, ...], "ignore": [255]}`
  where each class has a value, a colour, or both, and `ignore` lists values and colours;
- `classes.csv`: columns `name,value` or `name,r,g,b` or all five; a class named `ignore` is left
  out of training and measuring;
- `classes.txt`: one name a line (numbers 0, 1, ...).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IGNORE_INDEX = 255  # the label of pixels that count neither in the loss nor in the metrics
MOST_CLASSES = 255  # labels are stored as uint8, and one value is IGNORE_INDEX
LARGEST_VALUE = 65535  # of a 16-bit mask
TABLE_NAMES = ("classes.json", "classes.csv", "classes.txt")
Color = tuple[int, int, int]


class DataError(ValueError):
    """Pictures, masks or class tables that cannot be trained on; the message names the file."""


@dataclass(frozen=True)
class ClassTable:
    """Names of the classes, and the values and colours that stand for them in mask files.

    Attributes:
        names: of the labels 0, 1, ...
        values: the number of each class in index and palette masks; None where there is none.
        colors: RGB, 0 to 255, of each class in colour masks; None where there is none.
        ignore_values, ignore_colors: what is left out, label IGNORE_INDEX.
        source: the file, for messages.

    Raises:
        DataError: no class, too many, or a name, value or colour given twice.
    """

    names: tuple[str, ...]
    values: tuple[int, ...] | None = None
    colors: tuple[Color, ...] | None = None
    ignore_values: tuple[int, ...] = ()
    ignore_colors: tuple[Color, ...] = ()
    source: str = "the class table"

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


def numbered_classes(names: Sequence[str], source: str = "the class table") -> ClassTable:
    """Return a table in which class k has the value k, and 255 is ignored."""
    ignored = (IGNORE_INDEX,)
    return ClassTable(tuple(names), tuple(range(len(names))), None, ignored, (), source)


def find_class_table(folder: Path) -> ClassTable | None:
    """Read the class table that lies in a folder; None where there is none.

    Raises:
        DataError: the table cannot be understood.
    """
    for name in TABLE_NAMES:
        if (folder / name).is_file():
            return read_class_table(folder / name)
    return None


def read_class_table(path: str | Path) -> ClassTable:
    """Read a class table; the module's text describes the three formats.

    Raises:
        DataError: the file is missing or cannot be understood.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    readers = {".json": _from_json, ".csv": _from_csv, ".txt": _from_lines}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} is no class table; allowed are {', '.join(TABLE_NAMES)}")
    return readers[path.suffix.lower()](text, str(path))


def _from_lines(text: str, source: str) -> ClassTable:
    return numbered_classes([line.strip() for line in text.splitlines() if line.strip()], source)


def _from_json(text: str, source: str) -> ClassTable:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{source} is no JSON: {error}") from error
    if isinstance(content, list) and all(isinstance(one, str) for one in content):
        return numbered_classes(content, source)
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise DataError(f'{source} is neither a list of names nor {{"classes": [...]}}')
    ignored = content.get("ignore", [])
    if not isinstance(ignored, list):
        raise DataError(f'{source}: "ignore" is {ignored!r}; a list of values and colours is')
    entries = [_entry(one, source) for one in content["classes"]]
    entries += [{"name": "ignore", **_value_or_color(one)} for one in ignored]
    return _table(entries, source)


def _entry(one: Any, source: str) -> dict[str, Any]:
    if not isinstance(one, dict) or not isinstance(one.get("name"), str):
        raise DataError(f"{source}: the class {one!r} has no name")
    return one


def _value_or_color(one: Any) -> dict[str, Any]:
    return {"color": one} if isinstance(one, list) else {"value": one}


def _from_csv(text: str, source: str) -> ClassTable:
    entries = []
    for row in csv.DictReader(text.splitlines(), skipinitialspace=True):
        cells = {str(key).strip().lower(): (cell or "").strip() for key, cell in row.items() if key}
        if not cells.get("name"):
            raise DataError(f"{source}: the row {cells} has no name; columns: name,value,r,g,b")
        entry: dict[str, Any] = {"name": cells["name"]}
        try:
            if cells.get("value"):
                entry["value"] = int(cells["value"])
            if cells.get("r"):
                entry["color"] = [int(cells[key]) for key in "rgb"]
        except (KeyError, ValueError) as error:
            raise DataError(f"{source}: the row {cells} is wrong: {error}") from error
        entries.append(entry)
    return _table(entries, source)


def _table(entries: Sequence[Mapping[str, Any]], source: str) -> ClassTable:
    kept = [one for one in entries if one["name"] != "ignore"]
    ignored = [one for one in entries if one["name"] == "ignore"]
    values = [_value(one["value"], source) for one in kept if "value" in one]
    colors = [_color(one["color"], source) for one in kept if "color" in one]
    for kind, given in (("value", values), ("color", colors)):
        if given and len(given) < len(kept):
            bare = next(one["name"] for one in kept if kind not in one)
            raise DataError(f"{source}: the class {bare!r} has no {kind}, but others have one")
    if not values and not colors:
        raise DataError(f"{source}: the classes have neither values nor colors")
    return ClassTable(
        tuple(one["name"] for one in kept),
        tuple(values) or None,
        tuple(colors) or None,
        tuple(_value(one["value"], source) for one in ignored if "value" in one),
        tuple(_color(one["color"], source) for one in ignored if "color" in one),
        source,
    )


def _value(value: Any, source: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_VALUE:
        raise DataError(f"{source}: the value {value!r}; whole numbers 0 to {LARGEST_VALUE} are ok")
    return value


def _color(color: Any, source: str) -> Color:
    numbers = [v for v in color if isinstance(v, int)] if isinstance(color, list) else []
    if len(numbers) != 3 or len(color) != 3 or not all(0 <= v <= 255 for v in numbers):
        raise DataError(f"{source}: the color {color!r}; [red, green, blue] of 0 to 255 is allowed")
    return (numbers[0], numbers[1], numbers[2])
