"""Check of the exercise 02.12: a training on pictures of the reader's own.

It reads the folder and runs the model that the reader has made.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torchvision.ops import box_iou

from common.checking.check import exercise, is_blank
from common.checking.compare import describe
from common.checking.sandbox import Attempt, BlankAnswerError, WrongAnswerError
from common.labels.read import read_annotations
from common.labels.records import AnnotationSet
from common.labels.values import AnnotationError
from common.photos import PhotoError, read_photo
from darknet.cfg import DarknetFileError, Net, parse_cfg
from detector import Detector

FEWEST_PICTURES = 5
FOUND_IOU = 0.5
LEAST_FOUND = 0.5  # share of the labelled objects that the model has to find


@exercise("02.12", "Five pictures of your own")
def five_pictures(attempt: Attempt) -> None:
    """A labelled folder and a trained model; the lesson's reader and detector judge them."""
    answer = attempt.answer
    if is_blank(answer):
        raise BlankAnswerError("the answer is still blank")
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise WrongAnswerError(f"{describe(answer)} is not (folder, model_folder)")
    if any(map(is_blank, answer)):
        raise BlankAnswerError("one of the two folders is still blank")
    folder, model_folder = map(checked_folder, answer)
    try:
        labelled = read_annotations(folder)
    except AnnotationError as error:
        raise WrongAnswerError(f"the folder cannot be trained on: {error}") from None
    check_pictures(labelled)
    found, total = count_found(load_model(model_folder, labelled.class_names), labelled)
    if found < LEAST_FOUND * total:
        raise WrongAnswerError(
            f"the model finds {found} of your {total} objects (right class, IoU 0.5, score above "
            "0.25): train longer"
        )


def checked_folder(path: Any) -> Path:
    """Return a folder that exists."""
    if not isinstance(path, str | Path):
        raise WrongAnswerError(f"{describe(path)} is no path of a folder")
    if not Path(path).is_dir():
        raise WrongAnswerError(f"there is no folder {str(path)!r}")
    return Path(path)


def check_pictures(labelled: AnnotationSet) -> None:
    """Raise unless there are five different pictures, each with an object."""
    images = labelled.images
    if len(images) < FEWEST_PICTURES:
        raise WrongAnswerError(
            f"the folder holds {len(images)} labelled pictures; {FEWEST_PICTURES} are asked for"
        )
    empty = next((image.path.name for image in images if not image.objects), None)
    if empty is not None:
        raise WrongAnswerError(f"{empty} has no labelled object")
    try:
        contents = [hashlib.sha256(read_photo(image.path).tobytes()).digest() for image in images]
    except PhotoError as error:
        raise WrongAnswerError(str(error)) from None
    if len(set(contents)) < len(contents):
        twin = next(i for i, one in enumerate(contents) if one in contents[:i])
        raise WrongAnswerError(f"{images[twin].path.name} is a copy of another picture")


def load_model(folder: Path, class_names: tuple[str, ...]) -> Detector:
    """Load what `train.py` has left in a folder."""
    files = {kind: folder / f"model.{kind}" for kind in ("cfg", "weights", "names")}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        raise WrongAnswerError(f"{', '.join(missing)}: missing in the model's folder")
    try:
        net = parse_cfg(files["cfg"])[0]
        assert isinstance(net, Net), "parse_cfg puts [net] first"
        detector = Detector(**files, size=(net.height, net.width), device="cpu")
    except (DarknetFileError, ValueError) as error:
        raise WrongAnswerError(f"the model cannot be loaded: {error}") from None
    if list(detector.class_names) != list(class_names):
        raise WrongAnswerError("the model's classes are not those of your folder")
    return detector


def count_found(detector: Detector, labelled: AnnotationSet) -> tuple[int, int]:
    """How many labelled objects the model finds, and how many there are."""
    found = total = 0
    for image in labelled.images:
        photo = read_photo(image.path, (image.width, image.height))
        detections = detector(photo)
        boxes_xyxy = torch.tensor([one.box_xyxy for one in detections]).reshape(-1, 4)
        labels = torch.tensor([one.class_index + 1 for one in detections], dtype=torch.long)
        for thing in image.objects:
            same_class = boxes_xyxy[labels == thing.label]
            overlap = box_iou(torch.tensor([thing.box_xyxy]), same_class)
            found += bool((overlap >= FOUND_IOU).any())
            total += 1
    return found, total
