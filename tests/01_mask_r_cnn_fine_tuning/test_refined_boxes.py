"""Boxes after training: the second look, the vote, the outline of the mask."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import fasterrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image
from torchvision.ops import box_iou, masks_to_boxes

import refined_boxes
from refined_boxes import RefinedBoxes, outline_boxes, vote

SIZE = (240, 320)
TRUTH = torch.tensor([60.0, 50.0, 120.0, 190.0])


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    return torch.cat([corner, corner + 20 + torch.rand(count, 2, generator=generator) * 60], 1)


@pytest.mark.parametrize("seed", range(20))
def test_vote_against_a_loop(seed):
    boxes, generator = random_boxes(40, seed), torch.Generator().manual_seed(seed)
    scores = torch.rand(40, generator=generator) + 0.01
    labels = torch.randint(1, 4, (40,), generator=generator)
    kept = torch.randperm(40, generator=generator)[:7]
    for row, found in zip(kept.tolist(), vote(boxes, scores, labels, kept), strict=True):
        total, weight = torch.zeros(4), 0.0
        for box, score, label in zip(boxes, scores, labels, strict=True):
            overlap = box_iou(box[None], boxes[row][None]).item()
            if label == labels[row] and overlap >= refined_boxes.VOTE_IOU:
                total, weight = total + score * box, weight + score
        torch.testing.assert_close(found, total / weight)


def drawn(box: torch.Tensor, frame: torch.Tensor, side: int = 28) -> torch.Tensor:
    """Return (side, side): the share of each cell of the frame that the box covers."""

    def covered(low: float, high: float, start: float, end: float) -> torch.Tensor:
        edges = torch.linspace(start, end, side + 1)
        inside = edges[1:].clamp(low, high) - edges[:-1].clamp(low, high)
        return inside / (edges[1] - edges[0])

    x1, y1, x2, y2 = box.tolist()
    left, top, right, bottom = frame.tolist()
    return covered(y1, y2, top, bottom)[:, None] * covered(x1, x2, left, right)


@pytest.mark.parametrize("seed", range(10))
def test_outline_of_rectangles(seed):
    generator = torch.Generator().manual_seed(seed)
    frame = torch.tensor([-20.0, 10.0, 80.0, 210.0])
    middle, half = torch.tensor([30.0, 110.0]), torch.rand(2, generator=generator) * 20 + 25
    middle = middle + torch.rand(2, generator=generator) * 4
    box = torch.cat([middle - half, middle + half])
    found, seen = outline_boxes(drawn(box, frame)[None], frame[None])
    assert seen.all()
    cell = (frame[2:] - frame[:2]) / 28
    assert ((found[0] - box).abs() / cell.repeat(2)).max() < 0.2
    whole = torch.cat([frame[:2] + 3 * cell, frame[:2] + 20 * cell])  # along the cells' edges
    torch.testing.assert_close(outline_boxes(drawn(whole, frame)[None], frame[None])[0][0], whole)


def test_outline_of_blobs_against_torchvisions_paste():
    """torchvision enlarges a mask between its cells' centres, and rounds frames to whole pixels."""
    torch.manual_seed(0)
    noise = nn.functional.avg_pool2d(torch.randn(12, 1, 36, 36), 9, 1) * 9
    masks = (noise - 0.5).sigmoid()
    frames = torch.tensor([[40.0, 60.0, 600.0, 900.0]]).repeat(12, 1)
    pasted = paste_masks_in_image(masks, frames, (960, 640))[:, 0] >= 0.5
    expected = masks_to_boxes(pasted) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    found, seen = outline_boxes(masks[:, 0], frames)
    assert seen.all()
    cell = torch.tensor([20.0, 30.0, 20.0, 30.0])
    assert ((found - expected).abs() / cell).max() < 0.25


def test_empty_mask_has_no_outline():
    frames = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(2, 1)
    masks = torch.stack([torch.full((28, 28), 0.4), torch.ones(28, 28)])
    found, seen = outline_boxes(masks, frames)
    assert seen.tolist() == [False, True]
    torch.testing.assert_close(found[1], frames[1])
    assert outline_boxes(masks[:0], frames[:0])[0].shape == (0, 4)


class Toy(nn.Module):
    """Heads that know where TRUTH is: each box goes half the way, each mask shows it exactly."""

    def __init__(self, coder) -> None:
        super().__init__()
        self.coder = coder

    def corrections(self, boxes):
        half = self.coder.encode([TRUTH.expand(len(boxes), 4)], [boxes])[0] / 2
        logits = torch.tensor([0.0, 3.0]).expand(len(boxes), 2)
        return logits, torch.cat([torch.zeros_like(half), half], 1)

    def masks(self, frames):
        shown = [drawn(TRUTH, frame) for frame in frames]
        shown = torch.stack(shown) if shown else torch.zeros(0, 28, 28)
        return torch.stack([-torch.ones_like(shown), torch.logit(shown, 1e-3)], 1)


def toy_heads(monkeypatch, masks: bool) -> RoIHeads:
    """torchvision's second stage around `Toy`: the features of a box are its corners."""
    torch.manual_seed(0)
    heads = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2).roi_heads
    toy = Toy(heads.box_coder)
    corners = lambda _features, boxes, _sizes: torch.cat(boxes)  # noqa: E731
    for name in ("box_roi_pool", "mask_roi_pool"):
        monkeypatch.setattr(heads, name, Called(corners) if masks or "box" in name else None)
    for name in ("box_head", "mask_head"):
        monkeypatch.setattr(heads, name, Called(lambda one: one))
    monkeypatch.setattr(heads, "box_predictor", Called(toy.corrections))
    monkeypatch.setattr(heads, "mask_predictor", Called(toy.masks) if masks else None)
    return heads.eval()


class Called(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def answered(heads: RoIHeads, offsets: torch.Tensor) -> torch.Tensor:
    """Return how far each corner of the one box that is found lies from TRUTH."""
    (found,), losses = heads({}, [TRUTH + offsets], [SIZE])
    assert losses == {}
    assert [len(found[name]) for name in ("boxes", "scores", "labels")] == [1, 1, 1]
    return found["boxes"][0] - TRUTH


def test_second_look_and_vote_by_hand(monkeypatch):
    """A look halves the error. The mean of two looks at two proposals has 3/8 of their mean's."""
    heads = toy_heads(monkeypatch, masks=False)
    offsets = torch.tensor([[9.0, 12, 9, 12], [-8, -9, 5, 14]])
    assert answered(heads, offsets).abs().max() == pytest.approx(6, abs=0.1)
    heads.__class__ = RefinedBoxes
    expected = offsets.mean(0) * 3 / 8
    torch.testing.assert_close(answered(heads, offsets), expected, rtol=0, atol=0.15)


def test_outline_brings_the_box_nearer(monkeypatch):
    heads = toy_heads(monkeypatch, masks=True)
    heads.__class__ = RefinedBoxes
    offsets = torch.tensor([[9.0, 12, 9, 12]])
    refined = answered(heads, offsets)
    monkeypatch.setattr(refined_boxes, "OUTLINE_SHARE", 0.0)
    assert refined.abs().max() < 0.6 * answered(heads, offsets).abs().max()


def test_final_masks_fit_the_final_boxes(monkeypatch):
    heads = toy_heads(monkeypatch, masks=True)
    heads.__class__ = RefinedBoxes
    (found,), _ = heads({}, [TRUTH[None] + 6], [SIZE])
    pasted = paste_masks_in_image(found["masks"], found["boxes"], SIZE)[:, 0] >= 0.5
    inner = masks_to_boxes(pasted)[0] + torch.tensor([0.0, 0, 1, 1])
    assert (inner - TRUTH).abs().max() <= 2


def test_it_learns_as_torchvisions_class(tiny_detector, batch):
    losses = []
    for kind in (RefinedBoxes, RoIHeads):
        model = tiny_detector().train()
        assert isinstance(model.roi_heads, RefinedBoxes)
        model.roi_heads.__class__ = kind
        torch.manual_seed(1)
        losses.append(model(*batch))
    assert {k: v.item() for k, v in losses[0].items()} == {
        k: v.item() for k, v in losses[1].items()
    }


@pytest.mark.parametrize("task", ["masks", "boxes"])
def test_pictures_are_answered_one_by_one_and_boxes_stay_inside(tiny_detector, batch, task):
    model = tiny_detector(task, num_classes=4).eval()
    with torch.no_grad():
        together = model(batch[0])
        alone = [model([image])[0] for image in batch[0]]
    for one, other in zip(together, alone, strict=True):
        assert len(one["boxes"])
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-3)
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= torch.tensor([96.0, 72.0, 96.0, 72.0])).all()
        assert set(one["labels"].tolist()) <= {1, 2, 3}


def test_nothing_found(tiny_detector, batch):
    model = tiny_detector(box_score_thresh=1.0).eval()
    with torch.no_grad():
        found = model(batch[0])
    for one in found:
        shapes = {name: tuple(value.shape) for name, value in one.items()}
        assert shapes == {
            "boxes": (0, 4),
            "labels": (0,),
            "scores": (0,),
            "masks": (0, 1, 72, 96),
        }
