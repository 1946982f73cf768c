"""Read a folder's lists of pictures and masks, and check all of it before training does.

A `Reader` is a dataset of `dataset.py`: it is made of pairs and a class table, knows the labels of
a mask, and keeps what was seen of each picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.findings import DataError, Findings, report_lines
from common.masks.checks import Seen, as_problem, check_classes, examine, note_pairs
from common.masks.class_table import ClassTable
from common.masks.folders import find_layout
from common.masks.layout import Layout, find_pairs, find_tables
from common.parts import PartsError
from common.photos import PhotoError

Reader = Any  # SegmentationDataset, which imports this module


@dataclass
class Folder:
    """A folder whose layout and classes are known.

    Attributes:
        path: the folder.
        layout: its lists.
        tables: the classes of each list.
        reader: the class of dataset that reads them.
        findings: of each list that was read, by its name.
        notes: about the folder itself.
    """

    path: Path
    layout: Layout
    tables: Mapping[str, ClassTable]
    reader: Reader
    notes: list[str]
    findings: dict[str, Findings] = field(default_factory=dict)

    def choose(self, name: str | None) -> str:
        """Return the list of a name; None stands for all pictures.

        Raises:
            PartsError: there are several lists, and none was named.
        """
        if name is not None or len(self.layout.lists) == 1:
            return self.layout.leading if name is None else name
        raise PartsError(
            f"which list to train on? The data's lists are: {', '.join(self.layout.names)}; choose "
            "with --train-split, --validation-split and --test-split"
        )

    def read(self, name: str | None, on_invalid: str, **options: Any) -> Reader:
        """Read a list; None stands for all pictures.

        Args:
            name, on_invalid: which one, and what becomes of bad pairs.
            options: see `read_list`.

        Raises:
            PartsError: there are several lists, and none was named.
            DataError: see `read_list`.
        """
        name = self.choose(name)
        listing = self.layout.lists[name]
        folder = self.path / name
        source = folder if folder.is_dir() else listing.names or listing.images
        findings = self.findings[name] = Findings(source, on_invalid)
        return read_list(self.reader, self.layout, name, self.tables[name], findings, **options)


def open_folder(path: Path, reader: Reader) -> Folder:
    """See how a folder is built, and find its classes.

    Args:
        path: the folder.
        reader: the class of dataset.

    Raises:
        DataError: no layout fits, or several; or the masks need a class table.
    """
    layout = find_layout(path)
    tables, notes = find_tables(layout)
    return Folder(path, layout, tables, reader, [*layout.notes, *notes])


def read_list(
    reader: Reader,
    layout: Layout,
    name: str,
    table: ClassTable,
    findings: Findings,
    *,
    unknown: str = "error",
    decode: bool = True,
    progress: bool = False,
) -> Reader:
    """Read every pair of a list once.

    Args:
        reader: the class of dataset.
        layout, name: the list.
        table: its classes.
        findings: gets what is found.
        unknown: "error", or "ignore" for pixels whose value the table does not list.
        decode: decode the pictures too; else their headers and ends are looked at.
        progress: show a progress bar on stderr.

    Returns:
        The dataset of the usable pairs.

    Raises:
        DataError: no pair is left, or there are problems that are to be refused.
    """
    pairs = find_pairs(layout.lists[name], findings)
    whole = reader(pairs, table, None, unknown) if pairs else None
    seen = _check(whole, pairs, findings, decode, progress) if pairs else {}
    if findings.problems and (findings.on_invalid == "refuse" or not seen):
        raise DataError(findings.refusal(""))
    if whole is None:
        raise DataError(f"{findings.source}: there is no pair of a picture and a mask")
    whole = whole.subset([k for k, (image, _) in enumerate(pairs) if image in seen])
    whole.seen = seen
    note_pairs(findings, list(seen.values()))
    head = f"{findings.source}: {len(seen)} pairs are used, {len(findings.problems)} left out"
    problems = [f"  {one}" for one in findings.problems]
    whole.report = "\n".join([head, *problems, *report_lines(findings.mended, findings.notes)])
    return whole


def _check(
    whole: Reader, pairs: list, findings: Findings, decode: bool, progress: bool
) -> dict[Path, Seen]:
    """Read every pair; return what was seen of the good ones; the others become problems."""
    seen = {}
    for image, mask in tqdm(pairs, "checking", disable=not progress):
        mended: Counter[str] = Counter()
        try:
            seen[image] = examine(image, mask, whole.labels_of(mask, mended), decode, mended)
            findings.mended.update(mended)
        except (DataError, PhotoError) as error:
            findings.problems.append(as_problem(error, image, mask))
    return seen


def check_names(source: object, parts: Mapping[str, Reader]) -> None:
    """Refuse parts of the data, by their names, whose classes are not those of the first.

    Raises:
        DataError: naming the part and the classes.
    """
    first = next(iter(parts.values()))
    for name, part in parts.items():
        if part.class_names != first.class_names:
            raise DataError(
                f"{source}: the pictures to train on have the classes "
                f"{', '.join(first.class_names)}, but the {name} part {', '.join(part.class_names)}"
                ": write one class table for all, classes.json beside their folders"
            )


def check_training(source: object, train: Reader) -> list[str]:
    """Check the classes of the pictures to train on; return notes.

    Raises:
        DataError: nothing can be learned from them.
    """
    return check_classes(source, train.table, sum(one.counts for one in train.all_seen()))
