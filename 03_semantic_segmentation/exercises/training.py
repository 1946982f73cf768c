"""Checks of the exercises 03.8 and 03.9: a trained model, and a folder of the reader's own.

The model is measured on scenes that are drawn here. The folder is read as `train.py` reads it.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.checking.check import exercise, is_blank
from common.checking.compare import kind
from common.checking.sandbox import Attempt, BlankAnswerError, WrongAnswerError
from common.masks import IGNORE_INDEX
from common.street.scenes import SEMANTIC_CLASSES, draw_scene
from dataset import SegmentationDataset
from metrics import ConfusionMatrix

GOAL = 0.22  # mean IoU
MOST_PARAMETERS = 50_000
HIDDEN_SEEDS = range(70_000, 70_024)
SCENE_SIZE = (96, 72)  # width, height
FEWEST_PICTURES = 5


def scene_tensors(seeds: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Draw small scenes: images (N, 3, 72, 96), float in 0..1, and labels (N, 72, 96), uint8."""
    scenes = [draw_scene(seed, *SCENE_SIZE) for seed in seeds]
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    labels = torch.from_numpy(np.stack([scene.semantic for scene in scenes]))
    return images.permute(0, 3, 1, 2) / 255, labels


def scene_batches(seeds: Iterable[int], batch_size: int = 8) -> list[tuple[Tensor, dict[str, Any]]]:
    """Draw small scenes as batches (images, targets), as the loop in `engine.py` takes them."""
    images, labels = scene_tensors(seeds)
    ids = torch.arange(len(images))
    parts = zip(*(one.split(batch_size) for one in (images, labels, ids)), strict=True)
    return [(a, {"labels": b, "image_id": c.tolist()}) for a, b, c in parts]


@cache
def hidden_scenes() -> tuple[Tensor, Tensor]:
    """Draw the scenes that judge a model, once."""
    return scene_tensors(HIDDEN_SEEDS)


@exercise("03.8", "A U-Net under a budget", seconds=30)
def unet_under_a_budget(attempt: Attempt) -> None:
    """A trained model: few parameters, and a mean IoU on unseen scenes."""
    model = attempt.answer
    if is_blank(model):
        raise BlankAnswerError("the answer is still blank")
    if not isinstance(model, nn.Module):
        raise WrongAnswerError(f"the answer is {kind(model)}; expected is a model (nn.Module)")
    parameters = sum(p.numel() for p in model.parameters())
    if parameters > MOST_PARAMETERS:
        raise WrongAnswerError(
            f"the model has {parameters:,} parameters; {MOST_PARAMETERS:,} are allowed: "
            "fewer channels"
        )
    if any(part.training for part in model.modules()):
        raise WrongAnswerError(
            "the model is in training mode: its answer for a picture depends on the others of the "
            "batch; put it into evaluation mode"
        )
    images, labels = hidden_scenes()
    predicted = scores_of(attempt, model, images).argmax(dim=1)
    matrix = ConfusionMatrix(len(SEMANTIC_CLASSES))
    matrix.update(predicted, labels)
    if not matrix.mean_iou() >= GOAL:
        raise WrongAnswerError(too_low(matrix))


def scores_of(attempt: Attempt, model: nn.Module, images: Tensor) -> Tensor:
    """Return what the model gives for the pictures, (N, K, H, W), if it has the right form."""

    device = next((p.device for p in model.parameters()), images.device)

    def forward(images: Tensor) -> Tensor | dict[str, Tensor]:
        with torch.inference_mode():
            return model(images.to(device))

    came = attempt.run(forward, {"images": images})
    came = came.get("out") if isinstance(came, dict) else came
    N, _, H, W = images.shape
    expected = (N, len(SEMANTIC_CLASSES), H, W)
    if not isinstance(came, Tensor) or came.dtype == torch.bool:
        raise WrongAnswerError(
            f'the model gives {kind(came)}; expected are scores, or {{"out": scores}}'
        )
    if came.shape == (N, H, W):
        raise WrongAnswerError(
            "the model gives one number for each pixel; expected are scores of all classes"
        )
    if came.shape != expected:
        raise WrongAnswerError(
            f"the model's scores have shape {tuple(came.shape)}; expected is {expected}"
        )
    if not came.isfinite().all():
        raise WrongAnswerError("the model's scores are not all finite: the training went astray")
    return came.cpu()


def too_low(matrix: ConfusionMatrix) -> str:
    """Say how far away the goal is, and which classes are not found at all."""
    text = f"the mean IoU on unseen scenes is {matrix.mean_iou():.3f}; the goal is {GOAL}"
    claimed = matrix.counts.sum(0)
    if (claimed > 0).sum() == 1:
        only = SEMANTIC_CLASSES[int(claimed.argmax())]
        return f"{text}, and the answer is {only} everywhere"
    missed = [
        name for name, n in zip(SEMANTIC_CLASSES, matrix.counts.diag(), strict=True) if n == 0
    ]
    return f"{text}; not one pixel is right of: {', '.join(missed)}" if missed else text


@exercise("03.9", "Label five pictures of your own")
def label_five_pictures(attempt: Attempt) -> None:
    """The path of a folder; the lesson's own reader judges it."""
    folder = attempt.answer
    if is_blank(folder):
        raise BlankAnswerError("the answer is still blank")
    if not isinstance(folder, str | Path):
        raise WrongAnswerError(f"the answer is {kind(folder)}; expected is the path of a folder")
    try:
        dataset = SegmentationDataset.from_path(folder)
        if len(dataset) < FEWEST_PICTURES:
            raise WrongAnswerError(f"{len(dataset)} pairs of picture and mask; five are asked")
        check_content(dataset)
    except (OSError, ValueError) as error:  # WrongAnswerError is one of them
        raise WrongAnswerError(str(error)) from None


def check_content(dataset: SegmentationDataset) -> None:
    """Read all pairs: different pictures, something labelled in each, every class somewhere.

    Raises:
        WrongAnswerError: naming the file or the class. PhotoError: a picture is damaged.
    """
    seen: dict[bytes, str] = {}
    found = torch.zeros(256, dtype=torch.int64)
    for index in range(len(dataset)):
        image, target = dataset[index]
        name = dataset.image_path(index).name
        first = seen.setdefault(image.numpy().tobytes(), name)
        if first != name:
            raise WrongAnswerError(f"{first} and {name} are the same picture")
        counts = torch.bincount(target["labels"].as_subclass(Tensor).flatten(), minlength=256)
        if not counts[: len(dataset.class_names)].any():
            raise WrongAnswerError(f"the mask of {name} has no labelled pixel: all are ignored")
        found += counts
    missing = [name for k, name in enumerate(dataset.class_names) if not found[k]]
    if missing:
        ignored = int(found[IGNORE_INDEX])
        raise WrongAnswerError(
            f"no mask has a pixel of the class {missing[0]!r}: label one, or take the class out of "
            "the table" + (f"; {ignored} pixels are read as ignored" if ignored else "")
        )
    if len(dataset.class_names) < 2:
        raise WrongAnswerError(
            "there is one class only: a second one is needed, if only background"
        )
