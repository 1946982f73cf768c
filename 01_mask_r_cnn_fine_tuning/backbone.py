"""EfficientNet-Lite0 and a feature pyramid (Lin et al., 2017) as the backbone of a detector."""

from __future__ import annotations

from collections import OrderedDict

import timm
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from common.efficientnet_lite import ARCHITECTURE, fold_batch_norm, load_imagenet_weights


class LiteBackbone(nn.Module):
    """EfficientNet-Lite0 and a feature pyramid on strides 4, 8, 16 and 32.

    The batch norm layers are frozen: each is a fixed scale and shift, and is folded into the
    convolution in front of it, which is the same function.

    Args:
        out_channels: width of the pyramid.
        trainable_blocks: how many of the network's seven stages are trained, from the last.
        pretrained: whether to load the ImageNet weights.
        live_batch_norm: keep the batch norm layers, and train them on each batch's statistics.

    Raises:
        PretrainedWeightsError: the weights' package is not installed, or its file is another.
    """

    def __init__(
        self,
        out_channels: int = 64,
        trainable_blocks: int = 5,
        pretrained: bool = True,
        live_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.body = timm.create_model(ARCHITECTURE, features_only=True, out_indices=(1, 2, 3, 4))
        if pretrained:
            load_imagenet_weights(self.body)
        self.live_batch_norm = live_batch_norm
        if not live_batch_norm:
            fold_batch_norm(self.body)
        self.names = ("4", "8", "16", "32")  # each level's stride
        channels = self.body.feature_info.channels()  # 24, 40, 112, 320
        self.fpn = FeaturePyramidNetwork(channels, out_channels)
        self.out_channels = out_channels
        stages = len(self.body.blocks)
        if trainable_blocks < stages:
            frozen = [self.body.conv_stem, self.body.bn1, *self.body.blocks[:-trainable_blocks]]
            nn.ModuleList(frozen).requires_grad_(False)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the pyramid's levels of images (B, 3, H, W): {"4": (B, C, H / 4, W / 4), ...}."""
        features = self.body(images)
        return self.fpn(OrderedDict(zip(self.names, features, strict=True)))
