"""A photo of 24 coins, its masks, and a detector without any training, as a real example.

The photo comes with the package scikit-image (Greek coins from Pompeii, Brooklyn Museum, no known
copyright restrictions). Its masks are found by a watershed on the photo's edges, the example of
scikit-image's own documentation on segmentation. The detector slides bright discs of several
sizes over the photo and takes the correlation as its score: crude, but it errs as real ones do.
"""

import numpy as np
import torch
from skimage import data, feature, filters, measure, segmentation

from suppression import nms

NUM_COINS = 24
DARK, BRIGHT = 30, 150  # gray levels that are surely background, surely coin
SMALLEST_AREA = 100  # pixels; below it are specks
RADII = tuple(range(16, 33, 2))  # of the discs, in pixels
STRIDE = 2  # pixels from one place of a disc to the next
MARGIN = 4  # pixels of background around a disc


def load_coins() -> tuple[np.ndarray, np.ndarray]:
    """Read the photo and outline its coins.

    Returns:
        The photo, uint8 (H, W), and the coins' masks, bool (24, H, W), without overlaps.

    Raises:
        ValueError: another number of coins was found, so the masks are not to be trusted.
    """
    image = data.coins()
    markers = np.zeros(image.shape, dtype=int)
    markers[image < DARK], markers[image > BRIGHT] = 1, 2
    is_coin = segmentation.watershed(filters.sobel(image), markers) == 2
    masks = []
    for region in measure.regionprops(measure.label(is_coin)):
        if region.area > SMALLEST_AREA:
            mask = np.zeros(image.shape, dtype=bool)
            mask[region.slice] = region.image_filled
            masks.append(mask)
    if len(masks) != NUM_COINS:
        raise ValueError(f"{len(masks)} coins were outlined; the photo has {NUM_COINS}")
    return image, np.stack(masks)


def correlate_discs(
    image: np.ndarray, score_threshold: float, radii: tuple[int, ...] = RADII
) -> tuple[np.ndarray, np.ndarray]:
    """Find everything that looks like a bright disc; many answers for each coin.

    Args:
        image: uint8 (H, W).
        score_threshold: the least correlation of a candidate, in (0, 1).
        radii: the discs' radii in pixels.

    Returns:
        Boxes xyxy float64 (N, 4) in pixels and their scores float64 (N,), size by size.
    """
    boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
    for radius in radii:
        steps = np.arange(-radius - MARGIN, radius + MARGIN + 1)
        disc = (np.hypot(steps[:, None], steps) <= radius).astype(float)
        correlation = feature.match_template(image.astype(float), disc, pad_input=True)
        y, x = STRIDE * np.argwhere(correlation[::STRIDE, ::STRIDE] > score_threshold).T
        edge = radius + 0.5  # the centre of pixel (y, x) is at (y + 0.5, x + 0.5)
        boxes.append(np.stack((x - edge, y - edge, x + edge, y + edge), axis=1) + 0.5)
        scores.append(correlation[y, x])
    return np.concatenate(boxes), np.concatenate(scores)


def detect_coins(
    image: np.ndarray, score_threshold: float = 0.3, iou_threshold: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Find coins: candidates of all sizes, then non-maximum suppression.

    Args:
        image: uint8 (H, W).
        score_threshold: see `correlate_discs`.
        iou_threshold: see `suppression.nms`.

    Returns:
        Boxes xyxy float64 (K, 4) and scores float64 (K,), best first.
    """
    boxes, scores = correlate_discs(image, score_threshold)
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), iou_threshold).numpy()
    return boxes[kept], scores[kept]
