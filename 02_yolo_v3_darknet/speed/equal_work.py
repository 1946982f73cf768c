"""What `benchmark.py` needs besides a clock: weights, equal work, and the speed of loading."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou

from boxes import Letterbox
from common.photos import read_photo
from darknet.cfg import Yolo
from darknet.network import ConvolutionStage, Darknet
from speed.pipelines import Found, OpenCVPipeline, OurPipeline, Pipeline, Work, find

RESIDUAL_SCALE = 0.3  # keeps the sums of 23 residual blocks from growing
OUTPUT_SCALE, OUTPUT_BIAS = 0.01, -5.0  # objectness 0.7 %: few detections, as in a real photo
MIN_IOU = 0.9
# (largest difference of scores, of raw outputs as a share of their range)
TOLERANCES = {"full": (0.01, 1e-3), "half": (0.1, 0.1)}


@torch.no_grad()
def write_random_weights(cfg: str | Path, path: str | Path, seed: int = 0) -> None:
    """Write a .weights file of random values that keep the maps of a network in a normal range.

    Values that vanish or explode on their way would be slower to compute with than real ones.
    """
    network = Darknet(cfg)
    random = torch.Generator().manual_seed(seed)
    layers = network.layers
    outputs = {layer.sources[0] for layer in layers if isinstance(layer.block, Yolo)}
    residual = {layer.index - 1 for layer in layers if layer.kind == "shortcut"}
    for index, stage in enumerate(network.stages):
        if not isinstance(stage, ConvolutionStage):
            continue
        kernels = stage.conv.weight
        kernels.normal_(0, (2 / kernels[0].numel()) ** 0.5, generator=random)
        if index in outputs:
            kernels.mul_(OUTPUT_SCALE)
            stage.conv.bias.fill_(OUTPUT_BIAS)
        elif index in residual and stage.norm is not None:
            stage.norm.weight.fill_(RESIDUAL_SCALE)
    network.save_weights(path)


def loading_seconds(cfg: str | Path, weights: str | Path, repeats: int = 7) -> tuple[float, float]:
    """Median seconds of filling a network from its file, and of reading the file into memory.

    They take turns, after a first reading that brings the file into the system's cache.
    """
    loading, reading = [], []
    Path(weights).read_bytes()
    for _ in range(repeats):
        start = time.perf_counter()
        content = Path(weights).read_bytes()
        reading.append(time.perf_counter() - start)
        del content
        with torch.device("meta"):  # without memory: loading has to provide it
            network = Darknet(cfg)
        start = time.perf_counter()
        network.load_weights(weights)
        loading.append(time.perf_counter() - start)
        del network
    return statistics.median(loading), statistics.median(reading)


def square_photo(work: Work) -> np.ndarray:
    """The photo as uint8 (size, size, 3), letterboxed: squashing it or not is then the same."""
    photo = read_photo(work.photo)
    image = Letterbox(photo.shape[1], photo.shape[0], work.size, work.size).apply(photo)
    return (image.permute(1, 2, 0) * 255).round().byte().contiguous().numpy()


def unmatched(found: Sequence[Found], others: Sequence[Found], tolerance: float) -> list[Found]:
    """Those in `found` without a partner in `others`: same class, IoU >= 0.9, score within
    `tolerance`."""
    lonely = []
    for label, score, box_xyxy in found:
        near = [box for c, s, box in others if c == label and abs(s - score) <= tolerance]
        if not near or box_iou(torch.tensor([box_xyxy]), torch.tensor(near)).max() < MIN_IOU:
            lonely.append((label, score, box_xyxy))
    return lonely


def detections_differ(
    found: Sequence[Found], others: Sequence[Found], tolerance: float, threshold: float
) -> bool:
    """Whether one list has a detection, clearly above the threshold, that the other has not."""
    clear = threshold + tolerance
    lonely = unmatched(found, others, tolerance) + unmatched(others, found, tolerance)
    return any(score > clear for _, score, _ in lonely)


def check_equal_work(pipelines: dict[str, Pipeline], work: Work) -> list[str]:
    """Compare what all variants find, and their raw outputs, with the first variant's.

    int8 is left out: its maps are other ones. What that costs is measured in AP.

    Returns:
        One line for each difference; none when all do the same work.
    """
    photo = square_photo(work)
    image = np.ascontiguousarray(photo.transpose(2, 0, 1)[None], dtype=np.float32) / 255
    first, reference = next(iter(pipelines.items()))
    expected, maps = find(reference, [photo])[0], None
    lines = []
    for name, pipeline in pipelines.items():
        if name.endswith("int8"):
            continue
        score_tolerance, map_tolerance = TOLERANCES["half" if name.endswith("bf16") else "full"]
        found = find(pipeline, [photo])[0]
        if detections_differ(found, expected, score_tolerance, work.score_threshold):
            lines.append(f"{name} and {first} find different boxes: {found} and {expected}")
        if not isinstance(pipeline, (OurPipeline, OpenCVPipeline)):
            continue  # Darknet keeps its raw outputs to itself
        raw = pipeline.maps(image)
        maps = raw if maps is None else maps
        difference = max(map(relative_difference, raw, maps))
        if not difference <= map_tolerance:  # NaN, too, is a difference
            lines.append(f"{name}: raw outputs differ by {difference:.1e} of their range")
    return lines


def relative_difference(values: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference as a share of the reference's range; infinite for other shapes."""
    if values.shape != reference.shape:
        return float("inf")
    return float(np.abs(values - reference).max() / np.ptp(reference))
