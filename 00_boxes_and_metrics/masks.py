"""Masks: how well two agree, and how COCO writes them down.

IoU and Dice compare two sets of pixels. Run lengths (RLE) are the notation of COCO's files: a mask
is read column by column, and the lengths of its runs of 0 and 1 are noted in turn. COCO then packs
these numbers into text. Lin et al., 2014, arXiv:1405.0312; the text code is described by the
implementation only, pycocotools' maskApi.c.
"""

import numpy as np

BITS = 5  # of a number, per character of the text
FIRST_CHARACTER = 48  # "0"
LONGEST_CODE = 13  # characters: 65 bits, more than any run length needs


def mask_intersections(
    masks_a: np.ndarray, masks_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count shared pixels of all pairs (N, M) and each mask's own (N,), (M,); float64.

    Raises:
        ValueError: the masks of a and b differ in height or width.
    """
    if masks_a.shape[1:] != masks_b.shape[1:]:
        raise ValueError(f"masks have sizes {masks_a.shape[1:]} and {masks_b.shape[1:]}, not one")
    pixels = int(np.prod(masks_a.shape[1:]))
    a = masks_a.reshape(len(masks_a), pixels).astype(np.float64)  # (N, H * W)
    b = masks_b.reshape(len(masks_b), pixels).astype(np.float64)
    return a @ b.T, a.sum(axis=1), b.sum(axis=1)


def mask_iou(masks_a: np.ndarray, masks_b: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of masks.

    Args:
        masks_a: bool or 0/1 (N, H, W).
        masks_b: bool or 0/1 (M, H, W).

    Returns:
        float64 (N, M) in [0, 1]; 0 where both masks are empty.
    """
    intersection, area_a, area_b = mask_intersections(masks_a, masks_b)
    union = area_a[:, None] + area_b[None, :] - intersection
    return intersection / np.maximum(union, 1)


def mask_dice(masks_a: np.ndarray, masks_b: np.ndarray) -> np.ndarray:
    """Dice coefficient (F1 of the pixels) of all pairs: 2 |A and B| / (|A| + |B|).

    It orders pairs as IoU does: Dice = 2 IoU / (1 + IoU), and IoU = Dice / (2 - Dice).

    Args:
        masks_a: bool or 0/1 (N, H, W).
        masks_b: bool or 0/1 (M, H, W).

    Returns:
        float64 (N, M) in [0, 1]; 0 where both masks are empty.
    """
    intersection, area_a, area_b = mask_intersections(masks_a, masks_b)
    return 2 * intersection / np.maximum(area_a[:, None] + area_b[None, :], 1)


def encode_runs(mask: np.ndarray) -> list[int]:
    """Note the run lengths of a mask (H, W), column by column, beginning with 0s.

    Args:
        mask: bool or 0/1 (H, W).

    Returns:
        Lengths of 0s, of 1s, of 0s and so on; the first is 0 if the first pixel is 1. Their sum is
        H * W.
    """
    pixels = np.asarray(mask).astype(bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    ends = np.concatenate(([0], changes, [pixels.size]))
    runs = np.diff(ends).tolist()
    return [0, *runs] if pixels.size and pixels[0] else runs


def decode_runs(runs: list[int], size: tuple[int, int]) -> np.ndarray:
    """Draw the mask of run lengths; undoes `encode_runs`.

    Args:
        runs: lengths of 0s, of 1s, of 0s and so on.
        size: (H, W).

    Returns:
        bool (H, W).

    Raises:
        ValueError: a length is negative, or they do not add up to H * W.
    """
    H, W = size
    if any(run < 0 for run in runs) or sum(runs) != H * W:
        raise ValueError(f"runs {runs[:8]} ... add up to {sum(runs)}; allowed is {H} x {W} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((H, W), order="F")


def pack_runs(runs: list[int]) -> str:
    """Pack run lengths into COCO's text.

    From the fourth on, a run is written as the difference to the one two before it, of the same
    colour, since neighbouring columns look alike. Each number becomes characters of 5 bits, lowest
    first; bit 5 says that more follow, and the highest bit of the last character is the sign.
    """
    text = ""
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            low = value & 0x1F
            value >>= BITS  # keeps the sign
            more = value != (-1 if low & 0x10 else 0)
            text += chr(FIRST_CHARACTER + (low | 0x20 if more else low))
    return text


def unpack_runs(text: str) -> list[int]:
    """Read COCO's text; undoes `pack_runs`.

    Raises:
        ValueError: a character that is none of the code's, or a number without an end.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - FIRST_CHARACTER
        if not 0 <= code < 64 or shift >= BITS * LONGEST_CODE:
            raise ValueError(f"{text[:20]!r} is not COCO's text of run lengths")
        value |= (code & 0x1F) << shift
        shift += BITS
        if not code & 0x20:
            value -= 1 << shift if code & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError(f"{text[:20]!r} ends in the middle of a number")
    return runs
