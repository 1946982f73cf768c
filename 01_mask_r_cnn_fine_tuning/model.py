"""Faster R-CNN and Mask R-CNN on three backbones, made in the two ways torchvision offers.

Ren et al., "Faster R-CNN" (2015); He et al., "Mask R-CNN" (2017); Lin et al., "Feature Pyramid
Networks" (2017). The two ways:

1. Take a detector trained on COCO and swap its last layers (`resnet50`; `mobilenet_v3` for boxes).
2. Put the detector's parts on another backbone, with its own pyramid, anchors and RoIAlign
   (`efficientnet_lite0`; `mobilenet_v3` for masks).

`num_classes` counts the background as class 0 everywhere, as torchvision does.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V3_Large_Weights
from torchvision.models import detection as tv
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from backbone import LiteBackbone
from common.checkpoint import load_weights
from common.efficientnet_lite import IMAGE_MEAN, IMAGE_STD, PretrainedWeightsError
from common.presets import read_run
from refined_boxes import RefinedBoxes
from settings import Settings

BACKBONES = ("resnet50", "mobilenet_v3", "efficientnet_lite0")
MASK_HIDDEN = (
    256  # channels between a COCO mask head's two last layers, as in the official tutorial
)

PYRAMID_CHANNELS = 64
BOX_UNITS = 256
MASK_CHANNELS = (64, 64)
ANCHOR_SIZES = ((24.0,), (56.0,), (128.0,))  # on strides 8, 16, 32: pixels, square root of area
ANCHOR_RATIOS = (0.5, 1.0, 2.5)  # height / width; standing people are about 2.5
TRAINING_SIDE, MASK_SIDE, LONGEST_SIDE = 240, 264, 352  # pixels that the detector sees
CANONICAL_SCALE = 448  # below 112 pixels an object is read from stride 4: outlines need it


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


def mask_head_parameters(model: tv.FasterRCNN) -> list[nn.Parameter]:
    """List the parameters of the layers that draw masks; none for Faster R-CNN."""
    heads = model.roi_heads
    parts = (heads.mask_head, heads.mask_predictor) if heads.has_mask() else ()
    return [one for part in parts for one in part.parameters()]


def backbone_parameters(model: tv.FasterRCNN) -> list[nn.Parameter]:
    """List the parameters of the layers below the feature pyramid."""
    return list(model.backbone.body.parameters())


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
    if backbone == "efficientnet_lite0":
        body = LiteBackbone(
            PYRAMID_CHANNELS, pretrained=pretrained, live_batch_norm=live_batch_norm
        )
        model = on_lite_backbone(body, num_classes, masks, **options)
        return model.to(memory_format=torch.channels_last)
    try:
        if backbone == "mobilenet_v3" and masks:
            model = _on_mobilenet(num_classes, pretrained, **options)
        else:
            model = _swap_heads(backbone, num_classes, pretrained, masks, **options)
    except URLError as error:
        raise PretrainedWeightsError(
            f"the pretrained weights of {backbone} cannot be downloaded ({error.reason}). Without "
            "a network use the backbone efficientnet_lite0: the preset 'laptop'"
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


def _on_mobilenet(num_classes: int, pretrained: bool, **options: Any) -> tv.MaskRCNN:
    """Way 2 with torchvision's own pyramid on MobileNetV3: two levels and a pooled one."""
    body = mobilenet_backbone(
        backbone_name="mobilenet_v3_large",
        weights=MobileNet_V3_Large_Weights.DEFAULT if pretrained else None,
        fpn=True,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=4 if pretrained else 6,
    )
    sizes = ((32.0, 64.0, 128.0, 256.0, 512.0),) * 3
    anchors = AnchorGenerator(sizes, (ANCHOR_RATIOS,) * 3)
    return tv.MaskRCNN(body, num_classes, rpn_anchor_generator=anchors, **options)


class CoarseProposals(RegionProposalNetwork):
    """A region proposal network that leaves out the finest level.

    Stride 4 has three quarters of all positions. The second stage still reads it for
    detail.
    """

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return proposals and losses, as torchvision's class does."""
        levels = list(features.items())[1:]
        return super().forward(images, OrderedDict(levels), targets)


class SmallerInTraining(GeneralizedRCNNTransform):
    """Scale a picture's shorter side to the first of `min_size` in training, then to the last.

    On a picture a tenth larger a mask has more pixels to follow an outline with. Training on such
    pictures would leave time for fewer of them.
    """

    def torch_choice(self, k: list[int]) -> int:
        """Choose the training size of `k`, as torchvision's class would at random."""
        return k[0]


def on_lite_backbone(
    body: LiteBackbone, num_classes: int, masks: bool, **options: Any
) -> tv.FasterRCNN:
    """Way 2 in full: every part is chosen for pictures of some 320 x 240 pixels and a CPU."""
    anchors = AnchorGenerator(ANCHOR_SIZES, (ANCHOR_RATIOS,) * len(ANCHOR_SIZES))
    roi_align = MultiScaleRoIAlign(body.names, 7, 2, canonical_scale=CANONICAL_SCALE)
    settings: dict[str, Any] = {
        "min_size": (TRAINING_SIDE, MASK_SIDE) if masks else TRAINING_SIDE,
        "max_size": LONGEST_SIDE,
        "size_divisible": 16,
        "image_mean": IMAGE_MEAN,
        "image_std": IMAGE_STD,
        "rpn_anchor_generator": anchors,
        "rpn_pre_nms_top_n_train": 300,
        "rpn_pre_nms_top_n_test": 200,
        "rpn_post_nms_top_n_train": 150,
        "rpn_post_nms_top_n_test": 60,
        "rpn_batch_size_per_image": 128,
        "box_roi_pool": roi_align,
        "box_head": TwoMLPHead(body.out_channels * 7 * 7, BOX_UNITS),
        "box_predictor": FastRCNNPredictor(BOX_UNITS, num_classes),
        "box_batch_size_per_image": 64,
        "box_positive_fraction": 0.125,  # 8 a picture: masks cost most, and people are few
        "box_detections_per_img": 30,
    }
    if masks:
        settings |= {
            "mask_roi_pool": MultiScaleRoIAlign(body.names, 14, 2, canonical_scale=CANONICAL_SCALE),
            "mask_head": MaskRCNNHeads(body.out_channels, MASK_CHANNELS, 1),
            "mask_predictor": MaskRCNNPredictor(MASK_CHANNELS[-1], MASK_CHANNELS[-1], num_classes),
        }
    detector = tv.MaskRCNN if masks else tv.FasterRCNN
    model = detector(body, **(settings | options))
    model.rpn.__class__ = CoarseProposals
    model.roi_heads.__class__ = RefinedBoxes
    model.transform.__class__ = SmallerInTraining
    return _start_undecided(model)


def _start_undecided(model: tv.FasterRCNN) -> tv.FasterRCNN:
    """Start the last layers near zero: every class and every mask pixel equally likely.

    With torchvision's initial values the first mask losses are above 5; a coin's is 0.69.
    """
    heads = model.roi_heads
    small = {heads.box_predictor.cls_score: 0.01, heads.box_predictor.bbox_pred: 0.001}
    if heads.mask_predictor is not None:
        small[heads.mask_predictor.mask_fcn_logits] = 0.01
    for layer, standard_deviation in small.items():
        nn.init.normal_(layer.weight, std=standard_deviation)
        nn.init.zeros_(layer.bias)
    return model


def build_model(settings: Settings, num_classes: int, pretrained: bool | None = None) -> nn.Module:
    """Build the detector that the settings describe; see `model.mask_rcnn`."""
    builder = mask_rcnn if settings.task == "masks" else faster_rcnn
    trained = settings.pretrained if pretrained is None else pretrained
    size = settings.image_size
    options = {"min_size": size[0], "max_size": size[1]} if size else {}
    return builder(settings.backbone, num_classes, trained, **options)


def load_detector(path: str | Path) -> tuple[nn.Module, tuple[str, ...], Settings]:
    """Build the model of a checkpoint, with its weights; return its class names and settings too.

    Raises:
        CheckpointError: see `common.presets.read_run`.
    """
    checkpoint, class_names, settings = read_run(path, Settings)
    model = build_model(settings, len(class_names) + 1, pretrained=False)
    load_weights(checkpoint, model)
    return model.eval(), class_names, settings
