"""The shapes of the lessons' networks, read from the networks themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from lesson_modules import DETR, MASK_RCNN, SEMANTIC, YOLO

Shape = tuple[int, ...]


def watch(model: nn.Module, layers: Sequence[str], *inputs: Any) -> dict[str, Any]:
    """Run a model and return, for each named layer, the shapes of what it put out first.

    Args:
        model: in evaluation mode.
        layers: names as `named_modules` gives them.
        inputs: for the model.

    Returns:
        For each name a shape, or a list or dict of shapes where the layer puts out several.
    """
    modules, seen = dict(model.named_modules()), {}

    def note(name: str) -> Any:
        def write_down(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen.setdefault(name, _shapes(output))

        return write_down

    handles = [modules[name].register_forward_hook(note(name)) for name in layers]
    with torch.inference_mode():
        model(*inputs)
    for handle in handles:
        handle.remove()
    return seen


def _shapes(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return tuple(output.shape)
    if isinstance(output, dict):
        return {name: _shapes(one) for name, one in output.items()}
    return [_shapes(one) for one in output]


@cache
def mask_rcnn() -> dict[str, Any]:
    """Shapes of lesson 01's small model on one street scene of its own size, random weights.

    The number of proposals depends on the weights; "most_proposals" is the model's own limit.
    """
    torch.manual_seed(0)
    with MASK_RCNN:
        lesson = MASK_RCNN.load("model")
        model = lesson.mask_rcnn(
            "efficientnet_lite0",
            2,
            pretrained=False,
            box_score_thresh=0.0,
            min_size=240,
        )
        layers = ("backbone.body", "backbone", "rpn.head", "roi_heads.box_roi_pool")
        heads = ("box_head", "box_predictor", "mask_roi_pool", "mask_head", "mask_predictor")
        laterals = [f"backbone.fpn.inner_blocks.{k}" for k in range(4)]
        names = (*layers, *laterals, *(f"roi_heads.{head}" for head in heads))
        seen = watch(model.eval(), names, [torch.rand(3, 240, 320)])
    seen["backbone.inner"] = [seen.pop(name) for name in laterals]  # a sum has the same shape
    seen["most_proposals"] = model.rpn.post_nms_top_n()
    seen["anchors"] = model.rpn.anchor_generator.num_anchors_per_location()[0]
    return {name.removeprefix("roi_heads."): shape for name, shape in seen.items()}


@cache
def unet() -> dict[str, Any]:
    """Shapes of lesson 03's U-Net on one street scene: of its encoder, up blocks and head."""
    with SEMANTIC:
        classes = len(SEMANTIC.load("common.street.scenes").SEMANTIC_CLASSES)
        network = SEMANTIC.load("networks.models").unet(classes).network.eval()
        blocks = [f"decoder.blocks.{k}" for k in range(len(network.decoder.blocks))]
        images = torch.zeros(1, 3, 240, 320)
        seen = watch(network, ["encoder", *blocks, "head"], images)
    ups = [seen[name] for name in blocks]
    return seen | {"input": tuple(images.shape), "up": ups}


@cache
def yolo_layers(cfg: str = "yolov3") -> list[Any]:
    """The planned layers of a cfg file of lesson 02 at an input of 416 x 416."""
    with YOLO:
        blocks = YOLO.load("darknet.cfg").parse_cfg(YOLO.folder / "darknet/networks" / f"{cfg}.cfg")
        return YOLO.load("darknet.layers").plan_layers(blocks, size=(416, 416))


@cache
def deeplab() -> dict[str, Any]:
    """ASPP's rates and the shapes of torchvision's DeepLabV3, computed without any memory."""
    with SEMANTIC, torch.device("meta"):
        network = SEMANTIC.load("networks.models").deeplabv3(8, pretrained=False).network.eval()
        layers = ("backbone", "classifier.0", "classifier")
        seen = watch(network, layers, torch.zeros(1, 3, 240, 320))
    branches = network.classifier[0].convs
    rates = [m.dilation[0] for b in branches for m in b.modules() if isinstance(m, nn.Conv2d)]
    return seen | {"rates": [rate for rate in rates if rate > 1]}


@cache
def detr() -> dict[str, Any]:
    """Shapes of lesson 04's detector on one street scene, random weights and five classes.

    "maps" are the projected maps, fine to coarse, "memory" the places and their channels, "logits"
    and "boxes" the last stage, "layers" counts the decoder's.
    """
    torch.manual_seed(0)
    with DETR:
        model = DETR.load("detr").DETR(5, pretrained=False).eval()
        images = torch.zeros(1, 3, 240, 320)
        names = [f"project.{k}" for k in range(3)]
        seen = watch(model, [*names, "memory_norm"], images)
        with torch.inference_mode():
            outputs = model(images)
    last = {"logits": outputs["logits"][-1], "boxes": outputs["boxes_cxcywh"][-1]}
    shapes = {name: tuple(value.shape[1:]) for name, value in last.items()}
    maps = [seen[name][1:] for name in names]
    return {
        **shapes,
        "input": tuple(images.shape[1:]),
        "maps": maps,
        "memory": seen["memory_norm"][1:],
        "layers": len(model.layers),
    }
