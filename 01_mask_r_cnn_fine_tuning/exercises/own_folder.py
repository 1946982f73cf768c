"""Check of the exercise 01.9: a folder of own labelled pictures, and a dataset that reads it.

The oracle is the lesson's reader of COCO, VOC and YOLO. What the dataset gives must be what is
written in the files.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.checking.check import exercise, is_blank
from common.checking.compare import SEQUENCES, kind
from common.checking.sandbox import Attempt, BlankAnswerError, WrongAnswerError
from common.labels.read import read_annotations
from common.labels.records import AnnotationSet
from common.labels.values import AnnotationError
from common.photos import PhotoError, read_photo
from dataset import DetectionDataset

FEWEST = 5  # pictures, and objects in all of them


@exercise("01.9", "Label five pictures of your own", seconds=60)
def label_five_pictures(attempt: Attempt) -> None:
    """A folder in the layout of COCO, VOC or YOLO, and the dataset that reads it."""
    folder, dataset = folder_and_dataset(attempt.answer)
    annotations = read_folder(folder)
    check_pictures(annotations)
    check_objects(annotations)
    compare_items(attempt, dataset, DetectionDataset(annotations, masks=False))


def folder_and_dataset(answer: Any) -> tuple[Path, Any]:
    """Take the answer apart, whatever it is."""
    if is_blank(answer):
        raise BlankAnswerError("the answer is still blank")
    if not isinstance(answer, SEQUENCES) or len(answer) != 2:
        raise WrongAnswerError(f"the answer is {kind(answer)}; expected are (folder, dataset)")
    for name, value in zip(("folder", "dataset"), answer, strict=True):
        if is_blank(value):
            raise BlankAnswerError(f"the {name} is still blank")
    folder, dataset = answer
    if not isinstance(folder, str | Path):
        raise WrongAnswerError(f"the folder is {kind(folder)}; expected is its path")
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise WrongAnswerError(f"the dataset is {kind(dataset)}: it has no length or no items")
    return Path(folder), dataset


def read_folder(folder: Path) -> AnnotationSet:
    """Read the labels; what the reader refuses is the reason."""
    try:
        return read_annotations(folder)
    except (AnnotationError, PhotoError, OSError) as error:
        shown = str(error).replace(str(folder), "your folder")
        raise WrongAnswerError(f"the reader refuses the labels: {shown}") from None


def check_pictures(annotations: AnnotationSet) -> None:
    """Raise unless there are enough pictures, no two the same."""
    count = len(annotations.images)
    if count < FEWEST:
        raise WrongAnswerError(f"the folder has {count} pictures; asked are {FEWEST} or more")
    seen: dict[bytes, str] = {}
    for image in annotations.images:
        try:
            pixels = read_photo(image.path).tobytes()
        except PhotoError:
            raise WrongAnswerError(f"the picture {image.path.name} cannot be read") from None
        if pixels in seen:
            text = "the same picture teaches nothing twice"
            raise WrongAnswerError(f"{seen[pixels]} and {image.path.name} are equal: {text}")
        seen[pixels] = image.path.name


def check_objects(annotations: AnnotationSet) -> None:
    """Raise unless enough objects are labelled, with boxes around them."""
    count = sum(len(image.objects) for image in annotations.images)
    if count < FEWEST:
        raise WrongAnswerError(f"{count} objects are labelled; asked are {FEWEST} or more")
    shares = [
        (x2 - x1) * (y2 - y1) / (image.width * image.height)
        for image in annotations.images
        for x1, y1, x2, y2 in (one.box_xyxy for one in image.objects)
    ]
    if min(shares) > 0.95:
        raise WrongAnswerError("every box covers its whole picture: draw it around the object")


def compare_items(attempt: Attempt, dataset: Any, expected: DetectionDataset) -> None:
    """Raise unless the dataset's items hold what the files say."""
    came = attempt.run(lambda: len(dataset), {})
    if came != len(expected):
        text = f"the dataset has {came} items, but the folder {len(expected)} pictures"
        raise WrongAnswerError(text)
    items = []
    for index in range(len(expected)):
        items.append(parts_of(attempt.run(lambda k: dataset[k], {"index": index}), index))
    truth = [parts_of(expected[index], index) for index in range(len(expected))]
    for index, (own, right) in enumerate(zip(items, truth, strict=True)):
        name = expected.image_path(index).name
        if own[0] != right[0]:
            text = f"{own[0][0]} rows and {own[0][1]} columns, but {name} has {right[0][0]} and"
            raise WrongAnswerError(f"item {index} has {text} {right[0][1]}")
    compare_column("label", [one[1] for one in items], [one[1] for one in truth], LABEL_WAYS)
    compare_column("box", [one[2] for one in items], [one[2] for one in truth], BOX_WAYS)


def parts_of(item: Any, index: int) -> tuple[tuple[int, int], Tensor, Tensor]:
    """Return size, labels and boxes of an item (image, target)."""
    try:
        image, target = item
        labels, boxes = (torch.as_tensor(target[key]).detach() for key in ("labels", "boxes"))
        size = tuple(image.shape[-2:])
    except (TypeError, ValueError, KeyError, AttributeError):
        text = 'an image (3, H, W) and a dict with "boxes" and "labels"'
        raise WrongAnswerError(f"item {index} is {kind(item)}; expected are {text}") from None
    return size, labels, boxes.as_subclass(Tensor).float()


def as_xywh(boxes_xyxy: Tensor) -> Tensor:
    """Corner and size in place of two corners."""
    return torch.cat((boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]), dim=1)


LABEL_WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "all labels are 1, whatever the files say": torch.ones_like,
    "the labels count from 0, but 0 is the background": lambda labels: labels - 1,
}
BOX_WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "the boxes are x, y, width, height: a detector wants two corners": as_xywh,
    "x and y of the boxes are swapped": lambda boxes: boxes[:, [1, 0, 3, 2]],
}


def compare_column(
    name: str, came: list[Tensor], expected: list[Tensor], ways: dict[str, Callable]
) -> None:
    """Raise unless all items agree; with the reason, where all follow one known wrong way."""
    tolerance = 1.0 if name == "box" else 0.0  # pixels: files round

    def agree(way: Callable[[Tensor], Tensor]) -> list[bool]:
        pairs = zip(came, map(way, expected), strict=True)
        return [
            own.shape == right.shape and torch.allclose(own.float(), right.float(), 0, tolerance)
            for own, right in pairs
        ]

    right = agree(lambda value: value)
    if all(right):
        return
    reason = next((reason for reason, way in ways.items() if all(agree(way))), "")
    first = f"item {right.index(False)} has not the {name} of each object that the files name"
    raise WrongAnswerError(reason or first)
