"""Which prediction answers for which object: the training targets of YOLOv3.

A network of three outputs at 416 x 416 makes 10,647 predictions, and a photo holds a few objects.

1. Of all anchors of all outputs, the one whose shape overlaps the object's shape best (both moved
   to one centre) answers for the object, in the one cell that holds the object's centre. This
   prediction learns the box, the class and objectness 1.
2. Some predictions near an object are ignored: they do not answer for it and are not told "nothing
   here" either. The paper (section 2.1) ignores a prior, that is an anchor in its place, that
   overlaps an object by more than 0.5. Darknet's code, and this one, ignores a prediction whose
   predicted box overlaps an object by more than the cfg's `ignore_thresh`, 0.7 in YOLOv3's files.
3. All others learn objectness 0.

That is the published way. Two options add predictions to step 1: `positive_iou` those of every
anchor whose shape overlaps the object's by more, and a `truth_thresh` below 1 in the cfg those
whose predicted box does. Both are off by default.

Deviations from Darknet: an object is matched with the anchors that some output uses, also where
the masks leave anchors out (Darknet then drops the object); a centre on the right or lower edge
of the photo counts to the last cell; an object at x = 0 does not end the list of objects.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from anchors import shape_iou
from boxes import cxcywh_to_xyxy, decode_fractions
from darknet.cfg import Yolo

Place = tuple[int, int, int, int]  # (image, anchor, row, column) in a map (B, A, H, W)
Claim = tuple[int, Place]  # an object, as a row of the targets, and a place that it wants
Owner = tuple[int, set[int]]  # the object that gives a place its box, and the classes there


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What the predictions of one [yolo] output should say. P of them answer for an object.

    Attributes:
        image_index, anchor, row, column: int64 (P,), the place in the map (B, A, H, W); no place
            comes twice.
        object_index: int64 (P,), the row of `targets` that gives the box. Where several objects
            want one place, the last one gets it, as in Darknet.
        boxes_cxcywh: float32 (P, 4), fractions of the network's input.
        class_targets: float32 (P, C), 0 or 1; several ones where objects share a place.
        ignored: bool (B, A, H, W), predictions without an objectness loss, unless they answer.
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
        """The index of the answering predictions into a map (B, A, H, W, ...)."""
        return self.image_index, self.anchor, self.row, self.column


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
        truth_thresholds: one for each output; see the module's text.

    Returns:
        One `Assignment` for each output.
    """
    pixels = targets.new_tensor((input_size[1], input_size[0]))
    best, shape_overlap = match_anchors(targets[:, 4:6] * pixels, blocks)
    labels = targets[:, 1].long().tolist()
    assignments, start = [], 0
    for raw, block, ignore, truth in zip(
        outputs, blocks, ignore_thresholds, truth_thresholds, strict=True
    ):
        mine = slice(start, start + len(block.mask))
        start += len(block.mask)
        cells = raw.detach().unflatten(1, (len(block.mask), -1)).permute(0, 1, 3, 4, 2)
        overlap, nearest = best_overlap(decode_fractions(cells, block, input_size), targets)
        answering = claims_of(best[:, mine], targets, raw.shape[2:])
        if truth < 1:
            answering = [*claims_by_overlap(overlap, nearest, truth), *answering]
        owners = find_owners(answering, labels)
        if positive_iou is not None:
            more = claims_of(shape_overlap[:, mine] > positive_iou, targets, raw.shape[2:])
            owners = find_owners(more, labels) | owners
        assignments.append(assign(owners, targets, block.classes, overlap > ignore))
    return assignments


def match_anchors(sizes_wh: Tensor, blocks: Sequence[Yolo]) -> tuple[Tensor, Tensor]:
    """Compare the shapes of objects with the anchors of all outputs.

    Args:
        sizes_wh: (M, 2), widths and heights in pixels of the network's input.
        blocks: the [yolo] blocks; K anchors together.

    Returns:
        Two tensors (M, K), columns output by output: bool, the best anchor of each object (the
        first in the cfg's list of anchors among equals); and the IoU of the shapes.
    """
    used = [pair for block in blocks for pair in zip(block.mask, block.anchors_wh, strict=True)]
    iou = shape_iou(sizes_wh, sizes_wh.new_tensor([wh for _, wh in used]))  # (M, K)
    in_file_order = sorted(range(len(used)), key=lambda k: used[k][0])
    order = torch.tensor(in_file_order, device=sizes_wh.device)
    best = torch.zeros_like(iou, dtype=torch.bool)
    best.scatter_(1, order[iou[:, order].argmax(dim=1)][:, None], True)
    return best, iou


def claims_of(chosen: Tensor, targets: Tensor, grid: tuple[int, int]) -> list[Claim]:
    """List the places that objects want in one output: their anchors in the cell of their centre.

    Args:
        chosen: bool (M, A), the anchors of each object, see `match_anchors`.
        targets: (M, 6), see `build_targets`.
        grid: (rows, columns) of the output.
    """
    H, W = grid
    number, anchor = chosen.nonzero(as_tuple=True)  # (N,)
    edge = targets.new_tensor((W, H))
    cell = (targets[number, 2:4] * edge).floor()  # (N, 2), x first
    column, row = torch.minimum(cell, edge - 1).long().unbind(dim=1)  # centres on the far edge
    places = torch.stack((targets[number, 0].long(), anchor, row, column), dim=1)
    return list(zip(number.tolist(), map(tuple, places.tolist()), strict=True))


def claims_by_overlap(overlap: Tensor, nearest: Tensor, truth_threshold: float) -> list[Claim]:
    """List the places whose predicted boxes overlap an object by more than `truth_threshold`.

    Args:
        overlap, nearest: (B, A, H, W), see `best_overlap`.
    """
    above = overlap > truth_threshold
    places = map(tuple, above.nonzero().tolist())
    return list(zip(nearest[above].tolist(), places, strict=True))


def find_owners(claims: Iterable[Claim], labels: Sequence[int]) -> dict[Place, Owner]:
    """Give each place to the last object that wants it, with the classes of all who do."""
    owners: dict[Place, Owner] = {}
    for number, place in claims:
        _, classes = owners.get(place, (number, set()))
        owners[place] = number, classes | {labels[number]}
    return owners


def assign(
    owners: Mapping[Place, Owner], targets: Tensor, classes: int, ignored: Tensor
) -> Assignment:
    """Put the owners of one output into tensors, places in ascending order."""
    places = sorted(owners)
    index = torch.tensor(places, dtype=torch.long, device=targets.device).reshape(-1, 4)
    number = index.new_tensor([owners[place][0] for place in places])
    wanted = torch.zeros(len(places), classes)
    for row, place in enumerate(places):
        wanted[row, list(owners[place][1])] = 1
    boxes_cxcywh, class_targets = targets[number, 2:6], wanted.to(targets.device)
    return Assignment(*index.unbind(dim=1), number, boxes_cxcywh, class_targets, ignored)


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
