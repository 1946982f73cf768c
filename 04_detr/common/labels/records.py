"""Records that every label format is read into, before training.

Coordinates are pixels with x to the right and y down. A box is `(x1, y1, x2, y2)`: its left, top,
right and bottom *edges*, so that its width is `x2 - x1`, as in COCO (Lin et al. 2014).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from common.findings import Findings, Place, Problem, note_half_lost, report_lines
from common.labels.values import AnnotationError
from common.photos import check_photo, photo_size

T = TypeVar("T")
UNTURNED = "camera's rotation (EXIF) left out, as the labels give the unturned size"


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object: `label` 1..K (0 is the background), `box_xyxy` and `area` in pixels.

    `segmentation` is a list of COCO polygons `[x1, y1, x2, y2, ...]`, a compressed COCO RLE
    `{"size": [H, W], "counts": bytes}`, or None. `iscrowd` is 1 where the annotation covers a
    group. `source` tells where it was written.
    """

    label: int
    box_xyxy: tuple[float, float, float, float]
    area: float
    source: Place
    segmentation: Any = None
    iscrowd: int = 0


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One picture with its size in pixels and its objects (none for a negative picture)."""

    path: Path
    width: int
    height: int
    image_id: int
    objects: tuple[ObjectRecord, ...] = ()


@dataclass(frozen=True)
class AnnotationSet:
    """Everything one annotation file or folder says.

    Label `i` is `class_names[i - 1]`; `category_ids[i - 1]` is the number the file used for it.
    `kept + crowd + reported == total`: no annotation is lost. `names_found` is True where nothing
    lists the classes: they are the names that objects have. `split` is the name of the data's own
    list that was read, None for everything.
    """

    source: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageRecord, ...]
    total: int
    problems: tuple[Problem, ...] = ()
    mended: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    names_found: bool = False
    split: str | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def kept(self) -> int:
        """Count the ordinary objects."""
        return sum(1 - one.iscrowd for image in self.images for one in image.objects)

    @property
    def crowd(self) -> int:
        """Count the crowd annotations."""
        return sum(one.iscrowd for image in self.images for one in image.objects)

    @property
    def reported(self) -> int:
        """Count the annotations that were left out; `problems` says why."""
        return sum(problem.objects for problem in self.problems)

    def part(self, indices: Sequence[int]) -> AnnotationSet:
        """Return a set of these pictures only; what was found belongs to the whole."""
        images = tuple(self.images[index] for index in indices)
        total = sum(len(image.objects) for image in images)
        return replace(self, images=images, total=total, problems=(), mended=Counter(), notes=())

    def relabelled(self, class_names: Sequence[str], category_ids: Sequence[int]) -> AnnotationSet:
        """Return the set with other numbers for the same names.

        Raises:
            ValueError: an object's class is not among the names.
        """
        if tuple(class_names) == self.class_names:
            return replace(self, category_ids=tuple(category_ids))
        labels = {name: label for label, name in enumerate(class_names, start=1)}
        new = [labels.get(name) for name in self.class_names]
        images = []
        for image in self.images:
            objects = tuple(replace(one, label=new[one.label - 1]) for one in image.objects)
            if any(one.label is None for one in objects):
                raise ValueError(f"{image.path}: a class is not among {', '.join(class_names)}")
            images.append(replace(image, objects=objects))
        return replace(
            self,
            class_names=tuple(class_names),
            category_ids=tuple(category_ids),
            images=tuple(images),
        )

    def summary(self) -> str:
        """Describe the set in one line, and each mend, note and problem in one more."""
        name = f"{self.source}, {self.split}" if self.split else self.source
        first = (
            f"{name}: {len(self.images)} images, {self.total} annotations = "
            f"{self.kept} kept + {self.crowd} crowd + {self.reported} left out"
        )
        lost = note_half_lost(self.reported, self.total, "annotations")
        lines = report_lines(self.mended, [*self.notes, *lost])
        return "\n".join([first, *lines, *(f"  {problem}" for problem in self.problems)])


@dataclass(frozen=True)
class ReadOptions:
    """How labels are read, whatever their format.

    Attributes:
        on_invalid: "refuse" to raise on any problem, or "drop" to leave out what has one.
        masks: whether outlines count: a wrong one is then a problem of its object. Without, the
            object keeps its box and loses the outline.
        class_names: the classes in the order of their labels, where the data's are not wanted.
        decode: read every picture whole, not only its header and end.
        progress: show a progress bar on stderr.
    """

    on_invalid: str = "refuse"
    masks: bool = True
    class_names: Sequence[str] | None = None
    decode: bool = False
    progress: bool = False


@dataclass
class Collector(Findings):
    """Gather the findings of one source while its good annotations are read."""

    options: ReadOptions = field(default_factory=ReadOptions)
    total: int = 0

    @classmethod
    def start(cls, source: Path, options: ReadOptions) -> Collector:
        """Begin with a source.

        Raises:
            ValueError: `options.on_invalid` is not known.
        """
        return cls(source, options.on_invalid, options=options)

    def track(self, items: Sequence[T] | Iterable[T], about: str = "reading") -> Iterator[T]:
        """Go through the items, with a progress bar where one is wanted."""
        return iter(tqdm(items, about, disable=not self.options.progress, leave=False))

    def picture_size(
        self, path: Path, width: int | None = None, height: int | None = None
    ) -> tuple[int, int]:
        """Return a picture's width and height in pixels, after a check that it can be read.

        Args:
            path: of the picture.
            width, height: as its label file says, None where it does not.

        Raises:
            PhotoError: the file is missing, damaged, or of another size.
        """
        decode = self.options.decode
        if width is None or height is None:
            self.mend("size taken from the picture")
            return check_photo(path, None, decode)
        found = check_photo(path, (width, height), decode)
        if width != height and photo_size(path) != found:  # the unturned picture is meant
            self.mend(UNTURNED)
        return found

    def finish(
        self,
        images: Sequence[ImageRecord],
        class_names: Sequence[str],
        category_ids: Sequence[int],
        names_found: bool = False,
    ) -> AnnotationSet:
        """Return the set, or refuse it.

        Raises:
            AnnotationError: there are problems and `on_invalid` is "refuse", or no image is left.
        """
        if self.problems and self.on_invalid == "refuse":
            raise AnnotationError(self.refusal(f"in {self.total} annotations"))
        if self.mended[UNTURNED]:
            self.notes.append(
                f"{self.mended[UNTURNED]} photos are taken as they are stored, not as they are "
                "seen: if the boxes lie beside the objects (check_data.py --draw 8), write the "
                "turned width and height into the labels"
            )
        if not images:
            found = "".join(f"\n  {problem}" for problem in self.problems[:10])
            message = f"{self.source}: no image is left to use{found}"
            raise AnnotationError(message, problems=self.problems)
        return AnnotationSet(
            self.source,
            tuple(class_names),
            tuple(category_ids),
            tuple(images),
            self.total,
            tuple(self.problems),
            self.mended,
            tuple(self.notes),
            names_found,
        )
