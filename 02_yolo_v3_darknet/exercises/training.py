"""Checks of the exercises 02.8 and 02.9: which prediction learns an object, and a training.

The oracle for the first is the lesson's `build_targets`, which its tests compare with Darknet's
gradients. The second reads the folder and runs the model that the reader has made.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from anchors import shape_iou
from common.checking.check import compare_function, exercise, is_blank
from common.checking.compare import describe
from common.checking.sandbox import Attempt, BlankAnswerError, WrongAnswerError
from common.labels.read import read_annotations
from common.labels.records import AnnotationSet
from common.labels.values import AnnotationError
from common.photos import PhotoError, read_photo
from darknet.cfg import DarknetFileError, Net, Yolo, parse_cfg
from detector import Detector
from targets import build_targets

FEWEST_PICTURES = 5
FOUND_IOU = 0.5
LEAST_FOUND = 0.5  # share of the labelled objects that the model has to find
STRIDES = (8, 16, 32)  # of the maps of anchors 0 to 2, 3 to 5 and 6 to 8
PUBLISHED = "10,13 16,30 33,23 30,61 62,45 59,119 116,90 156,198 373,326"


def responsible(box_cxcywh: Tensor, anchors_wh: Tensor, input_size: int) -> tuple[int, int, int]:
    """Anchor, row and column, as `build_targets` chooses them for the full network's maps."""
    numbers = tuple(anchors_wh.flatten().tolist())
    blocks = [
        Yolo(line=0, mask=(k, k + 1, k + 2), anchors=numbers, classes=1, num=9) for k in (6, 3, 0)
    ]
    sides = [input_size // stride for stride in reversed(STRIDES)]
    targets = torch.cat((torch.zeros(2), box_cxcywh))[None]
    found = build_targets(
        [torch.zeros(1, 18, side, side) for side in sides],
        blocks,
        targets,
        (input_size, input_size),
        ignore_thresholds=[1.0] * 3,
        truth_thresholds=[1.0] * 3,
    )
    block, one = next((b, one) for b, one in zip(blocks, found, strict=True) if len(one.row))
    return block.mask[one.anchor.item()], one.row.item(), one.column.item()


@exercise("02.8", "Who answers for the object?")
def who_answers(attempt: Attempt) -> None:
    """Anchor, row and column; the oracle is the lesson's `build_targets`."""
    generator = np.random.default_rng(8)
    published = [[float(side) for side in pair.split(",")] for pair in PUBLISHED.split()]
    cases = []
    for input_size in (416, 320, 608) * 8:
        size = np.exp(generator.uniform(np.log(8), np.log(0.8 * input_size), 2)).round()
        lowest = size // 2
        middle = np.floor(generator.uniform(lowest, input_size - lowest - 1)) + 0.5
        anchors = torch.tensor(published)
        if len(cases) >= 12:  # any anchors, from small to large
            anchors = torch.from_numpy(generator.integers(8, 300, (9, 2))).float()
            anchors = anchors[anchors.prod(dim=1).argsort()]
        box_cxcywh = torch.from_numpy(np.concatenate((middle, size)) / input_size).float()
        case = {"box_cxcywh": box_cxcywh, "anchors_wh": anchors, "input_size": input_size}
        cases.append(case)
    compare_function(attempt, cases, responsible, wrong_places(), tolerance=0)


def wrong_places() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to choose anchor and cell."""

    def way(
        choose: Callable[[Tensor, Tensor], Tensor] = shape_iou,
        strides: tuple[int, ...] = STRIDES,
        unit: Callable[[int], float] = float,
        order: tuple[int, int] = (1, 0),
    ) -> Callable:
        def place(box: Tensor, anchors: Tensor, input_size: int) -> tuple[int, int, int]:
            anchor = int(choose(box[None, 2:] * unit(input_size), anchors)[0].argmax())
            cell = (box[:2] * (input_size // strides[anchor // 3])).long().tolist()
            return anchor, cell[order[0]], cell[order[1]]

        return place

    def in_its_map(box: Tensor, anchors: Tensor, input_size: int) -> tuple[int, int, int]:
        anchor, row, column = responsible(box, anchors, input_size)
        return anchor % 3, row, column

    def area(sizes: Tensor, anchors: Tensor) -> Tensor:
        return -(sizes.prod(dim=1)[:, None] - anchors.prod(dim=1)).abs()

    return {
        "row and column are swapped: y gives the row": way(order=(0, 1)),
        "the fine map has the small anchors: stride 8 belongs to anchors 0 to 2": way(
            strides=STRIDES[::-1]
        ),
        "the box is in fractions, the anchors in pixels: bring both to one unit": way(
            unit=lambda input_size: 1.0
        ),
        "width and height are swapped": way(lambda s, a: shape_iou(s.flip(1), a)),
        "the distance in pixels does not decide: the IoU of the shapes does": way(
            lambda s, a: -torch.cdist(s, a)
        ),
        "the difference of the sides does not decide: the IoU of the shapes does": way(
            lambda s, a: -torch.cdist(s, a, p=1)
        ),
        "the area alone does not decide: the IoU of the shapes does": way(area),
        "that is the worst anchor": way(lambda s, a: -shape_iou(s, a)),
        "always stride 32: each group of three anchors has its own map": way(strides=(32,) * 3),
        "always stride 8: each group of three anchors has its own map": way(strides=(8,) * 3),
        "asked is the anchor's place among all nine, not in its map": in_its_map,
    }


@exercise("02.9", "Five pictures of your own")
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
