"""Find the pictures that label files speak of.

Label files name pictures as they lay on the machine where they were drawn: with backslashes, a
drive, signs written as %20, or a folder that was renamed. The file is looked for where it should
be, and then by its name anywhere in the data's folder.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from common.labels.layout import PASSED_OVER
from common.labels.values import AnnotationError, Mend, shown
from common.photos import PHOTO_SUFFIXES

MASK_FOLDERS = (
    "masks", "mask", "SegmentationClass", "SegmentationObject", "PedMasks", "trainannot",
    "train_labels", "trimaps",
)  # fmt: skip
TASK_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before names of pictures
IMAGE_FOLDERS = (
    "JPEGImages",
    "PNGImages",
    "images",
    "Images",
    "image",
    "imgs",
    "img",
    "photos",
    "data",
)


def is_file(path: Path) -> bool:
    """Tell whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_dir(path: Path) -> bool:
    """Tell whether a folder is there; a name that no folder can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_picture(path: Path) -> bool:
    """Tell whether a path ends as photos do."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def pictures_in(folder: Path, deep: bool = False) -> list[Path]:
    """List the photos of a folder, sorted; with `deep`, those of the folders inside it as well."""
    found = (path for path in (folder.rglob("*") if deep else folder.glob("*")) if is_picture(path))
    return sorted(path for path in found if not _is_hidden(path, folder) and is_file(path))


def _is_hidden(path: Path, folder: Path) -> bool:
    """Tell whether systems and notebooks made a file: ._a.jpg, .ipynb_checkpoints, __MACOSX."""
    inside = path.relative_to(folder).parts
    return any(one.startswith(".") or one in PASSED_OVER for one in inside)


def name_parts(name: object) -> tuple[str, ...]:
    """Split a picture's name into its folders and the file, whatever system wrote it.

    Raises:
        AnnotationError: it is no name of a file.
    """
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise AnnotationError(f"file_name is {shown(name)}, not a file's name")
    parts = name.strip().replace("\\", "/").split("/")
    kept = tuple(part for part in parts if part not in ("", ".") and not part.endswith(":"))
    if not kept or kept[-1] == "..":
        raise AnnotationError(f"file_name is {shown(name)}, not a file's name")
    return kept


def home_of(label_file: Path) -> Path:
    """Return the data's folder, in which the pictures of a label file are looked for."""
    inside = label_file.parent.name.lower() in ("annotations", "annotation", "labels", "json")
    return label_file.parent.parent if inside else label_file.parent


def note_unlabelled(pictures: Iterable[Path], stems: Iterable[str], what: str) -> list[str]:
    """Say how many pictures that lie beside these ones have no label file.

    Args:
        pictures: those that have one.
        stems: the names, without endings, of all label files and of the pictures they name.
        what: the kind of the label file.
    """
    known = {*stems, *(path.stem for path in pictures)}
    folders = {path.parent for path in pictures}
    bare = sum(one.stem not in known for folder in folders for one in pictures_in(folder))
    return [f"{bare} pictures have no {what}: they are not used"] if bare else []


def leaves_folder(name: str) -> bool:
    """Tell whether a name starts at a root or a drive, or goes up."""
    plain = name.strip().replace("\\", "/")
    return plain.startswith("/") or plain[1:2] == ":" or ".." in plain.split("/")


def other_names(name: str) -> list[str]:
    """Return what else a name can mean: web addresses write %20 for a space, and `?d=` a path."""
    plain = unquote(name.rpartition("?d=")[2])
    file = plain.replace("\\", "/").rpartition("/")[2]
    short = TASK_PREFIX.sub("", file)
    return [plain] * (plain not in (name, "")) + [short] * (short not in (file, ""))


def _plain(name: str) -> str:
    """Return a file's name so that small and capital letters, or two spellings of é, are one."""
    return unicodedata.normalize("NFC", name).lower()


class Pictures:
    """The pictures below a folder, by what label files call them.

    Args:
        folder: the data's folder; it is searched when a picture is not where it should be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: tuple[dict[str, list[Path]], dict[str, list[Path]]] | None = None

    def find(self, name: str, places: Sequence[Path], mend: Mend) -> Path:
        """Return the file that a name means.

        Args:
            name: as the label file writes it.
            places: folders that the name may start from, the likeliest first.
            mend: is told what had to be changed about the name.

        Raises:
            AnnotationError: there is no such file, or there are several.
        """
        parts = name_parts(name)
        if not leaves_folder(name):
            for place in places:
                if is_file(place.joinpath(*parts)):
                    if "\\" in name:
                        mend("backslashes in names of pictures")
                    return place.joinpath(*parts)
        found = self._similar(parts)
        kind = "picture found by its name in another folder"
        for other in () if found else other_names(name):
            found = found or self._similar(name_parts(other))
            kind = "picture found by its name without signs that a tool put in"
        if len(found) == 1:
            mend(kind)
            return found[0]
        if found:
            both = " and ".join(str(path) for path in found[:2])
            raise AnnotationError(f"file_name {shown(name)} may be {both}: rename one")
        if leaves_folder(name):
            raise AnnotationError(
                f"file_name {shown(name)} leaves the image folder, and {self.folder} has no "
                f"picture {parts[-1]}"
            )
        tried = places[0] if places else self.folder
        raise AnnotationError(f"{tried.joinpath(*parts)}: there is no such file")

    def with_stem(self, stem: str, places: Sequence[Path], named: str = "") -> Path | None:
        """Return the picture of a name without its ending; None where there is none.

        Args:
            stem: the name.
            places: folders in which it may lie, the likeliest first.
            named: the file's whole name, perhaps with folders, as the label file has it: decides
                between several.

        Raises:
            AnnotationError: several pictures have it.
        """
        endings = [end for suffix in PHOTO_SUFFIXES for end in (suffix, suffix.upper())]
        for place in [*places, None]:
            if place is None:
                found = self._index()[1].get(stem, [])
            else:
                found = [
                    place / f"{stem}{end}" for end in endings if is_file(place / f"{stem}{end}")
                ]
            if found:
                break
        said = named.replace("\\", "/").rpartition("/")[2]
        found = [one for one in found if one.name == said] or found
        if len(found) > 1:
            both = " and ".join(str(path) for path in found[:2])
            raise AnnotationError(f"the picture {stem} may be {both}: rename one")
        return found[0] if found else None

    def _similar(self, parts: tuple[str, ...]) -> list[Path]:
        """Return the pictures of this name that share the most folders with it."""
        known = self._index()[0].get(_plain(parts[-1]), [])
        best: list[Path] = []
        most = 0
        for path in known:
            own = path.relative_to(self.folder).parts
            pairs = zip(reversed(own), reversed(parts), strict=False)
            shared = 0
            for mine, theirs in pairs:
                if mine.lower() != theirs.lower():
                    break
                shared += 1
            if shared > most:
                best, most = [], shared
            if shared == most:
                best.append(path)
        return best

    def _index(self) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        """Return all pictures below the folder by name, in small letters, and by stem.

        By stem without masks, which mostly have the stems of their pictures.
        """
        if self._known is None:
            by_name: dict[str, list[Path]] = {}
            by_stem: dict[str, list[Path]] = {}
            for path in pictures_in(self.folder, deep=True):
                by_name.setdefault(_plain(path.name), []).append(path)
                if not {*path.relative_to(self.folder).parts[:-1]} & {*MASK_FOLDERS}:
                    by_stem.setdefault(path.stem, []).append(path)
            self._known = by_name, by_stem
        return self._known
