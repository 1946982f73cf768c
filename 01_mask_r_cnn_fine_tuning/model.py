"""Faster R-CNN and Mask R-CNN on several backbones, made in the two ways torchvision offers.

Ren et al., "Faster R-CNN" (2015); He et al., "Mask R-CNN" (2017); Lin et al., "Feature Pyramid
Networks" (2017). The two ways:

1. Take a detector trained on COCO and swap its last layers (`resnet50`; `mobilenet_v3` for boxes).
2. Put the detector's parts on another backbone, with its own pyramid, anchors and RoIAlign
   (`efficientnet_lite0`, `mobilenet_v2`).

`num_classes` counts the background as class 0 everywhere, as torchvision does.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import detection as tv
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign

from common.checkpoint import load_weights
from common.choices import MAX_DETECTIONS
from common.efficientnet_lite import (
    ARCHITECTURE,
    IMAGE_MEAN,
    IMAGE_STD,
    PretrainedWeightsError,
    load_imagenet_weights,
)
from common.settings import read_run
from settings import BACKBONES, Settings

MASK_THRESHOLD = 0.5  # a pixel of a mask is the object's above it
MASK_HIDDEN = 256  # channels between a mask head's last two layers, as in the official tutorial

PYRAMID_CHANNELS = 64
BOX_UNITS = 256
MASK_CHANNELS = (64, 64)
ANCHOR_SIZES = ((24.0,), (56.0,), (128.0,))  # on strides 8, 16, 32: pixels, square root of area
ANCHOR_RATIOS = (0.5, 1.0, 2.5)  # height / width; standing people are about 2.5
CANONICAL_SCALE = 448  # below 224 pixels an object is read from stride 4: outlines need it
FIRST_LAYERS = {  # of the small backbones, down to stride 4: edges and textures, learned already
    "efficientnet_lite0": ("conv_stem", "bn1", "blocks.0", "blocks.1"),
    "mobilenet_v2": ("features.0", "features.1", "features.2", "features.3"),
}
SMALL_OPTIONS = {  # of the detectors on them
    "size_divisible": 16,  # 240 rows are seen as they are
    "box_batch_size_per_image": 64,
    "box_detections_per_img": 30,
}


def mask_rcnn(
    backbone: str = "resnet50", num_classes: int = 2, pretrained: bool = True, **options: Any
) -> tv.MaskRCNN:
    """Build Mask R-CNN: boxes, classes and a mask for each box.

    Args:
        backbone: one of BACKBONES.
        num_classes: classes of the data + 1 for the background.
        pretrained: start from COCO (`resnet50`) or ImageNet (the others) weights.
        options: `live_batch_norm=True` leaves batch norm unfrozen; all else goes to torchvision's
            `MaskRCNN` (`min_size`, `max_size`, `box_nms_thresh`, ...).

    Raises:
        ValueError: unknown backbone, or less than one class beside the background.
        PretrainedWeightsError: the weights cannot be had.
    """
    return _build(backbone, num_classes, pretrained, masks=True, **options)


def faster_rcnn(
    backbone: str = "resnet50", num_classes: int = 2, pretrained: bool = True, **options: Any
) -> tv.FasterRCNN:
    """Build Faster R-CNN: boxes and classes. Arguments and errors as for `mask_rcnn`.

    `mobilenet_v3` starts from COCO weights here, not from ImageNet's.
    """
    return _build(backbone, num_classes, pretrained, masks=False, **options)


def freeze_batch_norm(module: nn.Module) -> None:
    """Replace every BatchNorm2d by one whose statistics, scale and shift no longer change.

    Statistics of two images say little about a data set, and a detector's batch is that small.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            state = child.state_dict()
            state.pop("num_batches_tracked")
            frozen.load_state_dict(state)
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child)


def _build(
    backbone: str,
    num_classes: int,
    pretrained: bool,
    masks: bool,
    live_batch_norm: bool = False,
    **options: Any,
) -> tv.FasterRCNN:
    if backbone not in BACKBONES:
        raise ValueError(f"backbone is {backbone!r}; allowed are {', '.join(BACKBONES)}")
    if num_classes < 2:
        raise ValueError(
            f"num_classes is {num_classes}; at least 2: the background and one class of yours"
        )
    if backbone == "mobilenet_v3" and masks:
        raise ValueError("backbone mobilenet_v3 has no mask head; choose another, or --task boxes")
    if backbone in FIRST_LAYERS:
        body = SmallBackbone(backbone, pretrained=pretrained, live_batch_norm=live_batch_norm)
        return on_small_backbone(body, num_classes, masks, **options)
    try:
        model = _swap_heads(backbone, num_classes, pretrained, masks, **options)
    except URLError as error:
        raise PretrainedWeightsError(
            f"the pretrained weights of {backbone} cannot be downloaded ({error.reason}). Without "
            "a network use the backbone efficientnet_lite0: the preset street"
        ) from error
    if not live_batch_norm:
        freeze_batch_norm(model)
    return model


def _swap_heads(
    backbone: str, num_classes: int, pretrained: bool, masks: bool, **options: Any
) -> tv.FasterRCNN:
    """Way 1: keep all that COCO taught but the last layers, which are made anew."""
    builders = {
        ("resnet50", True): tv.maskrcnn_resnet50_fpn,
        ("resnet50", False): tv.fasterrcnn_resnet50_fpn,
        ("mobilenet_v3", False): tv.fasterrcnn_mobilenet_v3_large_fpn,
    }
    weights = "DEFAULT" if pretrained else None
    model = builders[backbone, masks](weights=weights, weights_backbone=None, **options)
    in_features = model.roi_heads.box_predictor.cls_score.in_features
    model.roi_heads.box_predictor = FastRCNNPredictor(in_features, num_classes)
    if masks:
        in_channels = model.roi_heads.mask_predictor.conv5_mask.in_channels
        model.roi_heads.mask_predictor = MaskRCNNPredictor(in_channels, MASK_HIDDEN, num_classes)
    return model


class SmallBackbone(nn.Module):
    """A small classifier's body and a feature pyramid (Lin et al., 2017) on strides 4 to 32.

    Its batch norm layers keep the statistics of ImageNet: each is a fixed scale and shift, and part
    of the convolution in front of it. FIRST_LAYERS do not learn.

    Args:
        name: a key of FIRST_LAYERS.
        out_channels: width of the pyramid.
        pretrained: whether to load the ImageNet weights.
        live_batch_norm: take the statistics from each batch instead.

    Attributes:
        statistics: `image_mean` and `image_std` of the pictures it was trained with.

    Raises:
        PretrainedWeightsError: the weights cannot be had.
    """

    def __init__(
        self,
        name: str = "efficientnet_lite0",
        out_channels: int = PYRAMID_CHANNELS,
        pretrained: bool = True,
        live_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if name == "mobilenet_v2":
            from common.mobilenet import MobileNetBody  # not loaded where it is not used

            self.body, channels = MobileNetBody(pretrained), MobileNetBody.channels
            self.statistics = {}  # torchvision's detectors assume those of its own weights
        else:
            maps = {"features_only": True, "out_indices": (1, 2, 3, 4)}
            self.body = timm.create_model(ARCHITECTURE, **maps)
            channels = self.body.feature_info.channels()
            self.statistics = {"image_mean": IMAGE_MEAN, "image_std": IMAGE_STD}
            if pretrained:
                load_imagenet_weights(self.body)
        if not live_batch_norm:
            fold_batch_norm(self.body)
        for layer in FIRST_LAYERS[name]:
            self.body.get_submodule(layer).requires_grad_(False)
        self.names = ("4", "8", "16", "32")  # each level's stride
        self.fpn = FeaturePyramidNetwork(channels, out_channels)
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the pyramid's levels of images (B, 3, H, W): {"4": (B, C, H / 4, W / 4), ...}."""
        features = self.body(images)
        return self.fpn(OrderedDict(zip(self.names, features, strict=True)))


def fold_batch_norm(module: nn.Module) -> None:
    """Make each batch norm a part of the convolution in front of it: the same function, sooner.

    Its scale becomes a part of the kernels and its shift the bias; both go on learning. Its
    statistics stay as they are, and so does the activation that timm's layers carry.
    """
    convolution = ""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            convolution = name
        elif isinstance(child, nn.BatchNorm2d):
            fused = fuse_conv_bn_eval(module.get_submodule(convolution).eval(), child.eval())
            fused.bias.requires_grad_(True)  # fuse_conv_bn_eval leaves it as the running mean was
            setattr(module, convolution, fused)
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            fold_batch_norm(child)


class ProposalsFromStride8(RegionProposalNetwork):
    """torchvision's region proposal network, without the finest level.

    Stride 4 has three quarters of all positions. The heads still read it for detail.
    """

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return proposals and losses, as torchvision's class does."""
        return super().forward(images, OrderedDict([*features.items()][1:]), targets)


def proposals_from_stride_8(
    rpn: RegionProposalNetwork, most_objects: int = 30
) -> ProposalsFromStride8:
    """Return the network with the same anchors and layers, for pictures with few objects."""
    proposals = max(60, most_objects)
    return ProposalsFromStride8(
        rpn.anchor_generator,
        rpn.head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=128,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 300, "testing": max(200, proposals)},  # of each level
        post_nms_top_n={"training": 150, "testing": proposals},
        nms_thresh=0.7,
    )


def on_small_backbone(
    body: SmallBackbone, num_classes: int, masks: bool, **options: Any
) -> tv.FasterRCNN:
    """Way 2 in full: every part is chosen for pictures of some 320 x 240 pixels and a CPU."""
    roi_align = {"featmap_names": body.names, "sampling_ratio": 2}
    roi_align |= {"canonical_scale": CANONICAL_SCALE}
    settings: dict[str, Any] = (
        SMALL_OPTIONS
        | body.statistics
        | {
            "rpn_anchor_generator": AnchorGenerator(ANCHOR_SIZES, (ANCHOR_RATIOS,) * 3),
            "box_roi_pool": MultiScaleRoIAlign(output_size=7, **roi_align),
            "box_head": TwoMLPHead(body.out_channels * 7 * 7, BOX_UNITS),
            "box_predictor": FastRCNNPredictor(BOX_UNITS, num_classes),
        }
    )
    if masks:
        settings |= {
            "mask_roi_pool": MultiScaleRoIAlign(output_size=14, **roi_align),
            "mask_head": MaskRCNNHeads(body.out_channels, MASK_CHANNELS, 1),
            "mask_predictor": MaskRCNNPredictor(MASK_CHANNELS[-1], MASK_CHANNELS[-1], num_classes),
        }
    model = (tv.MaskRCNN if masks else tv.FasterRCNN)(body, **(settings | options))
    model.rpn = proposals_from_stride_8(model.rpn, model.roi_heads.detections_per_img)
    start_undecided(model)
    return model.to(memory_format=torch.channels_last)


def start_undecided(model: tv.FasterRCNN) -> None:
    """Start the last layers near zero: every class and every mask pixel equally likely.

    With torchvision's initial values the first mask losses of so small a head are above 10; a
    coin's is 0.69.
    """
    heads = model.roi_heads
    layers = [heads.box_predictor.cls_score, heads.box_predictor.bbox_pred]
    if heads.has_mask():
        layers.append(heads.mask_predictor.mask_fcn_logits)
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)


def build_model(settings: Settings, num_classes: int, pretrained: bool | None = None) -> nn.Module:
    """Build the detector that the settings describe; see `model.mask_rcnn`."""
    builder = mask_rcnn if settings.task == "masks" else faster_rcnn
    trained = settings.pretrained if pretrained is None else pretrained
    shorter, longer = settings.image_size
    options = {"min_size": shorter, "max_size": longer}
    options["live_batch_norm"] = settings.batch_norm == "live"
    if settings.max_detections > MAX_DETECTIONS:  # torchvision's detectors keep as many, too
        options["box_detections_per_img"] = settings.max_detections
        options["rpn_post_nms_top_n_test"] = max(1000, settings.max_detections)
    return builder(settings.backbone, num_classes, trained, **options)


def load_detector(path: str | Path) -> tuple[nn.Module, tuple[str, ...], Settings]:
    """Build the model of a checkpoint, with its weights; return its class names and settings too.

    Raises:
        CheckpointError: see `common.settings.read_run`.
    """
    checkpoint, class_names, settings = read_run(path, Settings)
    model = build_model(settings, len(class_names) + 1, pretrained=False)
    load_weights(checkpoint, model)
    return model.eval(), class_names, settings
