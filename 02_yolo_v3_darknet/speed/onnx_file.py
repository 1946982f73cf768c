"""A network as an ONNX graph, which other programs read."""

import io
import json
import warnings
from inspect import signature

import onnx
import torch
from torch import Tensor, nn

from darknet.network import Darknet, run_layers
from speed.fast import folded

OPSET = 17  # the newest that PyTorch's older exporter writes in all versions from 2.4 on


class RawDarknet(nn.Module):
    """A network without the checks of its input, which an exported graph has no place for.

    Args:
        model: the network.
        input_size: (height, width) in pixels.
    """

    def __init__(self, model: Darknet, input_size: tuple[int, int]):
        super().__init__()
        self.stages, self.layers, self.outputs = model.stages, model.layers, model.outputs
        self.input_size = input_size

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to the maps of the outputs."""
        return tuple(run_layers(self.layers, self.stages, images))


def raw_onnx(model: Darknet, input_size: tuple[int, int]) -> bytes:
    """Write a network with its batch norm folded: `images` to `output_0`, `output_1`, ...

    Args:
        model: the network; it is not changed.
        input_size: (height, width) of its input in pixels; the batch is free.
    """
    network = RawDarknet(folded(model).cpu(), input_size)
    images = torch.zeros(1, model.blocks[0].channels, *input_size)
    return to_onnx(network, images, [f"output_{i}" for i in range(len(model.outputs))])


def to_onnx(
    network: nn.Module, images: Tensor, outputs: list[str], names: list[str] | None = None
) -> bytes:
    """Trace a network. PyTorch's older exporter is the one that all versions from 2.4 on have and
    that needs no further package.

    Args:
        network: in evaluation mode.
        images: (B, 3, H, W); of its shape B is free.
        outputs: names of what the network returns.
        names: class names, stored in the file as the metadata `names`, a JSON list.
    """
    options = {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Shapes become constants, as they should: height and width are fixed.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (images,),
            file,
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in ("images", *outputs)},
            opset_version=OPSET,
            **options,
        )
    model = onnx.load_from_string(file.getvalue())
    if names is not None:
        onnx.helper.set_model_props(model, {"names": json.dumps(names)})
    onnx.checker.check_model(model)
    return model.SerializeToString()
