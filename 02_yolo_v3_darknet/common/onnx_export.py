"""A network as an ONNX graph, which other programs read."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import signature

import onnx
import torch
from torch import Tensor, nn

OPSET = 17  # the newest that PyTorch's older exporter writes in all versions from 2.4 on


class ExportError(ValueError):
    """A network cannot be exported, or the exported one does not give what PyTorch gives."""


def to_onnx(
    network: nn.Module,
    images: Tensor,
    outputs: Sequence[str],
    class_names: Sequence[str] | None = None,
    *,
    input_name: str = "images",
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    edit: Callable[[onnx.ModelProto], None] | None = None,
) -> bytes:
    """Trace a network. PyTorch's older exporter is the one that all versions from 2.4 on have and
    that needs no further package.

    Args:
        network: in evaluation mode.
        images: what it is traced with, such as (B, 3, H, W).
        outputs: names of what the network returns.
        class_names: stored in the file as the metadata `names`, a JSON list.
        input_name: of the images.
        dynamic_axes: which axes are free, as {input or output: {axis: word}}; all others become
            constants. None: the first one of each, the batch.
        edit: changes the graph before it is checked.
    """
    if dynamic_axes is None:
        dynamic_axes = {name: {0: "batch"} for name in (input_name, *outputs)}
    options = {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # It warns of each size that becomes a constant, and of each `if` on one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (images,),
            file,
            input_names=[input_name],
            output_names=list(outputs),
            dynamic_axes=dynamic_axes,
            opset_version=OPSET,
            **options,
        )
    model = onnx.load_from_string(file.getvalue())
    if edit is not None:
        edit(model)
    if class_names is not None:
        onnx.helper.set_model_props(model, {"names": json.dumps(list(class_names))})
    onnx.checker.check_model(model)
    return model.SerializeToString()
