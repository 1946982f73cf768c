"""Read the file that says what the masks hold: a class table in one of the usual forms.

- `classes.json`: `["background", "person"]` (numbers 0, 1, ...), or
  `{"classes": [{"name": "road", "value": 7, "color": [128, 64, 128]}, ...], "ignore": [255]}`
  where each class has a value, a colour, or both, and `ignore` lists values and colours;
- `classes.csv`, CamVid's and DeepGlobe's `class_dict.csv`, Roboflow's `_classes.csv`: columns
  `name,value` or `name,r,g,b` or all five, in any order, also under their other usual names; a
  class named `ignore` is left out of training and measuring;
- CVAT's `labelmap.txt`: lines `label:red,green,blue:parts:actions`;
- `classes.txt`, `class_names.txt`, `labels.txt`, `names.txt` and the like: one name a line (numbers
  0, 1, ...).
"""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.findings import DataError
from common.masks.class_table import (
    LARGEST_VALUE,
    ClassTable,
    Color,
    numbered_classes,
    voc_colors,
)

LABEL_MAP = "labelmap.txt"
TABLE_NAMES = (
    *("classes.json", "classes.csv", "classes.txt", LABEL_MAP, "class_dict.csv", "_classes.csv"),
    *("class_names.txt", "label_names.txt", "labels.txt", "names.txt", "names", "classes.names"),
    *("codes.txt",),
)
NAME_COLUMNS = ("name", "class name", "label name", "class", "category", "label")
VALUE_COLUMNS = ("value", "pixel value", "pixel", "id", "class id", "label id", "index")
COLOR_COLUMNS = (("r", "g", "b"), ("red", "green", "blue"))
LABEL_MAP_LINE = re.compile(r"(?P<name>.+?):(?P<color>\s*(?:\d+\s*,\s*\d+\s*,\s*\d+)?\s*)(?::.*)?")
UNNUMBERED = "__ignore__"  # labelme's first line, which has no number


def find_class_table(folders: Sequence[Path]) -> ClassTable | None:
    """Read the class table that lies in one of the folders; None where there is none.

    Raises:
        DataError: a table cannot be understood, or two of them contradict one another.
    """
    found = None
    for folder in dict.fromkeys(folders):
        if not os.access(folder, os.R_OK):  # a folder above may belong to somebody else
            continue
        inside = {path.name.lower(): path for path in folder.iterdir() if path.is_file()}
        for name in TABLE_NAMES:
            if name in inside:
                table = read_class_table(inside[name])
                found = table if found is None else _joined(found, table)
    return found


def read_class_table(path: str | Path) -> ClassTable:
    """Read a class table; the module's text describes the forms.

    Raises:
        DataError: the file is missing or cannot be understood.
    """
    path = Path(path)
    text = read_text(path)
    name = path.name.lower()
    readers = {".json": _from_json, ".csv": _from_csv, ".txt": _from_lines, ".names": _from_lines}
    reader = _from_lines if name in TABLE_NAMES else None
    reader = _from_label_map if name == LABEL_MAP else readers.get(path.suffix.lower(), reader)
    if reader is None:
        raise DataError(f"{path} is no class table; allowed are {', '.join(TABLE_NAMES)}")
    return reader(text, str(path))


def read_text(path: Path) -> str:
    """Return the text of a file: UTF-8, with or without a mark of it, or UTF-16 with one.

    Raises:
        DataError: it cannot be read, or has another encoding.
    """
    try:
        raw = path.read_bytes()
        utf_16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if utf_16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; save it as UTF-8") from error


def _joined(first: ClassTable, second: ClassTable) -> ClassTable:
    """Join two tables of which each may say what the other leaves out."""
    if set(first.names) == set(second.names):
        other = second.ordered(first.names)
        agree = all(
            one is None or two is None or one == two
            for one, two in ((first.values, other.values), (first.colors, other.colors))
        )
        if agree:
            return replace(
                first,
                values=first.values or other.values,
                colors=first.colors or other.colors,
                ignore_values=tuple(sorted({*first.ignore_values, *other.ignore_values})),
                ignore_colors=tuple(sorted({*first.ignore_colors, *other.ignore_colors})),
            )
    raise DataError(
        f"{first.source} and {second.source} say different things of the classes; remove one"
    )


def _from_lines(text: str, source: str) -> ClassTable:
    names = [line.strip() for line in text.splitlines() if line.strip()]
    return numbered_classes(names[1:] if names[:1] == [UNNUMBERED] else names, source)


def _from_label_map(text: str, source: str) -> ClassTable:
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LABEL_MAP_LINE.fullmatch(line.strip())
        if match is None:
            raise DataError(
                f"{source}:{number}: {line.strip()!r}; label:red,green,blue:parts:actions is a line"
            )
        color = [int(level) for level in match["color"].split(",") if level.strip()]
        entries.append({"name": match["name"].strip(), **({"color": color} if color else {})})
    if entries and not any("color" in one for one in entries):  # then they are Pascal VOC's
        colors = voc_colors(len(entries))
        entries = [{**one, "color": [*colors[k]], "value": k} for k, one in enumerate(entries)]
    return _table(entries, source)


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
    lines = [line for line in text.splitlines() if line.strip()]
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    rows = list(csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True))
    rows = [
        {_column(key): (cell or "").strip() for key, cell in row.items() if key} for row in rows
    ]
    columns = list(rows[0]) if rows else []
    name = next((one for one in NAME_COLUMNS if one in columns), None)
    rest = [one for one in ("label", "class") if one != name]  # numbers, where a name stands too
    value = next((one for one in (*VALUE_COLUMNS, *rest) if one in columns), None)
    levels = next((three for three in COLOR_COLUMNS if three[0] in columns), ())
    entries = []
    for cells in rows:
        if name is None or not cells.get(name):
            raise DataError(f"{source}: the row {cells} has no name; columns: name,value,r,g,b")
        entry: dict[str, Any] = {"name": cells[name]}
        try:
            if value and cells.get(value):
                entry["value"] = int(cells[value])
            if levels and cells.get(levels[0]):
                entry["color"] = [int(cells[key]) for key in levels]
        except (KeyError, ValueError) as error:
            raise DataError(f"{source}: the row {cells} is wrong: {error}") from error
        entries.append(entry)
    return _table(entries, source)


def _column(title: str) -> str:
    return re.sub(r"[\s_-]+", " ", title).strip().lower()


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
