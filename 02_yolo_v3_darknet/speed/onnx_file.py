"""The network as an ONNX graph of its raw outputs."""

import torch
from torch import Tensor, nn

from common.onnx_export import to_onnx
from darknet.network import Darknet, run_layers
from speed.fast import folded


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
