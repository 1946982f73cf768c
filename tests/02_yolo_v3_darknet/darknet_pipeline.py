"""Darknet itself as one of the programs that are compared; see `speed/pipelines.py`."""

import os
from collections.abc import Sequence

import numpy as np
from darknet_library import DarknetLibrary

from speed.pipelines import Found, Work


class DarknetPipeline:
    """Darknet's library; it takes one photo at a time."""

    def __init__(self, work: Work):
        os.environ["OMP_NUM_THREADS"] = str(work.threads)  # read when the library is first loaded
        self.library = DarknetLibrary(
            work.cfg, work.weights, work.size, work.score_threshold, work.iou_threshold
        )

    def preprocess(self, photos: Sequence[np.ndarray]) -> tuple[np.ndarray, int, int]:
        """Letterbox of the only photo."""
        (photo,) = photos
        return self.library.preprocess(photo), photo.shape[1], photo.shape[0]

    def forward(self, prepared: tuple[np.ndarray, int, int]) -> tuple[int, int]:
        """The outputs stay inside Darknet; what comes back is the photo's size."""
        self.library.forward(prepared[0])
        return prepared[1:]

    def postprocess(self, raw: tuple[int, int]) -> list[list[Found]]:
        """Decode, threshold, suppress."""
        return [self.library.postprocess(*raw)]
