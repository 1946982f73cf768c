"""Read the labels of your own pictures, whatever tool wrote them.

COCO's JSON, Pascal VOC's XML, YOLO's and Darknet's text files, labelme's JSON, CVAT's XML, and
Penn-Fudan's masks. `read_annotations(path)` recognises the format and returns one plain
`AnnotationSet`; `find_layout(path)` only says what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.findings import DataError
from common.labels.coco_files import find_coco, has_coco
from common.labels.cvat import find_cvat, has_cvat
from common.labels.labelme import find_labelme, has_labelme
from common.labels.layout import Layout, folders_in
from common.labels.other_formats import name_other_format
from common.labels.pedestrians import find_pedestrians, has_pedestrians
from common.labels.records import AnnotationSet, ReadOptions
from common.labels.values import AnnotationError
from common.labels.voc import find_voc, has_voc
from common.labels.yolo_files import find_yolo, has_yolo


@dataclass(frozen=True)
class Format:
    """A format of a folder.

    Attributes:
        name: as in its `Layout`.
        find: recognises a folder.
        held: tells cheaply whether a folder that is read as another format has such labels too.
    """

    name: str
    find: Callable[[Path], Layout | None]
    held: Callable[[Path], bool]


FOLDER_FORMATS = (  # in the order in which they are tried
    Format("COCO", find_coco, has_coco),
    Format("CVAT for images", find_cvat, has_cvat),
    Format("Pascal VOC", find_voc, has_voc),
    Format("Penn-Fudan", find_pedestrians, has_pedestrians),
    Format("labelme", find_labelme, has_labelme),
    Format("YOLO", find_yolo, has_yolo),
)
FILE_FORMATS = (find_coco, find_cvat, find_yolo)
DRAWN_STREET = "SemanticMasks"  # a folder that the drawn street alone has
KNOWN = (
    "COCO's JSON, Pascal VOC's Annotations/*.xml, YOLO's images/ and labels/ with classes.txt or "
    "data.yaml, Darknet's obj.data, labelme's JSON files, CVAT's annotations.xml, Penn-Fudan"
)


def find_layout(path: str | Path) -> Layout:
    """Recognise the format of a folder, or of a .json, .xml, .yaml or .data file.

    Raises:
        AnnotationError: there is nothing, or nothing in a known format; other formats are named.
    """
    path = Path(path)
    if not path.exists():
        raise AnnotationError(f"{path} does not exist")
    inside = folders_in(path)[1:] if path.is_dir() else []
    for place in [path, *inside] if len(inside) == 1 else [path]:  # archives have a folder inside
        layout = _recognise(place)
        if layout is not None:
            return layout
    other = name_other_format(path)
    if other is not None:
        raise AnnotationError(f"{other}. Formats that are read: {KNOWN}")
    if path.is_file():
        raise AnnotationError(f"{path} is no folder and no .json file in a known format: {KNOWN}")
    raise AnnotationError(f"{path} is no dataset in a known format: {KNOWN}")


def _recognise(path: Path) -> Layout | None:
    is_folder = path.is_dir()
    finds = [one.find for one in FOLDER_FORMATS] if is_folder else FILE_FORMATS
    for place, find in enumerate(finds, start=1):
        try:
            layout = find(path)
        except OSError as error:
            raise AnnotationError(f"{path} cannot be read: {error.strerror}") from error
        except DataError as error:
            raise AnnotationError(str(error)) from error
        if layout is not None:
            return note_others(layout, path, FOLDER_FORMATS[place:]) if is_folder else layout
    return None


def note_others(layout: Layout, folder: Path, formats: Sequence[Format] = FOLDER_FORMATS) -> Layout:
    """Return a folder's layout with a note on labels of other formats that it holds too.

    The drawn street, which has COCO's and Penn-Fudan's by design, gets none.

    Args:
        layout: as which the folder is read.
        folder: the folder.
        formats: those to look for; the layout's own is passed over.
    """
    if (folder / DRAWN_STREET).is_dir():
        return layout
    others = [one.name for one in formats if one.name != layout.format and _holds(folder, one)]
    if not others:
        return layout
    note = (
        f"{folder} also holds labels of {', '.join(others)}; read as {layout.format} (name the "
        "file or folder to choose)"
    )
    return replace(layout, notes=(*layout.notes, note))


def _holds(folder: Path, one: Format) -> bool:
    try:
        return one.held(folder)
    except (OSError, DataError):  # what is not read cannot stop the reading
        return False


def read_annotations(
    path: str | Path,
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    on_invalid: str = "refuse",
    masks: bool = True,
) -> AnnotationSet:
    """Read the labels of a folder or of a file.

    Args:
        path: see `find_layout`.
        split: one of `list_splits(path)`, for a folder that is divided into parts.
        class_names: the classes in the order of their labels, where the file's are not wanted.
        on_invalid: "refuse" to raise on any problem, "drop" to leave the annotation out and
            list it in the result's `problems`.
        masks: whether outlines count, see `ReadOptions`.

    Raises:
        AnnotationError: no known format, or annotations that a detector cannot be trained on;
            the first ten are listed with file and line.
    """
    layout = find_layout(path)
    read = read_layout(layout, split, ReadOptions(on_invalid, masks, class_names))
    return replace(read, notes=(*layout.notes, *read.notes))


def read_layout(layout: Layout, split: str | None, options: ReadOptions) -> AnnotationSet:
    """Read one list of data that has been found; None stands for everything.

    Raises:
        AnnotationError: see `read_annotations`.
    """
    try:
        return replace(layout.read(split, options), split=split)
    except AnnotationError:
        raise
    except DataError as error:
        raise AnnotationError(str(error)) from error


def list_splits(path: str | Path) -> tuple[str, ...]:
    """List the parts (train, val, ...) that a folder says it is divided into, sorted.

    Raises:
        AnnotationError: see `find_layout`.
    """
    return find_layout(path).lists
