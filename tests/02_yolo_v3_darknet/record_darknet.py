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
from ctypes import POINTER, c_char_p, c_float, c_int, c_void_p
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / HERE.name))  # the lesson; the tests have it there already

import darknet_library  # noqa: E402
from darknet_library import Image, load_network, network_boxes  # noqa: E402

CFG = Path("/usr/share/darknet/cfg/yolov3-tiny.cfg")
SCORE_THRESHOLD, IOU_THRESHOLD = 0.25, 0.45
DECODERS = ["darknet", "stb", "pillow"]

SIGNATURES = {  # beyond those of the lesson
    "load_image_color": (Image, c_char_p, c_int, c_int),
    "load_image_stb": (Image, c_char_p, c_int),
    "network_predict_image": (POINTER(c_float), c_void_p, Image),
}


def load_library() -> ctypes.CDLL:
    """Load libdarknet; OSError where it is not installed."""
    library = darknet_library.load_library()
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def detect(library: ctypes.CDLL, network: int, image: Image) -> list[dict]:
    """Detect in one image; best first."""
    library.network_predict_image(network, image)
    thresholds = SCORE_THRESHOLD, IOU_THRESHOLD
    return [
        {
            "class_index": c,
            "score": round(score, 6),
            "box_xyxy": [round(edge, 3) for edge in box_xyxy],
        }
        for c, score, box_xyxy in network_boxes(library, network, (image.w, image.h), *thresholds)
    ]


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
