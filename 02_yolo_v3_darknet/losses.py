"""The training loss of YOLOv3, as Darknet's code has it; the complete IoU at the end is an option.

    loss = box + objectness + class, each a sum over the predictions of a photo

- Objectness and each class are yes-or-no questions: binary cross-entropy (sections 2.1 and 2.2 of
  the paper). Objectness is learnt by all predictions but the ignored ones, classes and box only by
  those that answer for an object; `targets.py` says which these are.
- The box is compared in raw numbers t, with the t* that would decode to the object's box. The
  paper says "sum of squared error" for all four. Darknet's code holds gradients and no loss:
  sigmoid(t) - sigmoid(t*) for the centre, which is the cross-entropy's, and t - t* for the size,
  which is half the squared error's; both times 2 - w * h, so that small objects count more. Here is
  the loss of these gradients.

The sums are divided by the number of photos in the batch, as Darknet divides its learning rate: the
loss of a photo does not depend on its companions.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torchvision.ops import complete_box_iou_loss

from boxes import cxcywh_to_xyxy, decode_cells
from darknet.cfg import DarknetFileError, Yolo
from darknet.network import Darknet
from targets import Assignment, build_targets

TERMS = ("box", "objectness", "class")
BOX_LOSSES = ("darknet", "ciou")
# An object's 1 - CIoU lies near 1 or below, where the objectness of thousands of predictions is
# summed up. On drawn rectangles, AP was 0.27 with a factor of 1, 0.36 with 5 and 0.40 to 0.41 with
# 10 to 40 (two seeds, 250 steps); with 15 and only the best anchor (positive_iou=None) 0.34.
CIOU_FACTOR = 15.0


class YoloLoss(nn.Module):
    """The loss of a network's raw outputs against the objects in the photos.

    Args:
        model: the network; its [yolo] blocks hold anchors, classes, ignore_thresh and truth_thresh.
        box_loss: `darknet`, the published one, or `ciou`.
        positive_iou: every anchor whose shape overlaps an object's by more answers for it as well
            as the best one; None: only the best, as published.

    Raises:
        ValueError: an option that is not allowed, with its value.
        DarknetFileError: the cfg has no [yolo] block, or a threshold in it is no number.
    """

    def __init__(
        self, model: Darknet, *, box_loss: str = "darknet", positive_iou: float | None = None
    ) -> None:
        super().__init__()
        if not model.outputs:
            raise DarknetFileError(f"{model.cfg_path}: has no [yolo] block to train")
        if box_loss not in BOX_LOSSES:
            raise ValueError(f"box_loss must be one of {', '.join(BOX_LOSSES)}, got {box_loss!r}")
        if positive_iou is not None and not 0 <= positive_iou <= 1:
            raise ValueError(f"positive_iou must be from 0 to 1, got {positive_iou}")
        self.blocks, self.box_loss, self.positive_iou = model.outputs, box_loss, positive_iou
        self.ignore_thresholds = _cfg_numbers(model, "ignore_thresh", 0.5)
        self.truth_thresholds = _cfg_numbers(model, "truth_thresh", 1.0)

    def forward(
        self, outputs: list[Tensor], targets: Tensor, input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Compute the loss; all arithmetic is float32, also inside autocast.

        Args:
            outputs: the raw maps (B, A * (5 + C), H, W) that `Darknet.forward` returned, of any
                float dtype.
            targets: float32 (M, 6): image index, class index, then centre x, centre y, width,
                height as fractions (0 to 1) of the network's input, letterbox included; M may
                be 0.
            input_size: (height, width) of the network's input in pixels.

        Returns:
            `box`, `objectness` and `class`: three tensors of shape (), per photo. Their sum is the
            loss.

        Raises:
            ValueError: a target of another shape, outside its range, or not finite; names the row.
        """
        with torch.autocast(outputs[0].device.type, enabled=False):
            outputs = [raw.float() for raw in outputs]
            assignments = self.build_targets(outputs, targets, input_size)
            total = torch.zeros(3, device=outputs[0].device)
            for raw, block, assignment in zip(outputs, self.blocks, assignments, strict=True):
                total = total + torch.stack(self._terms(raw, block, assignment, input_size))
            return dict(zip(TERMS, total / len(outputs[0]), strict=True))

    @torch.no_grad()
    def build_targets(
        self, outputs: list[Tensor], targets: Tensor, input_size: tuple[int, int]
    ) -> list[Assignment]:
        """Who answers for what, one `Assignment` for each output; arguments as in `forward`."""
        check_targets(targets, len(outputs[0]), min(block.classes for block in self.blocks))
        return build_targets(
            [raw.float() for raw in outputs],
            self.blocks,
            targets.to(outputs[0].device, torch.float32),
            input_size,
            positive_iou=self.positive_iou,
            ignore_thresholds=self.ignore_thresholds,
            truth_thresholds=self.truth_thresholds,
        )

    def _terms(
        self, raw: Tensor, block: Yolo, assignment: Assignment, input_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of one output over all photos: box, objectness, class."""
        cells = raw.unflatten(1, (len(block.mask), -1)).permute(0, 1, 3, 4, 2)  # (B, A, H, W, 5+C)
        answers = cells[assignment.place]  # (P, 5 + C), of the predictions that answer for objects
        box_loss = ciou_box_loss if self.box_loss == "ciou" else darknet_box_loss
        box = box_loss(answers[:, :4], block, assignment, raw.shape[2:], input_size)
        wanted, counts = torch.zeros_like(cells[..., 4]), ~assignment.ignored
        wanted[assignment.place], counts[assignment.place] = 1, True
        objectness = cross_entropy(cells[..., 4], wanted, reduction="none") * counts
        classes = cross_entropy(answers[:, 5:], assignment.class_targets, reduction="sum")
        return box.sum(), objectness.sum(), classes


def darknet_box_loss(
    values: Tensor,
    block: Yolo,
    assignment: Assignment,
    grid: tuple[int, int],
    input_size: tuple[int, int],
) -> Tensor:
    """Darknet's coordinate loss of the P predictions that answer for objects, (P,).

    With a truth_thresh below 1 a cell may answer for a centre outside it; as in Darknet, the
    gradient then does not end at the cell's edge.

    Args:
        values: raw tx, ty, tw, th, (P, 4).
        grid: (rows, columns) of the output.
        input_size: (height, width) of the network's input in pixels.
    """
    boxes, anchors = assignment.boxes_cxcywh, values.new_tensor(block.anchors_wh)
    cell = torch.stack((assignment.column, assignment.row), dim=1)
    offset = boxes[:, :2] * boxes.new_tensor((grid[1], grid[0])) - cell  # in the cell, 0 to 1
    wanted = (offset + (block.scale_x_y - 1) / 2) / block.scale_x_y  # what sigmoid(t) should be
    pixels = boxes[:, 2:] * boxes.new_tensor((input_size[1], input_size[0]))
    size_t = (pixels / anchors[assignment.anchor]).log()
    centre = cross_entropy(values[:, :2], wanted, reduction="none")
    size = (values[:, 2:] - size_t).square() / 2
    return (2 - boxes[:, 2] * boxes[:, 3]) * (centre + size).sum(dim=1)


def ciou_box_loss(
    values: Tensor,
    block: Yolo,
    assignment: Assignment,
    grid: tuple[int, int],
    input_size: tuple[int, int],
) -> Tensor:
    """1 - CIoU (Zheng et al., 2019, arXiv:1911.08287), times `CIOU_FACTOR`: (P,).

    It grades the box as a whole, as the evaluation does. Arguments as in `darknet_box_loss`.

    Both boxes are measured from the corner of their cell. Measured from that of the picture, a box
    of a ten-thousandth of a pixel would have no size left in float32, and a gradient that is no
    number.
    """
    pixels = values.new_tensor((input_size[1], input_size[0]))
    stride = pixels / values.new_tensor((grid[1], grid[0]))
    anchors = values.new_tensor(block.anchors_wh)[assignment.anchor]
    centre, size = decode_cells(values, torch.zeros_like(anchors), anchors, block.scale_x_y)
    predicted = torch.cat((centre * stride, size), dim=1)
    corner = torch.stack((assignment.column, assignment.row), dim=1) * stride
    wanted = assignment.boxes_cxcywh * pixels.repeat(2) - nn.functional.pad(corner, (0, 2))
    return CIOU_FACTOR * complete_box_iou_loss(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted))


def check_targets(targets: Tensor, photos: int, classes: int) -> None:
    """Raise the `ValueError` of `YoloLoss.forward` for targets that cannot be used."""
    if targets.ndim != 2 or targets.shape[1] != 6:
        raise ValueError(f"targets must have shape (M, 6), got {tuple(targets.shape)}")
    low = targets.new_tensor((0, 0, 0, 0, 0, 0))
    high = targets.new_tensor((photos - 1, classes - 1, 1, 1, 1, 1))
    fits = ((targets >= low) & (targets <= high)).all(dim=1) & (targets[:, 4:] > 0).all(dim=1)
    if not fits.all():
        row = int((~fits).nonzero()[0])
        raise ValueError(
            f"targets, row {row}: {targets[row].tolist()} must be an image index from 0 to "
            f"{photos - 1}, a class index from 0 to {classes - 1}, and centre x, centre y, width, "
            "height as fractions from 0 to 1, width and height above 0"
        )


def _cfg_numbers(model: Darknet, key: str, default: float) -> list[float]:
    """A number of each [yolo] block."""
    return [_cfg_number(model, block, key, default) for block in model.outputs]


def _cfg_number(model: Darknet, block: Yolo, key: str, default: float) -> float:
    text = dict(block.extra).get(key, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise DarknetFileError(
            f"{model.cfg_path}: {key}={text!r} in the [yolo] block of line {block.line} must be "
            "a number"
        )
    return value
