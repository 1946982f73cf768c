"""From a box of any size to a small square of features: RoIPool and RoIAlign.

RoIPool is Fast R-CNN's (Girshick, 2015, arXiv:1504.08083, section 2.1): it rounds the box to whole
cells, cuts it into bins and takes each bin's maximum. RoIAlign is Mask R-CNN's (He et al., 2017,
arXiv:1703.06870, section 3, "RoIAlign"): it rounds nothing and reads the map between its cells.
Both are written as loops over one box, to be read; torchvision.ops has fast ones with gradients.
"""

import math

import torch
from torch import Tensor


def roi_pool(features: Tensor, box_xyxy: Tensor, output_size: int, spatial_scale: float) -> Tensor:
    """Pool one box by maxima over whole cells.

    The box's edges are rounded to cells, and the last cell is read whole, as in Fast R-CNN's
    program and torchvision. So the left and top edges are up to half a cell off, the right and
    bottom ones half a cell to one and a half cells too far, and the box is at least one cell large.
    Neighbouring bins may share a row or a column of cells.

    Args:
        features: (C, H, W), one image's feature map.
        box_xyxy: (4,), pixels of the image.
        output_size: bins a side, P.
        spatial_scale: cells per pixel, 1 / stride.

    Returns:
        (C, P, P); 0 in bins that lie outside the map.
    """
    C, H, W = features.shape
    x1, y1, x2, y2 = (_round_half_away(float(v)) for v in box_xyxy * spatial_scale)
    rows = _bins(y1, y2, output_size, H, features)
    columns = _bins(x1, x2, output_size, W, features)
    pooled = features.new_zeros((C, output_size, output_size))
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            if bottom > top and right > left:
                pooled[:, i, j] = features[:, top:bottom, left:right].amax(dim=(1, 2))
    return pooled


def _round_half_away(value: float) -> int:
    """Round as C does: 2.5 becomes 3. Python's own rounding gives the even neighbour, 2."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _bins(first: int, last: int, count: int, length: int, like: Tensor) -> list[tuple[int, int]]:
    """Cut cells first..last into bins: start and end (excluded), within the map."""
    # In the map's own precision, as torchvision computes it: 3 * (7 / 3) need not be 7.
    width = like.new_tensor(max(last - first + 1, 1)) / count
    steps = torch.arange(count, dtype=like.dtype)
    starts = (steps * width).floor().int() + first
    ends = ((steps + 1) * width).ceil().int() + first
    return list(zip(starts.clamp(0, length).tolist(), ends.clamp(0, length).tolist(), strict=True))


def roi_align(
    features: Tensor,
    box_xyxy: Tensor,
    output_size: int,
    spatial_scale: float,
    samples: int,
    aligned: bool = True,
) -> Tensor:
    """Pool one box by means over points between the cells.

    Each bin is read at samples x samples points, evenly spread; each point is interpolated from the
    four cells around it.

    Args:
        features: (C, H, W), one image's feature map.
        box_xyxy: (4,), pixels of the image.
        output_size: bins a side, P.
        spatial_scale: cells per pixel, 1 / stride.
        samples: points a side of each bin; above 0.
        aligned: True: cell (0, 0) covers the square from 0 to 1 and its value stands at its middle,
            0.5. False: it stands at 0, and boxes are at least one cell large, as in the first
            version, which is half a cell off.

    Returns:
        (C, P, P).

    Raises:
        ValueError: samples is not above 0.
    """
    if samples <= 0:
        raise ValueError(f"samples is {samples}; allowed are whole numbers above 0")
    x1, y1, x2, y2 = box_xyxy * spatial_scale - (0.5 if aligned else 0)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = width.clamp(min=1), height.clamp(min=1)
    P = output_size
    y, x = _places(y1, height, P, samples), _places(x1, width, P, samples)
    values = bilinear(features, y, x)  # (C, P * samples, P * samples)
    return values.unflatten(2, (P, samples)).unflatten(1, (P, samples)).mean(dim=(2, 4))


def _places(start: Tensor, length: Tensor, bins: int, samples: int) -> Tensor:
    """Where the samples lie on one axis: (bins * samples,), in the middle of equal parts."""
    width = length / bins
    corners = start + torch.arange(bins, dtype=start.dtype) * width  # (bins,)
    within = (torch.arange(samples, dtype=start.dtype) + 0.5) * width / samples  # (samples,)
    return (corners[:, None] + within).flatten()


def bilinear(features: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Read a map between its cells, whose values stand at whole numbers.

    Args:
        features: (C, H, W).
        y: (K,), rows.
        x: (L,), columns.

    Returns:
        (C, K, L): the value at each pair (y, x). Up to one cell outside, the border's value; 0
        further out.
    """
    top, bottom, down, inside_y = _neighbours(y, features.shape[1])
    left, right, along, inside_x = _neighbours(x, features.shape[2])
    upper = features[:, top][:, :, left] * (1 - along) + features[:, top][:, :, right] * along
    lower = features[:, bottom][:, :, left] * (1 - along) + features[:, bottom][:, :, right] * along
    values = upper * (1 - down[:, None]) + lower * down[:, None]  # (C, K, L)
    return values * (inside_y[:, None] & inside_x)


def _neighbours(place: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The cells before and after each place, the share of the one after, and what is near."""
    inside = (place >= -1) & (place <= length)
    place = place.clamp(0, length - 1)
    before = place.floor().long()
    return before, (before + 1).clamp(max=length - 1), place - before, inside
