"""Better boxes from the same heads: a second look, a vote, and the outline of the mask.

Minutes of training teach a box head to find people, and to enclose them roughly. What follows
needs no training. The second look and the vote are the "iterative localization" and the "bounding
box voting" of Gidaris and Komodakis, 2015: https://arxiv.org/abs/1505.01749
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

VOTE_IOU = 0.65  # boxes that overlap at least so much are of one object, and are averaged
FRAME_SCALE = 1.2  # the mask head looks for an outline in a frame so much larger than the box
OUTLINE_SHARE = 0.6  # of the outline in the final box; the rest is the box head's
MASK_THRESHOLD = 0.5

Sizes = list[tuple[int, int]]  # of each picture: (height, width) in pixels


class RefinedBoxes(RoIHeads):
    """torchvision's second stage, which learns as ever, and answers with refined boxes.

    1. A second look: boxes that the box head has corrected are given to it as proposals.
    2. A vote: each box that non-maximum suppression keeps becomes the mean of the boxes around it.
    3. With masks: the box is moved towards the outline of the mask that is drawn around it.
    """

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: Sizes,
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return (detections, losses), as torchvision's class does."""
        if self.training:
            return super().forward(features, proposals, image_shapes, targets)
        found = self._first_look(features, proposals, image_shapes)
        found = self._second_look(features, found, image_shapes)
        detections = [self._kept(*one) for one in found]
        if self.has_mask():
            self._add_masks(features, detections, image_shapes)
        return detections, {}

    def _first_look(
        self, features: dict[str, Tensor], proposals: list[Tensor], sizes: Sizes
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return boxes (N, 4), scores (N,), labels (N,) of all that may be an object."""
        found = []
        for scores, boxes in self._looked(features, proposals, sizes):
            row, label = torch.where(scores[:, 1:] > self.score_thresh)
            found.append((boxes[row, label + 1], scores[row, label + 1], label + 1))
        return found

    def _second_look(
        self,
        features: dict[str, Tensor],
        found: list[tuple[Tensor, Tensor, Tensor]],
        sizes: Sizes,
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Add to what was found the same, corrected once more: twice as many rows."""
        looked = self._looked(features, [boxes for boxes, _, _ in found], sizes)
        both = []
        for (boxes, scores, labels), (scores_again, boxes_again) in zip(found, looked, strict=True):
            row = torch.arange(len(labels), device=labels.device)
            again = boxes_again[row, labels], scores_again[row, labels]
            both.append(
                (torch.cat([boxes, again[0]]), torch.cat([scores, again[1]]), labels.repeat(2))
            )
        return both

    def _looked(
        self, features: dict[str, Tensor], boxes: list[Tensor], sizes: Sizes
    ) -> list[tuple[Tensor, Tensor]]:
        """Return scores (N, C) and corrected boxes (N, C, 4) of each picture, for all classes."""
        counts = [len(one) for one in boxes]
        logits, corrections = self.box_predictor(
            self.box_head(self.box_roi_pool(features, boxes, sizes))
        )
        corrected = self.box_coder.decode(corrections, boxes).reshape(*logits.shape, 4)
        scores = logits.softmax(-1).split(counts)
        corrected = [
            clip_boxes_to_image(one, size)
            for one, size in zip(corrected.split(counts), sizes, strict=True)
        ]
        return list(zip(scores, corrected, strict=True))

    def _kept(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        sound = remove_small_boxes(boxes, min_size=1e-2)
        boxes, scores, labels = boxes[sound], scores[sound], labels[sound]
        kept = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
        voted = vote(boxes, scores, labels, kept)
        return {"boxes": voted, "scores": scores[kept], "labels": labels[kept]}

    def _add_masks(
        self, features: dict[str, Tensor], detections: list[dict[str, Tensor]], sizes: Sizes
    ) -> None:
        frames = [_scaled(one["boxes"], FRAME_SCALE) for one in detections]
        drawn = self._masks(features, frames, detections, sizes)
        for one, frame, masks, size in zip(detections, frames, drawn, sizes, strict=True):
            outline, seen = outline_boxes(masks[:, 0], frame)
            share = OUTLINE_SHARE * seen[:, None]
            one["boxes"] = clip_boxes_to_image(torch.lerp(one["boxes"], outline, share), size)
        boxes = [one["boxes"] for one in detections]
        for one, masks in zip(
            detections, self._masks(features, boxes, detections, sizes), strict=True
        ):
            one["masks"] = masks

    def _masks(
        self,
        features: dict[str, Tensor],
        frames: list[Tensor],
        detections: list[dict[str, Tensor]],
        sizes: Sizes,
    ) -> list[Tensor]:
        """Return (N, 1, 28, 28) of each picture, in 0..1: the masks of the labels, in frames."""
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, frames, sizes)))
        return list(maskrcnn_inference(logits, [one["labels"] for one in detections]))


def vote(boxes: Tensor, scores: Tensor, labels: Tensor, kept: Tensor) -> Tensor:
    """Return for each kept box the mean of the boxes of its label around it, weighted by score.

    Args:
        boxes: (N, 4), x1, y1, x2, y2.
        scores: (N,), above 0.
        labels: (N,).
        kept: (K,), rows of the boxes.

    Returns:
        (K, 4).
    """
    near = box_iou(boxes[kept], boxes) >= VOTE_IOU
    weights = (near & (labels[kept][:, None] == labels)) * scores
    return weights @ boxes / weights.sum(1, keepdim=True)


def outline_boxes(masks: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return the boxes that masks fill, to a fraction of a mask's cell.

    Args:
        masks: (N, S, S), in 0..1.
        frames: (N, 4), x1, y1, x2, y2: where each mask lies.

    Returns:
        (N, 4) and (N,) bool: False where no cell of the mask is above 0.5.
    """
    side = masks.shape[-1]
    columns, rows = masks.amax(1), masks.amax(2)  # (N, S)
    first = torch.stack([_first_edge(columns), _first_edge(rows)], 1)
    last = side - torch.stack([_first_edge(columns.flip(1)), _first_edge(rows.flip(1))], 1)
    corner, size = frames[:, :2], frames[:, 2:] - frames[:, :2]
    boxes = torch.cat([corner + first / side * size, corner + last / side * size], 1)
    return boxes, columns.amax(1) > MASK_THRESHOLD


def _first_edge(values: Tensor) -> Tensor:
    """Return (N,): where the rows of (N, S) first rise above the threshold, in cells.

    Between the centres of two cells the values are taken to be linear; before the first they are 0.
    """
    padded = F.pad(values, (1, 0))
    at = (padded > MASK_THRESHOLD).int().argmax(1, keepdim=True).clamp(min=1)
    here, before = padded.gather(1, at), padded.gather(1, at - 1)
    above = (here - MASK_THRESHOLD) / (here - before).clamp(min=1e-6)
    return (at - 0.5 - above)[:, 0]


def _scaled(boxes: Tensor, factor: float) -> Tensor:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    return torch.cat([centre - half, centre + half], 1)
