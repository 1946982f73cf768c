"""The detector: a photo in, a list of named boxes in the photo's pixels out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from boxes import InputSize, Letterbox, check_size, postprocess
from common.photos import read_photo
from darknet.cfg import NETWORKS
from darknet.download import fetch, sample_photos
from darknet.network import Darknet, DarknetFileError
from speed.engines import build_network, check_engine

MODELS = ("yolov3-tiny", "yolov3", "yolov3-spp")
COCO_SIZE = 416  # input of these, unless another is asked for


@dataclasses.dataclass(frozen=True)
class Detection:
    """One object that was found.

    Attributes:
        class_name: name of the class.
        score: objectness times class probability, in [0, 1].
        box_xyxy: x1, y1, x2, y2 in pixels of the photo, cut at its edges.
        class_index: number of the class, counted from 0.
    """

    class_name: str
    score: float
    box_xyxy: tuple[float, float, float, float]
    class_index: int


def read_names(path: str | Path, count: int) -> list[str]:
    """Read a .names file: one class name a line; empty lines, and a byte order mark, are no names.

    Raises:
        DarknetFileError: it cannot be read, or does not hold `count` names.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DarknetFileError(f"{path}: cannot be read as a list of names ({error})") from error
    names = [line.strip() for line in lines if line.strip()]
    if len(names) != count:
        raise DarknetFileError(f"{path}: holds {len(names)} names, the cfg has {count} classes")
    return names


def choose_device(device: str | None = None) -> torch.device:
    """The device that was asked for, or else the first GPU, or else the CPU.

    Raises:
        ValueError: PyTorch does not know the device, or it is not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used: {reason}") from error
    return torch.device(device)


def default_size(network: Darknet, own: bool) -> InputSize:
    """Return the input size that a network of your own was trained with, or COCO_SIZE."""
    net = network.blocks[0]
    return (net.height, net.width) if own else COCO_SIZE


class Detector:
    """YOLOv3 with its weights, ready to detect.

    Args:
        model: `yolov3-tiny`, `yolov3` or `yolov3-spp`, trained on the 80 classes of COCO; the
            weights are downloaded once.
        cfg, weights, names: files of a model of your own, all three; `model` is then not used.
        size: of the network's input in pixels, a square's side or (height, width), multiples of
            32; by default what the cfg of your own model says, and 416 for the models of COCO.
        score_threshold: only objects with a score above it are reported.
        iou_threshold: of two boxes of one class that overlap more than this, the better one stays.
        device: such as `cpu` or `cuda:0`; by default the GPU if there is one.
        engine: the program that computes the network, see `speed/engines.py`.
        precision: of the arithmetic; which of them an engine has stands there. `fp16` needs a GPU.
        optimized: fold the batch norm (see `speed/fast.py`); without, the network runs as it is
            written.
        compiled: also run it through `torch.compile` (slow to start).
        calibration: for `int8`, photos like those to come, uint8 (H, W, 3), RGB; by default those
            of `sample_photos`.

    Raises:
        ValueError: an option that is not allowed, with its value.
        DarknetFileError: a file that cannot be used.
        DownloadError: weights that cannot be had.
    """

    def __init__(
        self,
        model: str = "yolov3-tiny",
        *,
        cfg: str | Path | None = None,
        weights: str | Path | None = None,
        names: str | Path | None = None,
        size: InputSize | None = None,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.45,
        device: str | None = None,
        engine: str = "torch",
        precision: str = "fp32",
        optimized: bool = True,
        compiled: bool = False,
        calibration: Sequence[np.ndarray] | None = None,
    ):
        for option, value in (("score", score_threshold), ("iou", iou_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"{option}_threshold must be from 0 to 1, got {value}")
        if not optimized and ((engine, precision) != ("torch", "fp32") or compiled):
            raise ValueError("engine, precision and compiled need optimized=True")
        cfg, weights, names = _model_files(model, cfg, weights, names)
        self.device = choose_device("cpu" if device is None and engine != "torch" else device)
        check_engine(engine, precision, self.device, compiled)
        with torch.device("meta"):  # no memory yet: the weights file fills it
            network = Darknet(cfg)
        if size is None:
            size = default_size(network, own=weights is not None)
        self.input_size = check_size(size, network.stride)
        self.class_names = read_names(names, _count_classes(network))
        if weights is None:
            weights = fetch(f"{model}.weights")  # last: a wrong option needs no download to show
        network.load_weights(weights)
        network.eval()
        self.outputs = network.outputs
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        if not optimized:
            self.network = network.to(self.device)
            return
        pictures = self._calibration_images(calibration) if precision == "int8" else []
        options = (engine, self.input_size, precision, self.device, compiled, pictures)
        self.network = build_network(network, *options)

    def __call__(self, photo: np.ndarray) -> list[Detection]:
        """Detect in one photo, uint8 (H, W, 3), RGB; best first."""
        return self.detect_batch([photo])[0]

    def detect_batch(self, photos: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Detect in several photos, each uint8 (H, W, 3), RGB, of any size.

        Returns:
            For each photo its detections, best first.

        Raises:
            ValueError: a photo that is not uint8 RGB.
        """
        if not photos:
            return []
        images, letterboxes = self.preprocess(photos)
        return self.postprocess(self.forward(images), letterboxes)

    def preprocess(self, photos: Sequence[np.ndarray]) -> tuple[Tensor, list[Letterbox]]:
        """Letterbox photos into one batch: float32 (B, 3, height, width) in [0, 1]."""
        letterboxes = []
        for photo in photos:
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
                raise ValueError(
                    f"a photo must be uint8 (H, W, 3), got {photo.dtype} {tuple(photo.shape)}"
                )
            height, width = photo.shape[:2]
            letterboxes.append(Letterbox(width, height, self.input_size[1], self.input_size[0]))
        images = [box.apply(photo) for box, photo in zip(letterboxes, photos, strict=True)]
        batch = images[0][None] if len(images) == 1 else torch.stack(images)
        return batch.to(self.device, non_blocking=True), letterboxes

    def _calibration_images(self, photos: Sequence[np.ndarray] | None) -> list[Tensor]:
        """Letterbox the photos that int8 is calibrated with, (1, 3, height, width) each."""
        if photos is None:
            photos = [read_photo(path) for path in sample_photos().values()]
        return [self.preprocess([photo])[0] for photo in photos]

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[Tensor]:
        """The raw outputs, as `Darknet.forward` returns them."""
        return self.network(images)

    @torch.inference_mode()
    def postprocess(
        self, raw_outputs: list[Tensor], letterboxes: Sequence[Letterbox]
    ) -> list[list[Detection]]:
        """Turn raw outputs into detections in the pixels of the photos."""
        found = postprocess(
            raw_outputs, self.outputs, self.input_size, self.score_threshold, self.iou_threshold
        )
        return [
            self._describe(letterbox, *(part.cpu() for part in parts))
            for letterbox, parts in zip(letterboxes, found, strict=True)
        ]

    def _describe(
        self, letterbox: Letterbox, boxes_xyxy: Tensor, scores: Tensor, labels: Tensor
    ) -> list[Detection]:
        edge = boxes_xyxy.new_tensor((letterbox.photo_width, letterbox.photo_height) * 2)
        boxes_xyxy = letterbox.to_photo(boxes_xyxy).clamp(min=0).minimum(edge)
        rows = zip(boxes_xyxy.tolist(), scores.tolist(), labels.tolist(), strict=True)
        return [Detection(self.class_names[c], score, tuple(box), c) for box, score, c in rows]


def _model_files(
    model: str, cfg: str | Path | None, weights: str | Path | None, names: str | Path | None
) -> tuple[str | Path, str | Path | None, str | Path]:
    """The cfg, weights and names files; weights is None where they are still to be fetched."""
    given = [file for file in (cfg, weights, names) if file is not None]
    if len(given) == 3:
        return given[0], given[1], given[2]
    if given:
        raise ValueError("a model of your own needs all three files: cfg, weights and names")
    if model not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, got {model!r}")
    return NETWORKS / f"{model}.cfg", None, NETWORKS / "coco.names"


def _count_classes(network: Darknet) -> int:
    counts = {output.classes for output in network.outputs}
    if len(counts) != 1:
        found = f"blocks with {', '.join(map(str, sorted(counts)))} classes" if counts else "none"
        raise DarknetFileError(
            f"{network.cfg_path}: a detector needs [yolo] blocks of one number of classes, "
            f"found {found}"
        )
    return counts.pop()
