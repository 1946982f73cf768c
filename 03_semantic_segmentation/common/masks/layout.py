"""What a folder of pictures and masks is built like: its lists, and the pairs in each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from common.findings import DataError, Findings, Place, Problem
from common.masks.class_table import ClassTable, numbered_classes
from common.masks.label_maps import Masks
from common.masks.lists import chosen_pictures
from common.masks.own_values import TWO_CLASSES, number_classes
from common.masks.pairs import match_names, pictures_in, split_beside
from common.masks.table_files import LABEL_MAP, TABLE_NAMES, find_class_table
from common.parts import NAMES
from common.photos import PHOTO_SUFFIXES

VOC = "Pascal VOC segmentation"
CAMVID = "CamVid"
BESIDE = "beside the pictures"
OBJECTS = "one file an object, as in the Data Science Bowl 2018"
PENN_FUDAN = "Penn-Fudan"
NUCLEI = "numbered nuclei"
OBJECT_CLASSES = {  # of the forms whose masks hold the numbers of objects
    PENN_FUDAN: ("background", "person"),
    NUCLEI: ("background", "nucleus"),
}
SYSTEM_FILES = ("thumbs.db", "desktop.ini")
NAMED = 3  # of the files that are passed over


@dataclass(frozen=True)
class Listing:
    """One list of pictures: where they lie, where their masks do, and which of them count.

    Attributes:
        images, masks: folders; one and the same where the masks lie beside the pictures.
        tables: groups of folders where the class table may stand, the nearest group first.
        names: a file with the names of the pictures that count; None where all do.
        objects: `images` has a folder for each picture, with one mask file an object.
    """

    images: Path
    masks: Path
    tables: tuple[tuple[Path, ...], ...]
    names: Path | None = None
    objects: bool = False


@dataclass(frozen=True)
class Layout:
    """What a folder is built like.

    Attributes:
        about: the folders that were found, for messages.
        form: one of the above, or such as "images/ and masks/".
        lists: by their names; "" for data that is not divided.
        notes: lines for the reader.
    """

    about: str
    form: str
    lists: dict[str, Listing]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Name the lists; none for data that is not divided."""
        return tuple(name for name in self.lists if name)

    @property
    def leading(self) -> str:
        """Return the name of the list to train on by its name, or else of the first."""
        return next((name for name in NAMES["train"] if name in self.lists), next(iter(self.lists)))

    @property
    def first(self) -> Listing:
        """Return that list."""
        return self.lists[self.leading]


def list_tables(folder: Path, *others: Path) -> tuple[tuple[Path, ...], ...]:
    """Return where a class table may stand: in the folder or the others, or above it."""
    return ((folder, *others), (folder.absolute().parent,))


def find_table(listing: Listing) -> ClassTable | None:
    """Read the class table of a list, the nearest one; None where there is none.

    Raises:
        DataError: it cannot be understood, or two that are equally near contradict one another.
    """
    tables = (find_class_table(folders) for folders in listing.tables)
    return next((table for table in tables if table is not None), None)


def find_tables(layout: Layout) -> tuple[dict[str, ClassTable], list[str]]:
    """Return the class table of each list, and notes about them.

    Lists without one have the classes that the masks of all lists show together. A table with the
    classes of the first list in another order is brought into that order. Where masks hold the
    numbers of objects, all objects are one class.

    Raises:
        DataError: a table cannot be understood, or the masks of a list need one.
    """
    if layout.form in OBJECT_CLASSES:
        table = replace(numbered_classes(OBJECT_CLASSES[layout.form]), objects=True)
        return dict.fromkeys(layout.lists, table), []
    tables = {name: find_table(listing) for name, listing in layout.lists.items()}
    notes: list[str] = []
    if None in tables.values():
        own, note = _own_table(layout)
        notes += [note] if note else []
        tables = {name: table or own for name, table in tables.items()}
    first = tables[layout.leading]
    for name, table in tables.items():
        if table.names != first.names and set(table.names) == set(first.names):
            tables[name] = table.ordered(first.names)
            notes.append(f"the list {name} has the classes in another order: matched by name")
    return tables, notes


def _own_table(layout: Layout) -> tuple[ClassTable, str | None]:
    unused = Findings(layout.first.images, "drop")
    pairs = [pair for one in layout.lists.values() for pair in find_pairs(one, unused)]
    if layout.first.objects:
        return ClassTable(TWO_CLASSES, (0, 1), source=str(layout.first.images)), None
    if not pairs:
        return ClassTable(TWO_CLASSES, (0, 1)), None  # what is wrong is said for each list
    return number_classes([mask for _, mask in pairs], layout.form == VOC)


def describe_format(layout: Layout, table: ClassTable | None = None) -> str:
    """Name the format of a folder, such as "masks: Pascal VOC segmentation"."""
    source = Path(table.source).name.lower() if table is not None else ""
    if source == LABEL_MAP:
        return "masks: CVAT"
    if layout.form == BESIDE and source == "_classes.csv":
        return "masks: Roboflow"
    return f"masks: {layout.form}"


def find_pairs(listing: Listing, findings: Findings) -> list[tuple[Path, Masks]]:
    """Pair the pictures and masks of a list, sorted by name.

    Pictures or masks that are alone become problems; what is passed over becomes a note.

    Raises:
        DataError: a folder is empty, or two files share a stem.
    """
    if listing.objects:
        return _object_pairs(listing.images, findings)
    pictures = pictures_in(listing.images)
    masks = pictures_in(listing.masks)
    if listing.images == listing.masks:
        pictures, masks = split_beside(pictures)
    for folder, files in {listing.images: pictures, listing.masks: masks}.items():
        if not files:
            suffixes = ", ".join(sorted(PHOTO_SUFFIXES))
            raise DataError(f"{folder} holds no picture ({suffixes})")
        _note_passed_over(folder, findings)
    pairs, problems = match_names(pictures, masks)
    if listing.names is not None:
        chosen = chosen_pictures(listing.names, pictures, findings)
        pairs = [pair for pair in pairs if pair[0] in chosen]
        files = {str(picture) for picture in chosen}
        problems = [one for one in problems if one.place.file in files]
    findings.problems += problems
    return list(pairs)


def is_of_objects(folder: Path) -> bool:
    """Tell whether a folder has a folder for each picture: x/images/x.png and x/masks/*.png."""
    found = False
    for one in (path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
        images, masks = one / "images", one / "masks"
        if not images.is_dir() or not masks.is_dir():
            continue
        pictures, objects = pictures_in(images), pictures_in(masks)
        if len(pictures) != 1 or match_names(pictures, objects)[0]:
            return False
        found = found or bool(objects)
    return found


def _object_pairs(folder: Path, findings: Findings) -> list[tuple[Path, Masks]]:
    pairs: list[tuple[Path, Masks]] = []
    for one in sorted(path for path in folder.iterdir() if path.is_dir()):
        pictures, objects = (
            pictures_in(one / name) if (one / name).is_dir() else [] for name in ("images", "masks")
        )
        if pictures and objects:
            pairs.append((pictures[0], tuple(objects)))
        elif pictures or objects:
            lacking = "masks/ has no mask" if pictures else "images/ has no picture"
            findings.problems.append(Problem(Place(str(one)), lacking))
    joined = sum(len(objects) for _, objects in pairs)
    findings.notes.append(f"{joined:,} masks of one object each were joined to {len(pairs):,}")
    return pairs


def _note_passed_over(folder: Path, findings: Findings) -> None:
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    left = [
        name
        for name in files
        if not name.startswith(".")
        and name.lower() not in (*SYSTEM_FILES, *TABLE_NAMES)
        and Path(name).suffix.lower() not in PHOTO_SUFFIXES
    ]
    if left:
        shown = ", ".join([*left[:NAMED], *(["..."] if len(left) > NAMED else [])])
        verb = "file is no picture and was" if len(left) == 1 else "files are no pictures and were"
        findings.notes.append(f"{folder}: {len(left)} {verb} passed over: {shown}")
