"""The exercises: solutions pass, blanks do not, and usual wrong ways get their reason."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from boxes import decode, postprocess
from common.checking.sandbox import WrongAnswerError
from darknet.cfg import Yolo
from darknet.network import Darknet
from exercises.boxes import decoded, detections_of, scores_of, wrong_detections
from exercises.checks import check
from exercises.darknet_files import folded
from exercises.learning import responsible, what_is_learned, wrong_objectness, wrong_places
from exercises.loss import loss_of_one, wrong_losses
from exercises.training import checked_folder, load_model
from losses import YoloLoss
from notebook_suite import ExerciseSuite, NotebookSuite
from targets import build_targets


class TestNotebooks(NotebookSuite):
    pass


class TestExercises(ExerciseSuite):
    """Every exercise of the lesson."""

    REASONS: ClassVar = {
        "02.1": [
            "cells: that is the coarsest map",
            "predictions: those are the cells",
            "filters: those are the numbers of one prediction",
            "filters: objectness has no number",
        ],
        "02.2": [
            "filters before output 1: enough for one anchor",
            "filters before output 2: still the old number",
            "filters before output 1: still the old number",
            "not every output has three anchors",
        ],
        "02.3": [
            "seen has 64 bits from version 0.2 on",
            "seen has only 32 bits before version 0.2",
            "the major number counts too",
            "little-endian",
        ],
        "02.4": [
            "by the standard deviation is right",
            "that is PyTorch's epsilon",
            "the mean is not in the new biases",
            "through the scale as well",
            "the channels that come out",
        ],
        "02.5": [
            "they come off before the scale does",
            "both bars came off",
            "the left bar came off y",
            "half a pixel counts",
        ],
        "02.6": [
            "the offset in the cell goes through",
            "the column gives x",
            "not a logistic function",
            "the anchor is already in pixels",
            "asked are two corners",
        ],
        "02.7": [
            "classes do not compete: one box",
            "objectness is a factor",
            "objectness is still raw",
            "not one of the product",
        ],
        "02.8": [
            "a box may be two things at once",
            "classes do not compete: a box suppresses",
            "a box that was dropped drops nothing",
            "the best comes first",
            "a score at the threshold is not above it",
        ],
        "02.9": [
            "row and column are swapped",
            "the fine map has the small anchors",
            "bring both to one unit",
            "the distance in pixels does not decide",
            "among all nine",
        ],
        "02.10": [
            "that is the paper's rule, with its 0.5",
            "that is the paper's rule: Darknet",
            "a prediction that answers learns 1",
            "one below it learns 0",
            "not the mean",
        ],
        "02.11": [
            "small objects count more",
            "fractions of the input, not pixels",
            "not a squared difference",
            "the size has half the squared error",
            "the classes do not compete",
            "the classes that it is not are learned too",
            "without reduction='sum' PyTorch takes the mean",
            "the offset is compared with sigmoid(t), not with the raw t",
            "give it t, in all three terms",
        ],
        "02.12": [
            "holds 4 labelled pictures",
            "is a copy of another picture",
            "is not in fractions",
            "the model finds 0 of your 10 objects",
        ],
    }


@pytest.mark.parametrize("wrong", [(1, 2), ("nowhere", "nowhere"), (".", ...), (None, None)])
def test_odd_folders_are_a_message(wrong: tuple) -> None:
    result = check("02.12", wrong)
    assert not result.passed
    assert "cannot judge" not in result.reason


@pytest.mark.parametrize("text", ["", "no cfg", "[net]\n[yolo]\nclasses=many", "[net]\n[x]\n"])
def test_broken_cfg_is_a_message(text: str) -> None:
    result = check("02.2", lambda cfg_text, num_classes: text)
    assert "the lesson's reader refuses the text: your.cfg" in result.reason


def test_other_lines_of_a_cfg_must_stay() -> None:
    def wider(cfg_text: str, num_classes: int) -> str:
        return cfg_text.replace("filters=16\n", "filters=17\n")

    assert "nothing to do with the classes" in check("02.2", wider).reason


def test_folded_convolution_gives_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    kernels, images = (torch.randn(*n, generator=generator) for n in ((4, 3, 3, 3), (2, 3, 8, 8)))
    scales, biases, means = torch.randn(3, 4, generator=generator)
    variances = torch.rand(4, generator=generator) + 0.1
    before = torch.nn.functional.conv2d(images, kernels)
    wanted = torch.nn.functional.batch_norm(before, means, variances, scales, biases, eps=0.0)
    ours = torch.nn.functional.conv2d(images, *folded(kernels, scales, biases, means, variances))
    assert torch.allclose(ours, wanted, atol=1e-3)


def test_decoded_by_hand() -> None:
    box_xyxy = decoded(torch.zeros(4), 3, 5, torch.tensor([20.0, 40.0]), 32)
    assert box_xyxy.tolist() == [112 - 10, 176 - 20, 112 + 10, 176 + 20]


def test_scores_by_hand() -> None:
    values = torch.tensor([[9.0, 9, 9, 9, 0, 0, 100]])
    assert scores_of(values).tolist() == [[0.25, 0.5]]


def test_detections_are_those_of_the_lesson() -> None:
    generator = torch.Generator().manual_seed(0)
    block = Yolo(line=0, mask=(0, 1), anchors=(60.0, 70.0, 50.0, 80.0), classes=3, num=2)
    raw = torch.randn(1, 16, 4, 4, generator=generator)
    found = decode(raw, block, (128, 128))
    scores = found.objectness[:, None] * found.class_probabilities
    ((boxes_xyxy, best, labels),) = postprocess([raw], [block], (128, 128), 0.25, 0.45)
    number, label = detections_of(found.boxes_xyxy, scores, 0.25, 0.45).unbind(dim=1)
    assert 0 < len(number) < (scores > 0.25).sum()
    assert torch.equal(found.boxes_xyxy[number], boxes_xyxy)
    assert torch.equal(scores[number, label], best)
    assert torch.equal(label, labels)


def test_responsible_by_hand() -> None:
    anchors = torch.tensor([[8.0 * (k + 1), 8.0 * (k + 1)] for k in range(9)])
    for anchor, stride in ((0, 8), (4, 16), (8, 32)):
        side = 8 * (anchor + 1) / 416
        box_cxcywh = torch.tensor([300 / 416, 100 / 416, side, side])
        expected = (anchor, 100 // stride, 300 // stride)
        assert responsible(box_cxcywh, anchors, 416) == expected


def test_what_is_learned_is_what_the_loss_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    block = Yolo(line=0, mask=(0, 1), anchors=(20.0, 30.0, 40.0, 25.0), classes=1, num=2)
    raw = torch.randn(1, 12, 4, 4, generator=generator)
    centre = torch.rand(5, 2, generator=generator)
    size = 0.2 + torch.rand(5, 2, generator=generator) / 3
    targets = torch.cat((torch.zeros(5, 2), centre, size), dim=1)
    thresholds = {"ignore_thresholds": [0.4], "truth_thresholds": [1.0]}
    (found,) = build_targets([raw], [block], targets, (128, 128), **thresholds)
    boxes_xyxy = decode(raw, block, (128, 128)).boxes_xyxy  # row by row, anchors last
    answering = (found.row * 4 + found.column) * 2 + found.anchor
    objects_xyxy = 128 * torch.cat((centre - size / 2, centre + size / 2), dim=1)
    ours = what_is_learned(boxes_xyxy, boxes_xyxy, answering, objects_xyxy, 0.4)
    assert {-1, 0, 1} == set(ours.tolist())
    silent = found.ignored[0].permute(1, 2, 0).flatten()
    silent[answering] = False
    assert (ours == -1).tolist() == silent.tolist()
    assert (ours == 1).nonzero().flatten().tolist() == sorted(set(answering.tolist()))


def test_the_loss_of_one_object_is_that_of_the_lesson(small_detector: dict) -> None:
    model = Darknet(small_detector["cfg"])
    net, classes = model.blocks[0], model.outputs[0].classes
    height, width = net.height, net.width
    outputs = [torch.full_like(raw, -30.0) for raw in model(torch.zeros(1, 3, height, width))]
    targets = torch.tensor([[0, 1, 0.52, 0.41, 0.2, 0.3]])
    assignments = YoloLoss(model).build_targets(outputs, targets, (height, width))
    level, one = next((k, one) for k, one in enumerate(assignments) if len(one.row))
    values = torch.linspace(-1, 2, 5 + classes)
    block, place = model.outputs[level], [index.item() for index in one.place]
    cells = outputs[level].unflatten(1, (len(block.mask), -1))
    cells[0, place[1], :, place[2], place[3]] = values
    terms = YoloLoss(model)(outputs, targets, (height, width))
    grid = torch.tensor(outputs[level].shape[:1:-1])
    offset = targets[0, 2:4] * grid - torch.tensor((place[3], place[2]))
    size = targets[0, 4:] * torch.tensor((width, height))
    anchor = torch.tensor(block.anchors_wh[place[1]])
    ours = loss_of_one(values, offset, size, anchor, width, 1)
    assert width == height
    for number, term in enumerate(("box", "objectness", "class")):  # others: e^-30 each
        assert ours[number].item() == pytest.approx(terms[term].item(), rel=1e-4), term


def test_every_wrong_way_gets_its_own_reason() -> None:
    ways = {
        "02.8": wrong_detections(),
        "02.9": wrong_places(),
        "02.10": wrong_objectness(),
        "02.11": wrong_losses(),
    }
    for exercise_id, reasons in ways.items():
        for reason, way in reasons.items():
            assert check(exercise_id, way).reason.startswith(reason), exercise_id


def test_model_folder_is_examined(tmp_path: Path) -> None:
    with pytest.raises(WrongAnswerError, match=r"model\.cfg, model\.weights, model\.names"):
        load_model(tmp_path, ("a",))
    for kind in ("cfg", "weights", "names"):
        (tmp_path / f"model.{kind}").write_bytes(np.arange(4, dtype=np.uint8).tobytes())
    with pytest.raises(WrongAnswerError, match="the model cannot be loaded: "):
        load_model(tmp_path, ("a",))
    with pytest.raises(WrongAnswerError, match="there is no folder"):
        checked_folder(tmp_path / "none")
