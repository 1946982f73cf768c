"""Read mask files of any common kind as instance numbers."""

from pathlib import Path

import numpy as np

from common.photos import PhotoError, open_photo


def read_instance_ids(path: Path) -> np.ndarray:
    """Read a mask file as instance numbers, int32, shape (H, W); 0 is the background.

    Gray (1, 8 or 16 bits) and palette files hold the number itself. In RGB and RGBA files every
    colour but black is one instance, numbered red + 256 green + 65536 blue.

    Raises:
        PhotoError: the file is missing, damaged, or a JPEG, whose compression invents instances
            along every edge.
    """
    with open_photo(path) as image:
        if image.format == "JPEG":
            raise PhotoError(f"{path}: is a JPEG; a mask must be stored without loss (PNG)")
        if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
            return np.asarray(image).astype(np.int32)  # (H, W)
        colours = np.asarray(image.convert("RGB")).astype(np.int32)  # (H, W, 3)
        return colours @ np.array([1, 256, 65536], dtype=np.int32)  # (H, W)
