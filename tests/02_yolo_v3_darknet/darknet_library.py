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

    @classmethod
    def of(cls, planes: np.ndarray) -> "Image":
        """A view of a contiguous float32 (c, h, w) array, which must outlive it."""
        c, h, w = planes.shape
        return cls(w, h, c, planes.ctypes.data_as(POINTER(c_float)))

    def planes(self) -> np.ndarray:
        """A copy as float32 (c, h, w)."""
        return np.ctypeslib.as_array(self.data, (self.c, self.h, self.w)).copy()


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


def for_detection(cfg_text: str, size: int | None = None) -> str:
    """The text of a cfg file set to one photo at a time, and to another input size if given."""
    settings = {"batch": 1, "subdivisions": 1}
    if size is not None:
        settings |= {"width": size, "height": size}
    lines = [line for line in cfg_text.splitlines() if line.split("=")[0].strip() not in settings]
    place = next(i for i, line in enumerate(lines) if line.strip() in ("[net]", "[network]"))
    lines[place + 1 : place + 1] = [f"{name}={value}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def load_network(
    library: ctypes.CDLL, cfg: str | Path, weights: str | Path | None, size: int | None = None
) -> int:
    """Load a network for one photo at a time; without weights it stays as it is initialised.

    Darknet itself does not check that the two files fit each other, and ends the process when it
    cannot read one.
    """
    with tempfile.TemporaryDirectory() as folder, silenced():
        copy = Path(folder) / "copy.cfg"
        copy.write_text(for_detection(Path(cfg).read_text(encoding="utf-8"), size))
        name = None if weights is None else str(weights).encode()
        network = library.load_network(str(copy).encode(), name, 0)
    library.set_batch_network(network, 1)
    return network


def network_boxes(
    library: ctypes.CDLL,
    network: int,
    size: tuple[int, int],
    score_threshold: float,
    iou_threshold: float,
) -> list[tuple[int, float, tuple[float, float, float, float]]]:
    """(class index, score, x1, y1, x2, y2), best first, of the image that was predicted last.

    Boxes are in pixels of a photo of `size` (width, height), and not cut at its edges.
    """
    count = c_int()
    thresholds = score_threshold, HIERARCHY_THRESHOLD
    found = library.get_network_boxes(network, *size, *thresholds, None, 0, byref(count))
    if count.value:
        library.do_nms_sort(found, count.value, found[0].classes, iou_threshold)
    detections = [
        (c, float(one.prob[c]), _corners(one.bbox))
        for one in found[: count.value]
        for c in range(one.classes)
        if one.prob[c] > score_threshold
    ]
    library.free_detections(found, count.value)
    return sorted(detections, key=lambda one: -one[1])


def _corners(box: Box) -> tuple[float, float, float, float]:
    x1, x2 = (box.x + sign * box.w / 2 for sign in (-1, 1))
    y1, y2 = (box.y + sign * box.h / 2 for sign in (-1, 1))
    return x1, y1, x2, y2


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
        self._network = load_network(self._library, cfg, weights, size)

    def preprocess(self, photo: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (3, size, size) in [0, 1], letterboxed by Darknet."""
        planes = np.ascontiguousarray(photo.transpose(2, 0, 1), dtype=np.float32)
        planes /= 255
        boxed = self._library.letterbox_image(Image.of(planes), self.size, self.size)
        result = boxed.planes()
        self._library.free_image(boxed)
        return result

    def forward(self, image: np.ndarray) -> None:
        """Run the network; Darknet keeps the outputs inside."""
        self._library.network_predict(self._network, image.ctypes.data_as(POINTER(c_float)))

    def postprocess(
        self, width: int, height: int
    ) -> list[tuple[int, float, tuple[float, float, float, float]]]:
        """As `network_boxes`, but the boxes are cut at the edges of the photo."""
        thresholds = self.score_threshold, self.iou_threshold
        found = network_boxes(self._library, self._network, (width, height), *thresholds)
        return [(c, score, _cut(box_xyxy, width, height)) for c, score, box_xyxy in found]


def _cut(
    box_xyxy: tuple[float, float, float, float], width: int, height: int
) -> tuple[float, float, float, float]:
    limits = (width, height, width, height)
    x1, y1, x2, y2 = (
        min(max(edge, 0.0), float(limit)) for edge, limit in zip(box_xyxy, limits, strict=True)
    )
    return x1, y1, x2, y2
