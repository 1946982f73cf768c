"""Which prediction answers for which object: the training targets of YOLOv3.

A network of three outputs at 416 x 416 makes 10,647 predictions, and a photo holds a few objects.
The rule of the paper (section 2.1, last paragraphs), for each object:

1. Of all anchors of all outputs, the one whose shape overlaps the object's shape best (both moved
   to one centre) is responsible, in the one cell that holds the object's centre. This prediction
   learns the box, the class and objectness 1.
2. A prediction that overlaps some object well (IoU above the ignore threshold) without being
   responsible is ignored: it is not wrong enough to be punished.
3. All others learn objectness 0.

Two options widen step 1. With `positive_iou`, every anchor whose shape overlaps the object's by
more is responsible too: more predictions learn from each object. With `neighbours`, so are the
cells beside the centre's, as far as `scale_x_y` lets their boxes reach the centre.

Deviations from Darknet: an object is matched with the anchors that some output uses, also where
the masks leave anchors out (Darknet then drops the object); a centre on the right or lower edge
of the photo counts to the last cell; an object at x = 0 does not end the list of objects.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from anchors import shape_iou
from darknet.cfg import Yolo

MAX_SIZE_LOGIT = 10.0  # exp(10) is 22,026 anchors wide: nothing real, and no overflow or zero
NEIGHBOURHOOD = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # (columns, rows) from the own cell


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


def decode_cells(
    values: Tensor, corner: Tensor, anchors_wh: Tensor, scale_x_y: float
) -> tuple[Tensor, Tensor]:
    """Centre (..., 2) in cells and size (..., 2) in pixels, from raw tx, ty, tw, th (..., 4).

    The equations are those of `boxes.decode`. `corner` is the (column, row) of each prediction's
    cell and `anchors_wh` its anchor, (..., 2) each.
    """
    centre = corner + scale_x_y * values[..., :2].sigmoid() - (scale_x_y - 1) / 2
    return centre, anchors_wh * values[..., 2:4].clamp(-MAX_SIZE_LOGIT, MAX_SIZE_LOGIT).exp()


def decode_fractions(cells: Tensor, block: Yolo, input_size: tuple[int, int]) -> Tensor:
    """Boxes of all predictions of one output.

    Args:
        cells: (B, A, H, W, 4 or more), the raw values tx, ty, tw, th first.
        block: the [yolo] block.
        input_size: (height, width) of the network's input in pixels.

    Returns:
        (B, A, H, W, 4): centre x, centre y, width, height, as fractions of the input.
    """
    H, W = cells.shape[2:4]
    columns, rows = (torch.arange(side, device=cells.device) for side in (W, H))
    corner = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # (H, W, 2)
    anchors = cells.new_tensor(block.anchors_wh)[:, None, None]  # (A, 1, 1, 2)
    centre, size = decode_cells(cells, corner, anchors, block.scale_x_y)
    pixels = cells.new_tensor((input_size[1], input_size[0]))
    return torch.cat((centre / cells.new_tensor((W, H)), size / pixels), dim=-1)


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
    neighbours: bool = False,
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
        positive_iou, neighbours: see the module's text.
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
        reach = (block.scale_x_y - 1) / 2 if neighbours else 0.0
        claims = [claim_cells(targets, best[:, mine], chosen[:, mine], raw.shape[2:], reach)]
        cells = raw.detach().unflatten(1, (len(block.mask), -1)).permute(0, 1, 3, 4, 2)
        overlap, nearest = best_overlap(decode_fractions(cells, block, input_size), targets)
        if truth < 1:
            claims.append(claim_overlaps(overlap, nearest, truth))
        assignments.append(settle(claims, targets, block.classes, overlap > ignore))
    return assignments


def claim_cells(
    targets: Tensor, best: Tensor, chosen: Tensor, grid: tuple[int, int], reach: float
) -> Claims:
    """The places that objects want in one output of `grid` (rows, columns) cells.

    Args:
        targets: (M, 6), see `build_targets`.
        best, chosen: bool (M, A), see `match_anchors`.
        reach: how far, in cells, a box's centre may lie outside the cell that predicts it; with
            0 only the cell that holds the centre is wanted.
    """
    H, W = grid
    object_index, anchor = chosen.nonzero(as_tuple=True)  # (N,)
    edge = targets.new_tensor((W, H))
    centre = targets[object_index, 2:4] * edge  # (N, 2), in cells, x first
    own = torch.minimum(centre.floor(), edge - 1)
    steps = targets.new_tensor(NEIGHBOURHOOD[: 5 if reach > 0 else 1])  # (S, 2)
    cells = own[:, None] + steps  # (N, S, 2)
    offset = centre[:, None] - cells
    wanted = ((offset > -reach) & (offset < 1 + reach) & (cells >= 0) & (cells < edge)).all(dim=-1)
    wanted[:, 0] = True  # the own cell, also for a centre on the right or lower edge
    which, step = wanted.nonzero(as_tuple=True)
    column, row = cells[which, step].long().unbind(dim=1)
    object_index, anchor = object_index[which], anchor[which]
    priority = (best[object_index, anchor] & (step == 0)).long()
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
    shape, B = boxes_cxcywh.shape[:-1], len(boxes_cxcywh)
    if not len(targets):
        return boxes_cxcywh.new_zeros(shape), torch.zeros(
            shape, dtype=torch.long, device=boxes_cxcywh.device
        )
    truth_cxcywh, rows = _by_photo(targets, B)  # (B, T, 4), (B, T)
    x1, y1, x2, y2 = _edges(boxes_cxcywh.reshape(B, -1, 1, 4))  # (B, N, 1)
    u1, v1, u2, v2 = _edges(truth_cxcywh[:, None])  # (B, 1, T)
    shared = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp_(min=0)  # (B, N, T)
    shared *= (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp_(min=0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    overlap, index = (shared / union.clamp_(min=1e-12)).max(dim=2)
    return overlap.view(shape), rows.gather(1, index).view(shape)


def _by_photo(targets: Tensor, photos: int) -> tuple[Tensor, Tensor]:
    """Boxes (B, T, 4) photo by photo, filled up with boxes of no size, and their rows (B, T)."""
    image, order = targets[:, 0].long().sort(stable=True)
    counts = image.bincount(minlength=photos)
    first = counts.cumsum(0) - counts
    number = torch.arange(len(targets), device=targets.device) - first[image]
    boxes_cxcywh = targets.new_zeros(photos, int(counts.max()), 4)
    boxes_cxcywh[image, number] = targets[order, 2:6]
    rows = torch.zeros(boxes_cxcywh.shape[:2], dtype=torch.long, device=targets.device)
    rows[image, number] = order
    return boxes_cxcywh, rows


def _edges(boxes_cxcywh: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
