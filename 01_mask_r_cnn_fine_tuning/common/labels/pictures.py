"""Find the pictures that label files speak of.

Label files name pictures as they lay on the machine where they were drawn: with backslashes, a
drive, a folder that was renamed, or another ending. The file is looked for where it should be, and
then by its name anywhere in the data's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.labels.values import AnnotationError, Mend, shown
from common.photos import PHOTO_SUFFIXES

IMAGE_FOLDERS = ("JPEGImages", "PNGImages", "images", "Images", "image", "imgs", "img", "photos")


def is_file(path: Path) -> bool:
    """Tell whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_picture(path: Path) -> bool:
    """Tell whether a path ends as photos do."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def pictures_in(folder: Path, deep: bool = False) -> list[Path]:
    """List the photos of a folder, sorted; with `deep`, those of the folders inside it as well."""
    found = folder.rglob("*") if deep else folder.glob("*")
    return sorted(path for path in found if is_picture(path) and is_file(path))


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


def leaves_folder(name: str) -> bool:
    """Tell whether a name starts at a root or a drive, or goes up."""
    plain = name.strip().replace("\\", "/")
    return plain.startswith("/") or plain[1:2] == ":" or ".." in plain.split("/")


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
        if len(found) == 1:
            mend("picture found by its name in another folder")
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

    def with_stem(self, stem: str, places: Sequence[Path]) -> Path | None:
        """Return the picture of a name without its ending; None where there is none.

        Raises:
            AnnotationError: several pictures have it.
        """
        for place in places:
            for suffix in PHOTO_SUFFIXES:
                for ending in (suffix, suffix.upper()):
                    if is_file(place / f"{stem}{ending}"):
                        return place / f"{stem}{ending}"
        found = self._index()[1].get(stem, [])
        if len(found) > 1:
            both = " and ".join(str(path) for path in found[:2])
            raise AnnotationError(f"the picture {stem} may be {both}: rename one")
        return found[0] if found else None

    def _similar(self, parts: tuple[str, ...]) -> list[Path]:
        """Return the pictures of this name that share the most folders with it."""
        known = self._index()[0].get(parts[-1].lower(), [])
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
        """Return all pictures below the folder by name, in small letters, and by stem."""
        if self._known is None:
            by_name: dict[str, list[Path]] = {}
            by_stem: dict[str, list[Path]] = {}
            for path in pictures_in(self.folder, deep=True):
                by_name.setdefault(path.name.lower(), []).append(path)
                by_stem.setdefault(path.stem, []).append(path)
            self._known = by_name, by_stem
        return self._known
