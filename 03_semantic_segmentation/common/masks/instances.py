"""From label maps to objects: separate those that touch, and count them against the truth.

A label map says what each pixel is, not which of several things it belongs to. Pixels that hang
together are one object, unless two things touch. Round things, such as nuclei, can be cut apart
where they are thin: the distance to the background has a peak in the middle of each, and a
watershed fills the valleys between the peaks (Vincent and Soille, "Watersheds in digital spaces",
1991).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from skimage.feature import peak_local_max
from skimage.filters import gaussian
from skimage.measure import label
from skimage.segmentation import watershed

SMOOTHING = 1.0  # pixels: standard deviation of the blur, so that a rough edge makes no peak
PEAK_DISTANCE = 3  # pixels between two peaks, at least
LEAST_IOU = 0.5  # two objects with a higher IoU are one; then each has one partner at most


@dataclass(frozen=True)
class Counts:
    """How many objects were found, how many there are, and how many of both are the same.

    Counts of several pictures can be added.
    """

    matched: int = 0
    found: int = 0
    true: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.matched + other.matched, self.found + other.found, self.true + other.true
        )

    @property
    def f1(self) -> float:
        """Return 2 matched / (found + true), 0..1; 1 where there is none and none is found."""
        both = self.found + self.true
        return 2 * self.matched / both if both else 1.0


def connected(foreground: np.ndarray) -> np.ndarray:
    """Number the connected parts, by their sides, of bool (H, W): int32 (H, W), 0 outside."""
    return label(foreground, connectivity=1).astype(np.int32)


def separated(foreground: np.ndarray) -> np.ndarray:
    """Number the parts of bool (H, W) after cutting them apart where they are thin.

    Returns:
        int32 (H, W): 0 outside, 1, 2, ... inside. Every part of `connected` has one number at
        least.
    """
    parts = connected(foreground)
    distance = cv2.distanceTransform(
        np.pad(foreground, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )[1:-1, 1:-1]  # pixels to the background; outside the picture is background
    smooth = gaussian(distance, SMOOTHING)
    peaks = peak_local_max(
        smooth, min_distance=PEAK_DISTANCE, labels=parts, exclude_border=False
    )  # (N, 2): y, x
    seeds = np.zeros(foreground.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-smooth, seeds, mask=foreground).astype(np.int32)


def count_objects(found: np.ndarray, true: np.ndarray) -> Counts:
    """Count the objects of two maps of numbers, (H, W), and those that are in both.

    Two are the same if their IoU is above LEAST_IOU. The numbers need not be 1, 2, ...; 0 is none.
    """
    found_numbers, found = np.unique(found, return_inverse=True)
    true_numbers, true = np.unique(true, return_inverse=True)
    shape = len(found_numbers), len(true_numbers)
    codes = found.ravel() * shape[1] + true.ravel()
    shared = np.bincount(codes, minlength=shape[0] * shape[1]).reshape(shape)  # pixels
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    same = shared > LEAST_IOU * union
    same = same[found_numbers != 0][:, true_numbers != 0]  # the background is no object
    return Counts(int(same.sum()), *same.shape)
