"""The training loss of YOLOv3: the published one, or the CIoU for the box.

From the paper (sections 2.1 and 2.2): objectness and each class are independent yes-or-no
questions, so their loss is the binary cross-entropy. The box is learnt only by the predictions
that answer for an object (see `targets.py`), objectness by all but the ignored ones.

`box_loss="darknet"`, the default, gives exactly the gradients of Darknet. Its code holds gradients
and no loss: t* - sigmoid(t) for the centre, which is the cross-entropy's, and t* - t for the size,
which is the squared error's, both times 2 - w * h so that small objects count more.
`box_loss="ciou"` is the complete IoU (Zheng et al., 2019, arXiv:1911.08287): it grades the box as a
whole, as the evaluation does.

All sums are divided by the number of photos in the batch, as Darknet divides its learning rate:
the loss of a photo does not depend on its companions.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boxes import decode_cells
from darknet.cfg import DarknetFileError, Yolo
from darknet.network import Darknet
from targets import Assignment, build_targets

TERMS = ("box", "objectness", "class")
BOX_LOSSES = ("darknet", "ciou")
# Each object's 1 - CIoU lies near 1 or below, where the objectness of thousands of predictions is
# summed up. On drawn rectangles, AP was 0.27 with a weight of 1, 0.36 with 5 and 0.40 to 0.41 with
# 10 to 40 (two seeds, 250 steps); with 15 and only the best anchor (positive_iou=None) 0.34.
DEFAULT_WEIGHTS = {
    "ciou": {"box": 15.0, "objectness": 1.0, "class": 1.0},
    "darknet": {"box": 1.0, "objectness": 1.0, "class": 1.0},
}


class YoloLoss(nn.Module):
    """The loss of a network's raw outputs against the objects in the photos.

    With its defaults it is the published one, Darknet's own.

    Args:
        model: the network; its [yolo] blocks hold anchors, classes, ignore_thresh and truth_thresh.
        box_loss: `darknet` or `ciou`.
        positive_iou: every anchor whose shape overlaps an object's by more answers for it as well
            as the best one; None: only the best.
        ignore_threshold: instead of the cfg's `ignore_thresh`.
        weights: factors on the terms, any of `box`, `objectness`, `class`; the others keep
            `DEFAULT_WEIGHTS`.

    Raises:
        ValueError: an option that is not allowed, with its value.
        DarknetFileError: the cfg has no [yolo] block, or a threshold in it is no number.
    """

    def __init__(
        self,
        model: Darknet,
        *,
        box_loss: str = "darknet",
        positive_iou: float | None = None,
        ignore_threshold: float | None = None,
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__()
        if not model.outputs:
            raise DarknetFileError(f"{model.cfg_path}: has no [yolo] block to train")
        _check_options(box_loss, positive_iou, ignore_threshold, weights)
        self.blocks, self.box_loss, self.positive_iou = model.outputs, box_loss, positive_iou
        self.weights = {**DEFAULT_WEIGHTS[box_loss], **(weights or {})}
        self.ignore_thresholds = [
            _cfg_number(model, block, "ignore_thresh", 0.5)
            if ignore_threshold is None
            else ignore_threshold
            for block in self.blocks
        ]
        self.truth_thresholds = [
            _cfg_number(model, block, "truth_thresh", 1.0) for block in self.blocks
        ]

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
            `box`, `objectness` and `class`: three tensors of shape (), weighted, per photo. Their
            sum is the loss.

        Raises:
            ValueError: a target of another shape, outside its range, or not finite; names the row.
        """
        with torch.autocast(outputs[0].device.type, enabled=False):
            outputs = [raw.float() for raw in outputs]
            assignments = self.build_targets(outputs, targets, input_size)
            total = torch.zeros(3, device=outputs[0].device)
            for raw, block, assignment in zip(outputs, self.blocks, assignments, strict=True):
                total = total + torch.stack(self._terms(raw, block, assignment, input_size))
            total = total / len(outputs[0])
        return {name: self.weights[name] * term for name, term in zip(TERMS, total, strict=True)}

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
        values = cells[assignment.place]  # (P, 5 + C)
        place, logits = assignment.place, cells[..., 4]
        wanted = torch.zeros_like(logits)
        wanted[place] = 1
        counts = ~assignment.ignored
        counts[place] = True
        objectness = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        classes = F.binary_cross_entropy_with_logits(
            values[:, 5:], assignment.class_targets, reduction="sum"
        )
        loss = ciou_box_loss if self.box_loss == "ciou" else darknet_box_loss
        box = loss(values[:, :4], block, assignment, raw.shape[2:], input_size)
        return box.sum(), (objectness * counts).sum(), classes


def darknet_box_loss(
    values: Tensor,
    block: Yolo,
    assignment: Assignment,
    grid: tuple[int, int],
    input_size: tuple[int, int],
) -> Tensor:
    """Darknet's coordinate loss of the responsible predictions, (P,).

    With a truth_thresh below 1 a cell may answer for a centre outside it; as in Darknet, the
    gradient then does not end at the cell's edge.

    Args:
        values: raw tx, ty, tw, th, (P, 4).
        grid: (rows, columns) of the output.
        input_size: (height, width) of the network's input in pixels.
    """
    boxes = assignment.boxes_cxcywh
    cell = torch.stack((assignment.column, assignment.row), dim=1)
    offset = boxes[:, :2] * boxes.new_tensor((grid[1], grid[0])) - cell
    spread = block.scale_x_y
    share = (offset + (spread - 1) / 2) / spread  # what sigmoid(t) should be
    anchors = boxes.new_tensor(block.anchors_wh)[assignment.anchor]
    factors = boxes[:, 2:] * boxes.new_tensor((input_size[1], input_size[0])) / anchors
    centre = F.binary_cross_entropy_with_logits(values[:, :2], share, reduction="none")
    size = (values[:, 2:] - factors.log()).square() / 2
    return (2 - boxes[:, 2] * boxes[:, 3]) * (centre + size).sum(dim=1)


def ciou_box_loss(
    values: Tensor,
    block: Yolo,
    assignment: Assignment,
    grid: tuple[int, int],
    input_size: tuple[int, int],
) -> Tensor:
    """1 - CIoU of the responsible predictions, (P,); arguments as in `darknet_box_loss`."""
    pixels = values.new_tensor((input_size[1], input_size[0]))
    corner = torch.stack((assignment.column, assignment.row), dim=1)
    anchors = values.new_tensor(block.anchors_wh)[assignment.anchor]
    centre, size = decode_cells(values, corner, anchors, block.scale_x_y)
    stride = pixels / values.new_tensor((grid[1], grid[0]))
    predicted = torch.cat((centre * stride, size), dim=1)
    return 1 - complete_iou(predicted, assignment.boxes_cxcywh * pixels.repeat(2))


def complete_iou(boxes_cxcywh: Tensor, wanted_cxcywh: Tensor) -> Tensor:
    """IoU minus penalties for the distance of the centres and for another shape (CIoU).

    torchvision's `complete_box_iou_loss` is the same from corners. A box of a thousandth of a pixel
    has no size left between float32 corners, and its gradient is not a number; hence this one.

    Args:
        boxes_cxcywh, wanted_cxcywh: (P, 4), paired, sizes above 0.

    Returns:
        (P,), 1 for equal boxes, above -2.
    """
    centre, size = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:]
    wanted_centre, wanted_size = wanted_cxcywh[:, :2], wanted_cxcywh[:, 2:]
    low, high = centre - size / 2, centre + size / 2
    wanted_low, wanted_high = wanted_centre - wanted_size / 2, wanted_centre + wanted_size / 2
    shared = (torch.minimum(high, wanted_high) - torch.maximum(low, wanted_low)).clamp(min=0)
    shared = shared.prod(dim=1)
    iou = shared / (size.prod(dim=1) + wanted_size.prod(dim=1) - shared)
    hull = torch.maximum(high, wanted_high) - torch.minimum(low, wanted_low)
    distance = (centre - wanted_centre).square().sum(dim=1) / hull.square().sum(dim=1)
    angle = torch.atan2(size[:, 0], size[:, 1]) - torch.atan2(wanted_size[:, 0], wanted_size[:, 1])
    shape = 4 / math.pi**2 * angle.square()
    with torch.no_grad():  # the paper's trade-off, equation 11, is a factor and not learnt
        factor = shape / (1 - iou + shape).clamp(min=1e-7)
    return iou - distance - factor * shape


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


def _check_options(
    box_loss: str,
    positive_iou: float | None,
    ignore_threshold: float | None,
    weights: Mapping[str, float] | None,
) -> None:
    if box_loss not in BOX_LOSSES:
        raise ValueError(f"box_loss must be one of {', '.join(BOX_LOSSES)}, got {box_loss!r}")
    for name, value in (("positive_iou", positive_iou), ("ignore_threshold", ignore_threshold)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} must be from 0 to 1, got {value}")
    for name, value in (weights or {}).items():
        if name not in TERMS or not 0 <= value < math.inf:
            raise ValueError(
                f"weights must be numbers from 0 on for {', '.join(TERMS)}, got {name!r}: {value}"
            )
