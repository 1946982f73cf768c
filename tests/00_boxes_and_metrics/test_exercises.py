"""The exercises: solutions pass, blanks do not, and usual wrong ways get their reason."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from checks import check
from exercise_cells import run_tagged, tagged_ids
from exercise_checking import EXERCISES
from rotated_boxes import rotated_iou

IDS = list(EXERCISES)

# What the check says to the wrong ways in solutions.ipynb, in their order.
REASONS = {
    "00.1": [
        "the union counts the shared part twice",
        "that is Dice",
        "without + 1",
        "not yet divided",
    ],
    "00.2": ["that is the way back", "twice the IoU", "plus one intersection, not two"],
    "00.3": [
        "a gap counts as a negative width",
        "the union counts the shared part twice",
        "without + 1",
        "only box i of a with box i of b",
    ],
    "00.4": ["half a cell off", "column by column", "it is the stride"],
    "00.5": ["class after class", "ordered by index", "count inside each class"],
    "00.6": [
        "precision and recall are swapped",
        "recall divides by all objects",
        "the numbers of the whole list",
    ],
    "00.7": ["not sorted by score", "without the envelope", "by the objects found", "11 points"],
    "00.8": ["rounded, not cut off", "in pixels, not in cells", "that is RoIAlign"],
    "00.9": ["the angle is not used", "in degrees", "the other way", "upright boxes around both"],
}


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    return request.config.rootpath / request.path.parent.name


@pytest.fixture(scope="module")
def blanks(folder: Path) -> dict[str, list]:
    return run_tagged(folder / "exercises.ipynb", "exercise")


@pytest.fixture(scope="module")
def solutions(folder: Path) -> dict[str, list]:
    return run_tagged(folder / "solutions.ipynb", "solution")


@pytest.fixture(scope="module")
def wrong_ways(folder: Path) -> dict[str, list]:
    return run_tagged(folder / "solutions.ipynb", "wrong")


def test_every_exercise_has_its_cells(folder: Path) -> None:
    assert tagged_ids(folder / "exercises.ipynb", "exercise") == IDS
    assert tagged_ids(folder / "solutions.ipynb", "solution") == IDS
    assert tagged_ids(folder / "solutions.ipynb", "wrong") == IDS
    assert list(REASONS) == IDS


@pytest.mark.parametrize("exercise_id", IDS)
def test_solution_passes(exercise_id: str, solutions: dict[str, list]) -> None:
    assert solutions[exercise_id]
    assert [result for result in solutions[exercise_id] if not result.passed] == []


@pytest.mark.parametrize("exercise_id", IDS)
def test_untouched_exercise_fails(exercise_id: str, blanks: dict[str, list]) -> None:
    assert [result.passed for result in blanks[exercise_id]] == [False]
    assert "cannot judge" not in blanks[exercise_id][0].reason


@pytest.mark.parametrize("exercise_id", IDS)
def test_wrong_ways_get_their_reason(exercise_id: str, wrong_ways: dict[str, list]) -> None:
    results, reasons = wrong_ways[exercise_id], REASONS[exercise_id]
    assert len(results) == len(reasons) >= 3
    for result, reason in zip(results, reasons, strict=True):
        assert result.verdict == "wrong"
        assert reason in result.reason


@pytest.mark.parametrize("exercise_id", IDS)
@pytest.mark.parametrize("answer", [None, ..., "text", object(), [], lambda: 1 / 0, {}])
def test_nonsense_is_a_message(exercise_id: str, answer: object) -> None:
    result = check(exercise_id, answer)
    assert not result.passed
    assert "cannot judge" not in result.reason


@pytest.mark.parametrize("turned", [False, True])
def test_rotated_iou_is_opencv_s(turned: bool) -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        boxes = generator.uniform([0, 0, 4, 4, -90], [10, 10, 15, 15, 90], (2, 5))
        boxes[:, 4] *= turned
        a, b = ((box[:2], box[2:4], box[4]) for box in boxes.tolist())
        _, points = cv2.rotatedRectangleIntersection(a, b)
        shared = 0.0 if points is None else cv2.contourArea(cv2.convexHull(points))
        union = boxes[:, 2:4].prod(axis=1).sum() - shared
        ours = rotated_iou(*torch.from_numpy(boxes))
        assert ours == pytest.approx(shared / union, abs=2e-4)  # OpenCV's are float32
