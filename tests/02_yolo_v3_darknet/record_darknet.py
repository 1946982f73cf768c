"""Record what Darknet itself (libdarknet, Debian's package `darknet`) detects, as a test reference.

    python record_darknet.py yolov3-tiny.weights NAME=PHOTO... [--out darknet_reference.json]

Each photo is detected three times, with the pixels that three decoders give: the one this build
of Darknet reads files with (OpenCV's, libjpeg-turbo), the one that builds without OpenCV use
(stb_image), and Pillow's. JPEG decoders differ by some levels per pixel, which shows in the scores.
Boxes are in pixels of the photo and not cut at its edges.
"""

import argparse
import ctypes
import hashlib
import json
import sys
import tempfile
from ctypes import POINTER, c_char_p, c_float, c_int, c_void_p
from pathlib import Path

import numpy as np

LIBRARY = Path("/usr/lib/darknet/libdarknet.so")
CFG = Path("/usr/share/darknet/cfg/yolov3-tiny.cfg")
SCORE_THRESHOLD, IOU_THRESHOLD = 0.25, 0.45
DECODERS = ["darknet", "stb", "pillow"]


class Image(ctypes.Structure):
    """Darknet's `image`: float32 (c, h, w) in [0, 1]."""

    _fields_ = [("w", c_int), ("h", c_int), ("c", c_int), ("data", POINTER(c_float))]

    @classmethod
    def of(cls, planes: np.ndarray) -> "Image":
        """A view of a float32 (c, h, w) array, which must outlive it."""
        c, h, w = planes.shape
        return cls(w, h, c, planes.ctypes.data_as(POINTER(c_float)))

    def planes(self) -> np.ndarray:
        """A copy as float32 (c, h, w)."""
        return np.ctypeslib.as_array(self.data, (self.c, self.h, self.w)).copy()


class Box(ctypes.Structure):
    """Darknet's `box`: centre and size."""

    _fields_ = [("x", c_float), ("y", c_float), ("w", c_float), ("h", c_float)]


class Detection(ctypes.Structure):
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
    "load_image_color": (Image, c_char_p, c_int, c_int),
    "load_image_stb": (Image, c_char_p, c_int),
    "letterbox_image": (Image, Image, c_int, c_int),
    "free_image": (None, Image),
    "network_predict": (POINTER(c_float), c_void_p, POINTER(c_float)),
    "network_predict_image": (POINTER(c_float), c_void_p, Image),
    "get_network_boxes": (
        POINTER(Detection),
        *(c_void_p, c_int, c_int, c_float, c_float, POINTER(c_int), c_int, POINTER(c_int)),
    ),
    "do_nms_sort": (None, POINTER(Detection), c_int, c_int, c_float),
    "free_detections": (None, POINTER(Detection), c_int),
}


def load_library() -> ctypes.CDLL:
    """Load libdarknet; OSError where it is not installed."""
    library = ctypes.CDLL(str(LIBRARY))
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def load_network(library: ctypes.CDLL, cfg: Path, weights: Path | None = None) -> int:
    """Load a network for one photo at a time, whatever the cfg says of the batch."""
    lines = [
        line
        for line in cfg.read_text().splitlines()
        if line.replace(" ", "").partition("=")[0] not in ("batch", "subdivisions")
    ]
    lines.insert(lines.index("[net]") + 1, "batch=1\nsubdivisions=1")
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as copy:
        copy.write("\n".join(lines))
        copy.flush()
        name = str(weights).encode() if weights else None
        network = library.load_network(copy.name.encode(), name, 0)
    library.set_batch_network(network, 1)
    return network


def detect(library: ctypes.CDLL, network: int, image: Image) -> list[dict]:
    """Detect in one image; best first."""
    library.network_predict_image(network, image)
    count = c_int()
    found = library.get_network_boxes(
        network, image.w, image.h, SCORE_THRESHOLD, 0.5, None, 0, ctypes.byref(count)
    )
    if count.value:
        library.do_nms_sort(found, count.value, found[0].classes, IOU_THRESHOLD)
    detections = [
        {
            "class_index": c,
            "score": round(one.prob[c], 6),
            "box_xyxy": [
                round(value, 3)
                for value in (
                    one.bbox.x - one.bbox.w / 2,
                    one.bbox.y - one.bbox.h / 2,
                    one.bbox.x + one.bbox.w / 2,
                    one.bbox.y + one.bbox.h / 2,
                )
            ],
        }
        for one in found[: count.value]
        for c in range(one.classes)
        if one.prob[c] > 0
    ]
    library.free_detections(found, count.value)
    return sorted(detections, key=lambda one: -one["score"])


def record(library: ctypes.CDLL, network: int, path: Path, decoders: list[str]) -> dict:
    """Detect in one photo with the pixels of each of the decoders."""
    from PIL import Image as PillowImage

    photo = np.asarray(PillowImage.open(path).convert("RGB"))
    planes = np.ascontiguousarray(photo.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    name = str(path).encode()
    images = {
        "darknet": library.load_image_color(name, 0, 0),
        "stb": library.load_image_stb(name, 3),
        "pillow": Image.of(planes),
    }
    result = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "width": photo.shape[1],
        "height": photo.shape[0],
        "levels_from_pillow": {
            decoder: round(float(abs(image.planes() - planes).max()) * 255, 3)
            for decoder, image in images.items()
        },
        "detections": {decoder: detect(library, network, images[decoder]) for decoder in decoders},
    }
    library.free_image(images["darknet"])
    library.free_image(images["stb"])
    return result


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("photos", nargs="+", metavar="NAME=PHOTO")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=DECODERS)
    options = parser.parse_args()
    library = load_library()
    network = load_network(library, CFG, options.weights)
    photos = {}
    for item in options.photos:
        name, _, path = item.partition("=")
        photos[name] = record(library, network, Path(path), options.decoders)
    settings = {
        "network": f"Debian's darknet, {CFG.name} at 416, weights SHA-256 "
        + hashlib.sha256(options.weights.read_bytes()).hexdigest(),
        "score_threshold": SCORE_THRESHOLD,
        "iou_threshold": IOU_THRESHOLD,
    }
    options.out.write_text(json.dumps({"settings": settings, "photos": photos}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
