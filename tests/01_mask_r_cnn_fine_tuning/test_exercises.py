"""The exercises: solutions pass, blanks do not, and usual wrong ways get their reason."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import InterpolationMode, functional

from common.street.scenes import write_dataset
from exercises import five_classes as five_class_checks
from exercises.checks import check
from exercises.detector import HEIGHT, WIDTH, count_anchors, small_body, small_detector
from exercises.own_folder import as_xywh
from exercises.targets import boxes_of, enlarge, flipped_by_torchvision, random_masks
from notebook_suite import ExerciseSuite, NotebookSuite


class TestNotebooks(NotebookSuite):
    pass


class TestExercises(ExerciseSuite):
    """Every exercise of the lesson."""

    REASONS: ClassVar = {
        "01.1": ["behind the last pixel", "x and y are swapped", "two corners", "your code raises"],
        "01.2": [
            "the masks stay where they were",
            "negative width",
            "one pixel off",
            "changes its argument target in place",
        ],
        "01.3": [
            "a cubic curve mixes too",
            "the whole map is repeated",
            "only the width has grown",
            "have lost their numbers",
        ],
        "01.4": ["rounds up", "stride 4 has no anchors", "one anchor per ratio", "rows come first"],
        "01.5": [
            "1 scores for 1 class of yours: the background is a class too",
            "the mask head draws 2 masks",
            "the box head gives 4 corrections",
            "not the old ones",
        ],
        "01.6": [
            "scale and shift are frozen, but",
            "that undoes eval()",
            "the stored statistics stand still, but",
            "the convolutions are frozen too",
        ],
        "01.7": [
            "rows and columns are swapped",
            "also where nothing is",
            "also by those that were missed",
            "findings where nothing is",
        ],
        "01.8": [
            "as if all labels were ones",
            "no box is ever called background",
            "5 outputs: the background is a class too",
            "AP50 is",
        ],
        "01.9": [
            "all labels are 1",
            "0 is the background",
            "the folder has 4 pictures",
            "x, y, width, height",
            "the reader refuses the labels",
        ],
    }


def test_boxes_are_torchvision_s() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        masks = random_masks(generator, 3, 6, 8)
        expected = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
        assert torch.equal(boxes_of(masks), expected)


def test_enlarged_map_is_torchvision_s() -> None:
    numbers = torch.randint(0, 9, (5, 7), dtype=torch.uint8)
    for factor in (1, 2, 3, 5):
        size = [5 * factor, 7 * factor]
        nearest = functional.resize(numbers[None], size, InterpolationMode.NEAREST)[0]
        assert torch.equal(enlarge(numbers, factor), nearest)


def test_flipped_boxes_are_those_of_the_flipped_masks() -> None:
    masks = random_masks(np.random.default_rng(0), 20, 6, 8)
    target = {"boxes": boxes_of(masks), "labels": torch.ones(20), "masks": masks}
    _, flipped = flipped_by_torchvision(torch.zeros(3, 6, 8), target)
    assert torch.equal(flipped["boxes"], boxes_of(flipped["masks"]))
    assert not torch.equal(flipped["boxes"], target["boxes"])


def test_anchors_are_counted_as_the_detector_makes_them() -> None:
    model, seen = small_detector(), []
    model.transform.min_size = (HEIGHT,)  # the picture's own size, as in training
    hook = model.rpn.anchor_generator.register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        model([torch.zeros(3, HEIGHT, WIDTH)])
    hook.remove()
    assert len(seen[0][0]) == count_anchors()[2]


def test_small_body_is_sensitive_to_each_frozen_layer() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = small_body().eval()(images)
    layers = [one for one in small_body().modules() if isinstance(one, nn.BatchNorm2d)]
    for number in range(len(layers)):
        body = small_body().eval()
        [one for one in body.modules() if isinstance(one, nn.BatchNorm2d)][number].train()
        assert not torch.allclose(body(images), expected, atol=1e-3)


def test_perfect_scores_reach_the_asked_ap_and_guesses_do_not() -> None:
    labels = five_class_checks.boxes_in_scenes(five_class_checks.TEST_SCENES)["labels"]
    perfect = 20 * nn.functional.one_hot(labels, 6).float()
    assert five_class_checks.measure_ap50(perfect) > 0.9 > five_class_checks.ASKED_AP50
    torch.manual_seed(0)
    assert five_class_checks.measure_ap50(torch.randn(len(labels), 6)) < 0.25


class Items:
    """A dataset of given items."""

    def __init__(self, items: list) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], "0 items"),
        ([3] * 5, "expected are an image"),
        ([(torch.zeros(3, 9, 9), {"labels": [], "boxes": []})] * 5, "9 rows and 9 columns"),
        ([(torch.zeros(3, 120, 160), {"labels": [1], "boxes": torch.ones(1, 4)})] * 5, "the label"),
    ],
)
def test_datasets_that_are_none(tmp_path: Path, items: list, reason: str) -> None:
    folder = write_dataset(tmp_path / "five", range(5), 160, 120, progress=False)
    assert reason in check("01.9", (folder, Items(items))).reason


def test_folders_that_are_none(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "five", range(5), 160, 120, progress=False)
    pictures = sorted((folder / "PNGImages").iterdir())
    pictures[1].write_bytes(pictures[0].read_bytes())
    assert "are equal" in check("01.9", (folder, Items([]))).reason
    assert "does not exist" in check("01.9", (tmp_path / "none", Items([]))).reason
    assert str(tmp_path) not in check("01.9", (tmp_path / "none", Items([]))).reason
    assert "expected is its path" in check("01.9", (3, Items([]))).reason
    assert "no length" in check("01.9", (folder, 3)).reason
    assert "the dataset is still blank" in check("01.9", (folder, ...)).reason


def test_boxes_as_sizes() -> None:
    assert as_xywh(torch.tensor([[2.0, 3, 7, 5]])).tolist() == [[2, 3, 5, 2]]
