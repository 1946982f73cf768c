"""Darknet itself, through its C library: for comparing speed, never needed to detect.

Debian's and Ubuntu's package `darknet` installs the library; it runs on the CPU and takes one photo
at a time. Signatures and structures are those of its header file darknet.h.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_void_p
from ctypes.util import find_library
from pathlib import Path

import numpy as np

DEBIAN_LIBRARY = Path("/usr/lib/darknet/libdarknet.so")
HIERARCHY_THRESHOLD = 0.5  # of YOLO9000's class tree; YOLOv3 has none


class Image(ctypes.Structure):
    """Darknet's `image`: float32 (c, h, w) in [0, 1]."""

    _fields_ = [("w", c_int), ("h", c_int), ("c", c_int), ("data", POINTER(c_float))]


class Box(ctypes.Structure):
    """Darknet's `box`: centre and size."""

    _fields_ = [("x", c_float), ("y", c_float), ("w", c_float), ("h", c_float)]


class Found(ctypes.Structure):
    """Darknet's `detection`."""

    _fields_ = [
        ("bbox", Box),
        ("classes", c_int),
        ("prob", POINTER(c_float)),
        ("mask", POINTER(c_float)),
        ("objectness", c_float),
        ("sort_class", c_int),
    ]


SIGNATURES = {
    "load_network": (c_void_p, c_char_p, c_char_p, c_int),
    "set_batch_network": (None, c_void_p, c_int),
    "letterbox_image": (Image, Image, c_int, c_int),
    "free_image": (None, Image),
    "network_predict": (POINTER(c_float), c_void_p, POINTER(c_float)),
    "get_network_boxes": (
        POINTER(Found),
        *(c_void_p, c_int, c_int, c_float, c_float, POINTER(c_int), c_int, POINTER(c_int)),
    ),
    "do_nms_sort": (None, POINTER(Found), c_int, c_int, c_float),
    "free_detections": (None, POINTER(Found), c_int),
}


def library_path() -> str | None:
    """Where Darknet's library is, None where it is not installed."""
    return str(DEBIAN_LIBRARY) if DEBIAN_LIBRARY.is_file() else find_library("darknet")


def load_library() -> ctypes.CDLL:
    """Load Darknet's library.

    Raises:
        OSError: it is not installed, or lacks a function.
    """
    path = library_path()
    if path is None:
        raise OSError("Darknet's library is not installed (Debian, Ubuntu: apt install darknet)")
    library = ctypes.CDLL(path)
    for name, (result, *arguments) in SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise OSError(f"{path}: has no function {name}") from error
        function.restype, function.argtypes = result, arguments
    return library


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep what C code prints off the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (a device, no path)
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)


def for_detection(cfg_text: str, size: int) -> str:
    """The text of a cfg file with another input size, and set to one photo at a time."""
    changed = ("batch", "subdivisions", "width", "height")
    lines = [line for line in cfg_text.splitlines() if line.split("=")[0].strip() not in changed]
    place = next(i for i, line in enumerate(lines) if line.strip() in ("[net]", "[network]"))
    lines.insert(place + 1, f"batch=1\nsubdivisions=1\nwidth={size}\nheight={size}")
    return "\n".join(lines) + "\n"


class DarknetLibrary:
    """A network run by Darknet, in the three steps of a detection.

    Args:
        cfg, weights: files that fit each other; Darknet itself does not check that.
        size: side of the square input in pixels.
        score_threshold, iou_threshold: as in `Detector`.

    Raises:
        OSError: Darknet is not installed.
    """

    def __init__(
        self,
        cfg: str | Path,
        weights: str | Path,
        size: int,
        score_threshold: float,
        iou_threshold: float,
    ):
        self.size, self.score_threshold, self.iou_threshold = size, score_threshold, iou_threshold
        self._library = load_library()
        with tempfile.TemporaryDirectory() as folder, silenced():
            copy = Path(folder) / "copy.cfg"
            copy.write_text(for_detection(Path(cfg).read_text(encoding="utf-8"), size))
            files = str(copy).encode(), str(weights).encode()
            self._network = self._library.load_network(*files, 0)
        self._library.set_batch_network(self._network, 1)

    def preprocess(self, photo: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (3, size, size) in [0, 1], letterboxed by Darknet."""
        planes = np.ascontiguousarray(photo.transpose(2, 0, 1), dtype=np.float32)
        planes /= 255
        c, h, w = planes.shape
        image = Image(w, h, c, planes.ctypes.data_as(POINTER(c_float)))
        boxed = self._library.letterbox_image(image, self.size, self.size)
        result = np.ctypeslib.as_array(boxed.data, (c, self.size, self.size)).copy()
        self._library.free_image(boxed)
        return result

    def forward(self, image: np.ndarray) -> None:
        """Run the network; Darknet keeps the outputs inside."""
        self._library.network_predict(self._network, image.ctypes.data_as(POINTER(c_float)))

    def postprocess(
        self, width: int, height: int
    ) -> list[tuple[int, float, tuple[float, float, float, float]]]:
        """(class index, score, x1, y1, x2, y2 in pixels of the photo), best first."""
        library, count = self._library, c_int()
        thresholds = self.score_threshold, HIERARCHY_THRESHOLD
        found = library.get_network_boxes(
            self._network, width, height, *thresholds, None, 0, byref(count)
        )
        if count.value:
            library.do_nms_sort(found, count.value, found[0].classes, self.iou_threshold)
        detections = [
            (c, float(one.prob[c]), _corners(one.bbox, width, height))
            for one in found[: count.value]
            for c in range(one.classes)
            if one.prob[c] > self.score_threshold
        ]
        library.free_detections(found, count.value)
        return sorted(detections, key=lambda one: -one[1])


def _corners(box: Box, width: int, height: int) -> tuple[float, float, float, float]:
    def cut(value: float, edge: int) -> float:
        return min(max(value, 0.0), float(edge))

    x1, x2 = (cut(box.x + sign * box.w / 2, width) for sign in (-1, 1))
    y1, y2 = (cut(box.y + sign * box.h / 2, height) for sign in (-1, 1))
    return x1, y1, x2, y2
