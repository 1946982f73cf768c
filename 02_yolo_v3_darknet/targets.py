"""Which prediction answers for which object: the training targets of YOLOv3.

A network of three outputs at 416 x 416 makes 10,647 predictions, and a photo holds a few objects.
The rule of the paper (section 2.1, last paragraphs), for each object:

1. Of all anchors of all outputs, the one whose shape overlaps the object's shape best (both moved
   to one centre) is responsible, in the one cell that holds the object's centre. This prediction
   learns the box, the class and objectness 1.
2. A prediction that overlaps some object well (IoU above the ignore threshold) without being
   responsible is ignored: it is not wrong enough to be punished.
3. All others learn objectness 0.

One option widens step 1. With `positive_iou`, every anchor whose shape overlaps the object's by
more is responsible too: more predictions learn from each object.

Deviations from Darknet: an object is matched with the anchors that some output uses, also where
the masks leave anchors out (Darknet then drops the object); a centre on the right or lower edge
of the photo counts to the last cell; an object at x = 0 does not end the list of objects.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from anchors import shape_iou
from boxes import cxcywh_to_xyxy, decode_fractions
from darknet.cfg import Yolo


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What the predictions of one [yolo] output should say. P of them are responsible.

    Attributes:
        image_index, anchor, row, column: int64 (P,), the place in the map (B, A, H, W); no place
            comes twice.
        object_index: int64 (P,), the row of `targets` that gives the box. Where several objects
            want one place, the last one gets it, as in Darknet.
        boxes_cxcywh: float32 (P, 4), fractions of the network's input.
        class_targets: float32 (P, C), 0 or 1; several ones where objects share a place.
        ignored: bool (B, A, H, W), predictions without an objectness loss.
    """

    image_index: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    object_index: Tensor
    boxes_cxcywh: Tensor
    class_targets: Tensor
    ignored: Tensor

    @property
    def place(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The index of the responsible predictions into a map (B, A, H, W, ...)."""
        return self.image_index, self.anchor, self.row, self.column


@dataclasses.dataclass(frozen=True)
class Claims:
    """Objects that want a place; N of them, places may come twice. `priority` 1 beats 0."""

    object_index: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    priority: Tensor
    order: Tensor  # within one priority, the highest wins


def match_anchors(
    sizes_wh: Tensor, blocks: Sequence[Yolo], positive_iou: float | None = None
) -> tuple[Tensor, Tensor]:
    """Compare the shapes of objects with the anchors of all outputs.

    Args:
        sizes_wh: (M, 2), widths and heights in pixels of the network's input.
        blocks: the [yolo] blocks; K anchors together.
        positive_iou: see the module's text.

    Returns:
        Two bool tensors (M, K), columns output by output: the best anchor of each object (the
        first in the cfg's list of anchors among equals), and all responsible ones.
    """
    used = [pair for block in blocks for pair in zip(block.mask, block.anchors_wh, strict=True)]
    iou = shape_iou(sizes_wh, sizes_wh.new_tensor([wh for _, wh in used]))  # (M, K)
    in_file_order = sorted(range(len(used)), key=lambda k: used[k][0])
    order = torch.tensor(in_file_order, device=sizes_wh.device)
    best = torch.zeros_like(iou, dtype=torch.bool)
    best.scatter_(1, order[iou[:, order].argmax(dim=1)][:, None], True)
    return best, best if positive_iou is None else best | (iou > positive_iou)


def build_targets(
    outputs: Sequence[Tensor],
    blocks: Sequence[Yolo],
    targets: Tensor,
    input_size: tuple[int, int],
    *,
    positive_iou: float | None = None,
    ignore_thresholds: Sequence[float],
    truth_thresholds: Sequence[float],
) -> list[Assignment]:
    """Assign the objects of a batch to the predictions of each output.

    Args:
        outputs: raw maps float32 (B, A * (5 + C), H, W), as `Darknet.forward` returns them; what
            they predict decides what is ignored.
        blocks: the [yolo] blocks they belong to.
        targets: float32 (M, 6): image index, class index, then centre x, centre y, width, height
            as fractions of the input; M may be 0.
        input_size: (height, width) of the network's input in pixels.
        positive_iou: see the module's text.
        ignore_thresholds: one for each output.
        truth_thresholds: one for each output. A prediction that overlaps an object by more is
            responsible as well; Darknet's cfg files set it to 1, which is never.

    Returns:
        One `Assignment` for each output.
    """
    size = targets.new_tensor((input_size[1], input_size[0]))
    best, chosen = match_anchors(targets[:, 4:6] * size, blocks, positive_iou)
    assignments, start = [], 0
    for raw, block, ignore, truth in zip(
        outputs, blocks, ignore_thresholds, truth_thresholds, strict=True
    ):
        mine = slice(start, start + len(block.mask))
        start += len(block.mask)
        claims = [claim_cells(targets, best[:, mine], chosen[:, mine], raw.shape[2:])]
        cells = raw.detach().unflatten(1, (len(block.mask), -1)).permute(0, 1, 3, 4, 2)
        overlap, nearest = best_overlap(decode_fractions(cells, block, input_size), targets)
        if truth < 1:
            claims.append(claim_overlaps(overlap, nearest, truth))
        assignments.append(settle(claims, targets, block.classes, overlap > ignore))
    return assignments


def claim_cells(targets: Tensor, best: Tensor, chosen: Tensor, grid: tuple[int, int]) -> Claims:
    """The places that objects want in one output of `grid` (rows, columns) cells.

    Args:
        targets: (M, 6), see `build_targets`.
        best, chosen: bool (M, A), see `match_anchors`.
    """
    H, W = grid
    object_index, anchor = chosen.nonzero(as_tuple=True)  # (N,)
    edge = targets.new_tensor((W, H))
    cell = (targets[object_index, 2:4] * edge).floor()  # (N, 2), x first
    column, row = torch.minimum(cell, edge - 1).long().unbind(dim=1)  # centres on the far edge
    priority = best[object_index, anchor].long()
    return Claims(object_index, anchor, row, column, priority, object_index + 1)


def claim_overlaps(overlap: Tensor, nearest: Tensor, truth_threshold: float) -> Claims:
    """The places whose predictions overlap an object by more than `truth_threshold`.

    Args:
        overlap, nearest: (B, A, H, W), see `best_overlap`.
    """
    place = (overlap > truth_threshold).nonzero(as_tuple=True)
    _, anchor, row, column = place
    one = torch.ones_like(anchor)
    return Claims(nearest[place], anchor, row, column, one, torch.zeros_like(one))


def settle(claims: Sequence[Claims], targets: Tensor, classes: int, ignored: Tensor) -> Assignment:
    """Give each place to one object: higher priority first, then the later object.

    Claims of the same priority share their classes (Darknet adds them up); those of a lower one
    are dropped.
    """
    names = [field.name for field in dataclasses.fields(Claims)]
    object_index, anchor, row, column, priority, order = (
        torch.cat([getattr(claim, name) for claim in claims]) for name in names
    )
    image = targets[:, 0].long()[object_index]
    _, A, H, W = ignored.shape
    places, slot = (((image * A + anchor) * H + row) * W + column).unique(return_inverse=True)
    rank = priority * (len(targets) + 1) + order
    top = rank.new_zeros(len(places)).scatter_reduce(0, slot, rank, "amax", include_self=False)
    wins = (rank == top[slot]).nonzero().squeeze(1)
    winner = torch.empty_like(top)
    winner[slot[wins]] = wins
    shares = priority == priority[winner][slot]
    labels = targets[:, 1].long()[object_index]
    class_targets = targets.new_zeros(len(places), classes)
    class_targets[slot[shares], labels[shares]] = 1
    return Assignment(
        *(part[winner] for part in (image, anchor, row, column, object_index)),
        targets[object_index[winner], 2:6],
        class_targets,
        ignored,
    )


def best_overlap(boxes_cxcywh: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compare each predicted box with all objects of its photo.

    Args:
        boxes_cxcywh: (B, A, H, W, 4), fractions of the input.
        targets: (M, 6), see `build_targets`.

    Returns:
        The largest IoU (B, A, H, W), 0 where a photo has no object, and the row of `targets` that
        has it, int64 (B, A, H, W).
    """
    overlap = boxes_cxcywh.new_zeros(boxes_cxcywh.shape[:-1])
    nearest = torch.zeros_like(overlap, dtype=torch.long)
    for number, boxes in enumerate(boxes_cxcywh):
        rows = (targets[:, 0] == number).nonzero().squeeze(1)  # (T,)
        if len(rows):
            objects_xyxy = cxcywh_to_xyxy(targets[rows, 2:6])
            iou = box_iou(cxcywh_to_xyxy(boxes.reshape(-1, 4)), objects_xyxy)  # (A * H * W, T)
            best, index = iou.max(dim=1)
            overlap[number] = best.view(overlap.shape[1:])
            nearest[number] = rows[index].view(overlap.shape[1:])
    return overlap, nearest
