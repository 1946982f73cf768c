"""The programs that `benchmark.py` compares, each cut into the same three steps.

Every pipeline takes decoded photos, uint8 (H, W, 3), RGB, and gives for each photo a list of
(class index, score, (x1, y1, x2, y2)), boxes in pixels of the photo and cut at its edges.

As a program (`python -m speed.pipelines`), it runs one pipeline alone and prints how long it took
to load and how much memory it needed. So it must not import PyTorch for those that do without.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from common.photos import read_photo

if TYPE_CHECKING:
    from torch import Tensor

    from boxes import Letterbox

# Engine and precision: the lesson's own (see `speed/engines.py`), and OpenCV's importer.
VARIANTS = (
    "torch-fp32",
    "torch-bf16",
    "onnxruntime-fp32",
    "onnxruntime-int8",
    "openvino-fp32",
    "openvino-bf16",
    "openvino-int8",
    "opencv-fp32",
)
OPENCV = VARIANTS[-1]

Found = tuple[int, float, tuple[float, float, float, float]]


@dataclasses.dataclass(frozen=True)
class Work:
    """What all variants have to do alike.

    Attributes:
        cfg, weights, names, photo: paths.
        size: side of the square network input in pixels.
        threads: how many each library may use on the CPU.
        score_threshold, iou_threshold: as in `Detector`.
    """

    cfg: str
    weights: str
    names: str
    photo: str
    size: int = 416
    threads: int = 1
    score_threshold: float = 0.25
    iou_threshold: float = 0.45


class Pipeline(Protocol):
    """One program, in three steps."""

    def preprocess(self, photos: Sequence[np.ndarray]) -> Any:
        """Photos to network input."""

    def forward(self, prepared: Any) -> Any:
        """Network input to raw outputs; returns when they are computed."""

    def postprocess(self, raw: Any) -> list[list[Found]]:
        """Raw outputs to boxes in the pixels of each photo."""


def find(pipeline: Pipeline, photos: Sequence[np.ndarray]) -> list[list[Found]]:
    """Photo to boxes: the three steps in one chain."""
    return pipeline.postprocess(pipeline.forward(pipeline.preprocess(photos)))


class OurPipeline:
    """`Detector` on the CPU, with the engine and precision of a variant."""

    def __init__(self, work: Work, variant: str):
        # Here and not above: the memory of the other pipelines must not contain PyTorch.
        import torch

        from detector import Detector

        torch.set_num_threads(work.threads)
        engine, precision = variant.split("-")
        self.detector = Detector(
            cfg=work.cfg,
            weights=work.weights,
            names=work.names,
            size=work.size,
            score_threshold=work.score_threshold,
            iou_threshold=work.iou_threshold,
            device="cpu",
            engine=engine,
            precision=precision,
        )

    def preprocess(self, photos: Sequence[np.ndarray]) -> tuple["Tensor", list["Letterbox"]]:
        """Letterbox, as Darknet does it."""
        return self.detector.preprocess(photos)

    def forward(
        self, prepared: tuple["Tensor", list["Letterbox"]]
    ) -> tuple[list["Tensor"], list["Letterbox"]]:
        """The raw outputs, and how to find the way back to the photos."""
        return self.detector.forward(prepared[0]), prepared[1]

    def postprocess(self, raw: tuple[list["Tensor"], list["Letterbox"]]) -> list[list[Found]]:
        """Decode, threshold, suppress, and back to the photo."""
        return [
            [(one.class_index, one.score, one.box_xyxy) for one in photo]
            for photo in self.detector.postprocess(*raw)
        ]

    def maps(self, images: np.ndarray) -> list[np.ndarray]:
        """The raw outputs, float32 (B, A * (5 + C), H, W) each, of float32 (B, 3, size, size)."""
        import torch

        return [raw.float().numpy() for raw in self.detector.forward(torch.from_numpy(images))]


class OpenCVPipeline:
    """OpenCV's own importer of Darknet networks, used the way its samples do.

    The photo is squashed into the square, which is OpenCV's habit and quicker than a letterbox; the
    network decodes its boxes inside `forward`. Thresholds and suppression are vectorised.
    """

    def __init__(self, work: Work):
        cv2.setNumThreads(work.threads)
        self.work = work
        try:
            self.network = cv2.dnn.readNetFromDarknet(work.cfg, work.weights)
        except cv2.error as error:
            raise ValueError(f"{work.cfg}, {work.weights}: OpenCV cannot read them") from error
        self.output_names = self.network.getUnconnectedOutLayersNames()

    def preprocess(self, photos: Sequence[np.ndarray]) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Photos to one float32 (B, 3, size, size) in [0, 1], and their (width, height)."""
        side = (self.work.size, self.work.size)
        blob = cv2.dnn.blobFromImages(photos, 1 / 255, side)
        return blob, [(photo.shape[1], photo.shape[0]) for photo in photos]

    def forward(
        self, prepared: tuple[np.ndarray, list[tuple[int, int]]]
    ) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
        """Rows of cx, cy, w, h (shares of the photo), objectness, class scores."""
        self.network.setInput(prepared[0])
        return self.network.forward(self.output_names), prepared[1]

    def postprocess(self, raw: tuple[list[np.ndarray], list[tuple[int, int]]]) -> list[list[Found]]:
        """Threshold, suppress class by class, scale to the photo."""
        rows, sizes = raw
        per_photo = [
            part.reshape(len(sizes), -1, part.shape[-1]) for part in rows
        ]  # (B, H * W * A, 5 + C) each
        return [
            self._boxes([part[index] for part in per_photo], *size)
            for index, size in enumerate(sizes)
        ]

    def _boxes(self, outputs: list[np.ndarray], width: int, height: int) -> list[Found]:
        threshold = self.work.score_threshold
        rows = np.concatenate([part[part[:, 4] > threshold] for part in outputs])  # (N, 5 + C)
        row, labels = np.nonzero(rows[:, 5:] > threshold)
        scores = rows[row, 5 + labels]
        boxes = rows[row, :4] * np.array([width, height, width, height], dtype=np.float32)
        boxes[:, :2] -= boxes[:, 2:] / 2  # x1, y1, w, h
        kept = cv2.dnn.NMSBoxesBatched(
            boxes.tolist(), scores.tolist(), labels.tolist(), threshold, self.work.iou_threshold
        )
        kept = np.array(kept, dtype=int).reshape(-1)
        boxes[:, 2:] += boxes[:, :2]  # x1, y1, x2, y2
        corners = boxes[kept].clip(0, [width, height, width, height]).tolist()
        found = zip(labels[kept].tolist(), scores[kept].tolist(), map(tuple, corners), strict=True)
        return sorted(found, key=lambda one: -one[1])

    def maps(self, images: np.ndarray) -> list[np.ndarray]:
        """What enters the [yolo] layers; see `OurPipeline.maps`."""
        # A network of its own: inner layers that are asked for cannot be fused with the next.
        network = cv2.dnn.readNetFromDarknet(self.work.cfg, self.work.weights)
        numbers = [int(name.rpartition("_")[2]) for name in self.output_names]
        network.setInput(images)
        return list(network.forward([f"conv_{number - 1}" for number in numbers]))


def build(variant: str, work: Work) -> Pipeline:
    """Load one of `VARIANTS`."""
    return OpenCVPipeline(work) if variant == OPENCV else OurPipeline(work, variant)


def peak_megabytes() -> float | None:
    """The most memory (resident, 10^6 bytes) that this process ever held; None on Windows."""
    try:
        # Not getrusage, which on Linux starts from the peak of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        try:
            import resource
        except ImportError:
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes, on macOS


def load_and_run(variant: str, work: Work, photos: Sequence[np.ndarray]) -> float:
    """Seconds from the files to the end of the first `forward`: only then is all prepared."""
    start = time.perf_counter()
    pipeline = build(variant, work)
    prepared = pipeline.preprocess(photos[:1])
    pipeline.forward(prepared)
    seconds = time.perf_counter() - start
    find(pipeline, photos)
    return seconds


def main(arguments: list[str]) -> int:
    """Print {"load_s", "peak_mb"} of one variant; arguments: its name, `Work` as JSON, batch,
    number of loads."""
    variant, work_json, batch, loads = arguments
    work = Work(**json.loads(work_json))
    photos = [read_photo(work.photo)] * int(batch)
    if variant != OPENCV:
        import detector  # noqa: F401 (importing PyTorch is not part of loading a model)
    seconds = [load_and_run(variant, work, photos)]
    peak = peak_megabytes()
    seconds += [load_and_run(variant, work, photos[:1]) for _ in range(int(loads) - 1)]
    print(json.dumps({"load_s": statistics.median(seconds), "peak_mb": peak}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
