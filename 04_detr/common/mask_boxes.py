"""The tight box around each mask, with edges that enclose its pixels."""

from __future__ import annotations

import numpy as np


def masks_to_boxes_xyxy(masks: np.ndarray) -> np.ndarray:
    """Find the boxes of masks; the right and bottom edges lie behind the last pixel.

    `torchvision.ops.masks_to_boxes` gives the last pixel's column and row themselves, which leaves
    a mask of one pixel without area. NumPy works in one thread here on purpose: the loader's
    workers run beside the training, and PyTorch's threads would wait for each other.

    Args:
        masks: uint8, shape (N, H, W), 0 is outside.

    Returns:
        float32, shape (N, 4), XYXY in pixels; all 0 for a mask without a pixel.
    """
    columns = np.bitwise_or.reduce(masks, axis=1) != 0  # (N, W)
    rows = np.bitwise_or.reduce(masks, axis=2) != 0  # (N, H)
    x1, y1 = columns.argmax(axis=1), rows.argmax(axis=1)
    x2 = columns.shape[1] - columns[:, ::-1].argmax(axis=1)
    y2 = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
    boxes = np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)
    return boxes * columns.any(axis=1, keepdims=True)
