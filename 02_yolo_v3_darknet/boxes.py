"""Boxes: formats, the input's size, letterbox, decoding of raw outputs, non-maximum suppression.

Equations and section numbers are those of YOLOv3 (Redmon and Farhadi, 2018, arXiv:1804.02767).
Boxes are float tensors (N, 4) in pixels, x to the right, y down, unless a name says otherwise.

An input is a square, given by its side, or has a height and a width. Most photos are wider than
high: an input of their own shape shows them larger for the same work, 288 x 384 pixels instead of
320 x 320.
"""

import dataclasses
import math
from argparse import ArgumentTypeError

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms

from darknet.cfg import Yolo

InputSize = int | tuple[int, int]
LARGEST_SIDE = 4096  # of an input, in pixels
GRAY = 0.5  # what Darknet fills the letterbox's bars with
MAX_SIZE_LOGIT = 10.0  # exp(10) is 22,026 anchors wide: nothing real, and no overflow or zero
MAX_CANDIDATES = 30_000  # per photo, before suppression: keeps a threshold of 0 affordable


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Convert (..., 4) boxes from centre x, centre y, width, height to x1, y1, x2, y2."""
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Convert (..., 4) boxes from x1, y1, x2, y2 to centre x, centre y, width, height."""
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=-1)


def height_width(size: InputSize) -> tuple[int, int]:
    """Return (height, width) in pixels of a square's side, or of (height, width) itself."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def check_size(size: InputSize, stride: int, largest: int = LARGEST_SIDE) -> tuple[int, int]:
    """Return (height, width) of a size that a network can take.

    Args:
        size: see `height_width`.
        stride: both sides have to be a multiple of it, 32 in the YOLOv3 family.
        largest: side that is allowed.

    Raises:
        ValueError: with the side and what is allowed.
    """
    for side in height_width(size):
        if not stride <= side <= largest or side % stride:
            raise ValueError(
                f"size must be a multiple of {stride}, from {stride} to {largest}, got {side}"
            )
    return height_width(size)


def parse_size(text: str) -> InputSize:
    """Read a size from a command line: `320`, or height and width as in `288x384`.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ArgumentTypeError(f"{text!r} is no size; 320 and 288x384 (height x width) are")
    return int(text) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """A photo scaled into the network's input as Darknet does it: shape kept, gray bars around.

    Numbers are pixels. The photo's new size is cut to whole pixels, not rounded, and at least 1.
    """

    photo_width: int
    photo_height: int
    width: int
    height: int

    @property
    def inner_size(self) -> tuple[int, int]:
        """(width, height) of the scaled photo inside the input."""
        if self.width * self.photo_height < self.height * self.photo_width:
            return self.width, max(1, self.photo_height * self.width // self.photo_width)
        return max(1, self.photo_width * self.height // self.photo_height), self.height

    def apply(self, photo: np.ndarray) -> Tensor:
        """Scale a photo and put it on gray.

        The interpolation is bilinear with aligned corners: the first and last pixel of the photo
        fall on the first and last of the result. Another choice moves the scores by up to 0.1.

        Args:
            photo: uint8 (photo_height, photo_width, 3), RGB.

        Returns:
            float32 (3, height, width) in [0, 1], stored channels last.
        """
        inner_width, inner_height = self.inner_size
        pixels = torch.from_numpy(photo)
        if inner_width == 1:  # torch would take the first pixel of a row, Darknet takes the last
            pixels = pixels[:, -1:]
        if inner_height == 1:
            pixels = pixels[-1:]
        scaled = F.interpolate(
            pixels.permute(2, 0, 1)[None].float(),  # (1, 3, H, W)
            (inner_height, inner_width),
            mode="bilinear",
            align_corners=True,
        ).clamp_(max=255)  # rounding may lift white a little above itself
        canvas = torch.full((1, self.height, self.width, 3), GRAY).permute(0, 3, 1, 2)
        left, top = (self.width - inner_width) // 2, (self.height - inner_height) // 2
        torch.div(
            scaled, 255, out=canvas[:, :, top : top + inner_height, left : left + inner_width]
        )
        return canvas[0]

    def to_photo(self, boxes_xyxy: Tensor) -> Tensor:
        """Map boxes (N, 4) from input pixels to photo pixels; the exact inverse of `to_network`."""
        scale, offset = self._scale_and_offset(boxes_xyxy)
        return (boxes_xyxy - offset) / scale

    def to_network(self, boxes_xyxy: Tensor) -> Tensor:
        """Map boxes (N, 4) from photo pixels to input pixels.

        Where the bars add up to an odd number, Darknet's boxes count half a pixel on each side
        although its picture is placed at whole pixels. The same is done here, so that the boxes
        are those of its program.
        """
        scale, offset = self._scale_and_offset(boxes_xyxy)
        return boxes_xyxy * scale + offset

    def _scale_and_offset(self, like: Tensor) -> tuple[Tensor, Tensor]:
        inner_width, inner_height = self.inner_size
        scale = (inner_width / self.photo_width, inner_height / self.photo_height)
        offset = ((self.width - inner_width) / 2, (self.height - inner_height) / 2)
        return like.new_tensor(scale * 2), like.new_tensor(offset * 2)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Decoded predictions: N boxes, from all photos of a batch and all cells of one output.

    Attributes:
        photo_index: int64 (N,), which photo of the batch.
        boxes_xyxy: float32 (N, 4), pixels of the network's input.
        objectness: float32 (N,) in [0, 1].
        class_probabilities: float32 (N, C) in [0, 1], independent of one another.
    """

    photo_index: Tensor
    boxes_xyxy: Tensor
    objectness: Tensor
    class_probabilities: Tensor


def decode_cells(
    values: Tensor, corner: Tensor, anchors_wh: Tensor, scale_x_y: float
) -> tuple[Tensor, Tensor]:
    """Turn raw numbers into places and sizes (paper, section 2.1, the equations of figure 2).

        bx = sigmoid(tx) + cx        bw = pw * exp(tw)
        by = sigmoid(ty) + cy        bh = ph * exp(th)

    With `scale_x_y` s > 1 the centre may leave its cell a little: s * sigmoid(t) - (s - 1) / 2.

    Args:
        values: tx, ty, tw, th first, (..., 4 or more).
        corner: cx, cy, the column and row of each prediction's cell, (..., 2).
        anchors_wh: pw, ph, the anchor of each prediction in pixels, (..., 2).
        scale_x_y: of the [yolo] block.

    Returns:
        The centres (..., 2) in cells, and the sizes (..., 2) in pixels.
    """
    centre = corner + scale_x_y * values[..., :2].sigmoid() - (scale_x_y - 1) / 2
    return centre, anchors_wh * values[..., 2:4].clamp(-MAX_SIZE_LOGIT, MAX_SIZE_LOGIT).exp()


def decode_fractions(cells: Tensor, block: Yolo, input_size: tuple[int, int]) -> Tensor:
    """Decode all predictions of one output.

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


def decode(
    raw: Tensor, output: Yolo, input_size: tuple[int, int], min_objectness: float = 0.0
) -> Candidates:
    """Turn one raw output into boxes, by the equations of `decode_cells`.

    Objectness and classes go through the logistic function (section 2.2: a box may belong to
    several classes).

    Args:
        raw: (B, A * (5 + C), H, W), as `Darknet.forward` returns it; any float dtype.
        output: the [yolo] block it belongs to.
        input_size: (height, width) of the network's input in pixels.
        min_objectness: predictions at or below it are left out before any further work.

    Returns:
        The candidates, photo by photo, row by row, column by column, anchor by anchor.
    """
    H, W = raw.shape[2:]
    A, C = len(output.mask), output.classes
    cells = raw.permute(0, 2, 3, 1).unflatten(-1, (A, 5 + C))  # (B, H, W, A, 5 + C)
    logits = cells[..., 4]  # (B, H, W, A)
    if 0 < min_objectness < 1:
        chosen = logits > math.log(min_objectness / (1 - min_objectness))
    else:
        chosen = logits.sigmoid() > min_objectness
    photo, row, column, anchor = chosen.nonzero(as_tuple=True)  # (N,) each
    values = cells[photo, row, column, anchor].float()  # (N, 5 + C)
    anchors = values.new_tensor(output.anchors_wh)[anchor]  # (N, 2)
    corner = torch.stack((column, row), dim=1)
    centre, size = decode_cells(values, corner, anchors, output.scale_x_y)
    stride = values.new_tensor((input_size[1] / W, input_size[0] / H))
    probabilities = values[:, 4:].sigmoid()
    return Candidates(
        photo_index=photo,
        boxes_xyxy=cxcywh_to_xyxy(torch.cat((centre * stride, size), dim=1)),
        objectness=probabilities[:, 0],
        class_probabilities=probabilities[:, 1:],
    )


def suppress(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the best of each group of overlapping boxes, class by class.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).
        labels: int64 (N,); boxes of different labels never suppress one another.
        iou_threshold: a box goes when its IoU with a better one of its class is above it.

    Returns:
        The boxes, scores and labels that stay, best first.
    """
    if len(scores) > MAX_CANDIDATES:
        best = scores.topk(MAX_CANDIDATES).indices
        boxes_xyxy, scores, labels = boxes_xyxy[best], scores[best], labels[best]
    kept = batched_nms(boxes_xyxy, scores, labels, iou_threshold)
    return boxes_xyxy[kept], scores[kept], labels[kept]


def postprocess(
    raw_outputs: list[Tensor],
    outputs: list[Yolo],
    input_size: tuple[int, int],
    score_threshold: float,
    iou_threshold: float,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """From the raw outputs of a batch to final boxes.

    A score is objectness times class probability. Since no class probability exceeds 1, a
    prediction whose objectness is not above the threshold cannot have a score above it, and is
    dropped before decoding.

    Args:
        raw_outputs: what `Darknet.forward` returned.
        outputs: the network's [yolo] blocks, in the same order.
        input_size: (height, width) of the network's input in pixels.
        score_threshold: only scores above it count.
        iou_threshold: see `suppress`.

    Returns:
        For each photo: boxes (N, 4) in input pixels, scores (N,), labels int64 (N,), best first.
    """
    parts = [
        decode(raw, output, input_size, score_threshold)
        for raw, output in zip(raw_outputs, outputs, strict=True)
    ]
    photo_index = torch.cat([part.photo_index for part in parts])
    boxes_xyxy = torch.cat([part.boxes_xyxy for part in parts])
    scores = torch.cat([part.objectness[:, None] * part.class_probabilities for part in parts])
    box, label = (scores > score_threshold).nonzero(as_tuple=True)
    photo_index, boxes_xyxy, scores = photo_index[box], boxes_xyxy[box], scores[box, label]
    if len(raw_outputs[0]) == 1:
        return [suppress(boxes_xyxy, scores, label, iou_threshold)]
    return [
        suppress(boxes_xyxy[mine], scores[mine], label[mine], iou_threshold)
        for mine in (photo_index == i for i in range(len(raw_outputs[0])))
    ]
