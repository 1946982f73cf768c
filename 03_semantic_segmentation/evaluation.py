"""Label maps of pictures of any size, in a bounded amount of memory, and a model measured by them.

A picture that fits into the window goes through the model whole. A larger one is cut into
overlapping windows. Where they overlap, class probabilities are averaged, and a window's pixels
weigh less towards its edges, where the model sees less of the surroundings.

Only one row of windows is held at a time: (K, window height, W) numbers, however high the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from metrics import ConfusionMatrix, summarize

DEFAULT_WINDOW = (240, 320)  # height, width
DEFAULT_OVERLAP = 0.25


@torch.inference_mode()
def predict_labels(
    model: nn.Module,
    image: Tensor,
    window: tuple[int, int] = DEFAULT_WINDOW,
    overlap: float = DEFAULT_OVERLAP,
) -> Tensor:
    """Return the label map of one picture.

    Args:
        model: of `networks.models`, in evaluation mode; its output of (1, 3, h, w) is a dict with
            "out" (1, K, h, w).
        image: (3, H, W), float in 0..1 or uint8, of any size from 1 x 1.
        window: (height, width) of the part that the model sees at once.
        overlap: share of a window that its neighbour covers too, 0 to below 1.

    Returns:
        uint8 (H, W) on the CPU: each pixel's most probable class; the first of equals.

    Raises:
        ValueError: the image is not (3, H, W) or empty; window or overlap out of range.
    """
    _check(image, window, overlap)
    device = next(model.parameters()).device
    height, width = image.shape[-2:]
    if height <= window[0] and width <= window[1]:
        logits = model(as_batch(image, device))["out"][0]  # (K, H, W)
        return logits.argmax(dim=0).to("cpu", torch.uint8)
    labels = torch.empty(height, width, dtype=torch.uint8)
    for top, rows in _strips(model, image, window, overlap, device):
        labels[top : top + rows.shape[1]] = rows.argmax(dim=0).to("cpu", torch.uint8)
    return labels


def as_batch(image: Tensor, device: torch.device) -> Tensor:
    """Return one picture (3, H, W), uint8 or float, as a batch (1, 3, H, W), float in 0..1."""
    batch = image[None].to(device)
    batch = batch / 255 if batch.dtype == torch.uint8 else batch.float()
    return batch.contiguous(memory_format=torch.channels_last)


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along a side; evenly spread, the last one ends at the edge."""
    if length <= window:
        return [0]
    step = max(1.0, window * (1 - overlap))
    count = int(np.ceil((length - window) / step)) + 1
    return np.linspace(0, length - window, count).round().astype(int).tolist()


def _strips(
    model: nn.Module,
    image: Tensor,
    window: tuple[int, int],
    overlap: float,
    device: torch.device,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (top, summed probabilities (K, rows, W)): rows that no later window touches."""
    height, width = image.shape[-2:]
    size = min(window[0], height), min(window[1], width)
    weight = _weights(size, device)  # (h, w)
    tops = window_starts(height, size[0], overlap)
    waiting = None
    for top, next_top in zip(tops, [*tops[1:], height], strict=True):
        strip = 0  # (K, h, W)
        for left in window_starts(width, size[1], overlap):
            part = image[:, top : top + size[0], left : left + size[1]]
            scores = model(as_batch(part, device))["out"][0].float().softmax(dim=0) * weight
            if isinstance(strip, int):
                strip = scores.new_zeros(len(scores), size[0], width)
            strip[:, :, left : left + size[1]] += scores
        if waiting is not None:
            strip[:, : waiting.shape[1]] += waiting
        done = next_top - top
        yield top, strip[:, :done]
        waiting = strip[:, done:].clone()


def _weights(size: tuple[int, int], device: torch.device) -> Tensor:
    """Return (h, w): 1 in the middle, falling in straight lines towards the edges, above 0."""
    ramps = []
    for length in size:
        position = torch.arange(length, device=device) + 0.5
        ramps.append(torch.minimum(position, length - position) / (length / 2))
    return ramps[0][:, None] * ramps[1]


def _check(image: Tensor, window: tuple[int, int], overlap: float) -> None:
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(f"image is {tuple(image.shape)}; (3, H, W) with pixels is allowed")
    if min(window) < 1:
        raise ValueError(f"window is {tuple(window)}; both sides have to be at least 1 pixel")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}; allowed are 0 to below 1")


def confusion_matrix(
    model: nn.Module,
    pictures: Iterable[tuple[Tensor, dict[str, Any]]],
    num_classes: int,
    window: tuple[int, int] = DEFAULT_WINDOW,
    progress: bool = True,
) -> ConfusionMatrix:
    """Predict every picture in its full size and count pixels by true and predicted class.

    Args:
        model: one of `networks.models`; it is left in the mode it was in.
        pictures: (image, target), such as a dataset with `evaluation_transforms`.
        num_classes: K.
        window: see `predict_labels`.
        progress: show a progress bar on stderr.
    """
    was_training = model.training
    model.eval()
    matrix = ConfusionMatrix(num_classes)
    for image, target in tqdm(pictures, "evaluating", disable=not progress, leave=False):
        matrix.update(predict_labels(model, image, window), target["labels"].as_subclass(Tensor))
    model.train(was_training)
    return matrix


def count_instances(
    model: nn.Module,
    dataset: Any,
    window: tuple[int, int] = DEFAULT_WINDOW,
    progress: bool = True,
) -> dict[str, dict[str, float]]:
    """Count the objects that a model's label maps hold, against those of the dataset.

    A label map does not say where one object ends and the next begins; how they are told apart
    is in `common.masks.instances`.

    Args:
        model, window, progress: as for `confusion_matrix`.
        dataset: of `dataset.py`, with `has_objects` and two classes; its transforms keep sizes.

    Returns:
        {"connected", "separated": {"true", "found", "matched": objects, "f1": 0..1}}, by how
        objects are made of the pixels of class 1.
    """
    # Here, as predicting needs none of it.
    from common.masks.instances import Counts, connected, count_objects, separated

    was_training = model.training
    model.eval()
    counts = {"connected": Counts(), "separated": Counts()}
    for index in tqdm(range(len(dataset)), "counting", disable=not progress, leave=False):
        foreground = predict_labels(model, dataset[index][0], window).numpy() == 1
        true = dataset.instances(index)
        counts["connected"] += count_objects(connected(foreground), true)
        counts["separated"] += count_objects(separated(foreground), true)
    model.train(was_training)
    return {way: {**asdict(one), "f1": one.f1} for way, one in counts.items()}


def evaluate(
    model: nn.Module,
    dataset: Any,
    window: tuple[int, int] = DEFAULT_WINDOW,
    progress: bool = True,
) -> dict[str, Any]:
    """Return the metrics of a model on a dataset of `dataset.py`; see `metrics.summarize`."""
    names = dataset.class_names
    return summarize(confusion_matrix(model, dataset, len(names), window, progress), names)
