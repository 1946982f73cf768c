"""A Darknet network as a PyTorch module, built from its .cfg file.

Implements the layers that YOLOv3 (Redmon and Farhadi, 2018, https://arxiv.org/abs/1804.02767) and
its relatives are made of. In evaluation mode the outputs are those of Darknet on a CPU up to
float32 rounding.

Deviation: in training mode, batch normalisation is PyTorch's (variance with N in the running of a
batch, running statistics with a momentum of 0.1; Darknet divides by N - 1 and uses 0.01).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darknet import weights
from darknet.cfg import (
    Convolutional,
    DarknetFileError,
    Maxpool,
    Route,
    Shortcut,
    Upsample,
    Yolo,
    parse_cfg,
)
from darknet.layers import Layer, format_plan, input_stride, plan_layers

__all__ = ["Darknet", "DarknetFileError", "parse_cfg"]

LEAKY_SLOPE = 0.1
BATCH_NORM_EPSILON = 1e-6  # Darknet on a CPU adds it to the standard deviation


def activate(x: Tensor, name: str) -> Tensor:
    """Apply the activation `name` of a cfg file to a tensor of any shape."""
    if name == "leaky":
        return F.leaky_relu(x, LEAKY_SLOPE)
    functions = {"relu": F.relu, "mish": F.mish, "logistic": torch.sigmoid, "linear": lambda x: x}
    return functions[name](x)


class DarknetBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation as Darknet computes it on a CPU:
    y = weight (x - mean) / (sqrt(var) + 1e-6) + bias.

    Later versions of its kernel for GPUs divide by sqrt(var + 1e-5), as PyTorch does.
    """

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The same in evaluation mode as y = scale * x + shift; two tensors of shape (C,)."""
        scale = self.weight / (self.running_var.sqrt() + BATCH_NORM_EPSILON)
        return scale, self.bias - scale * self.running_mean

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        scale, shift = self.scale_and_shift()
        return x * scale[:, None, None] + shift[:, None, None]


class ConvolutionStage(nn.Module):
    """[convolutional]: (B, C_in, H, W) -> (B, filters, H_out, W_out)."""

    def __init__(self, block: Convolutional, in_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            block.filters,
            block.size,
            block.stride,
            block.padding_pixels,
            groups=block.groups,
            bias=not block.batch_normalize,
        )
        self.norm = DarknetBatchNorm2d(block.filters, eps=1e-6) if block.batch_normalize else None
        self.activation = block.activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return activate(x, self.activation)


class MaxpoolStage(nn.Module):
    """[maxpool]: windows may reach over the edge; what lies outside never wins."""

    def __init__(self, block: Maxpool):
        super().__init__()
        self.window, self.stride = block.window, block.stride
        before = block.padding_pixels // 2
        self.padding = (before, block.padding_pixels - before)

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.padding
        if before == after and before <= self.window // 2:
            return F.max_pool2d(x, self.window, self.stride, before)
        if self.window == self.stride and not (
            x.shape[-1] % self.stride or x.shape[-2] % self.stride
        ):
            return F.max_pool2d(x, self.window, self.stride)  # no window reaches the padding
        # The edge once more never wins over itself. Minus infinity would do as well, but is no
        # number that eight bits can count up to.
        x = F.pad(x, (before, after, before, after), mode="replicate")
        return F.max_pool2d(x, self.window, self.stride)


class UpsampleStage(nn.Module):
    """[upsample]: (B, C, H, W) -> (B, C, stride * H, stride * W), nearest neighbour."""

    def __init__(self, block: Upsample):
        super().__init__()
        self.stride = block.stride

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.stride, mode="nearest")


class RouteStage(nn.Module):
    """[route]: joins maps along the channels, then takes group `group_id` of `groups`."""

    def __init__(self, block: Route):
        super().__init__()
        self.groups, self.group_id = block.groups, block.group_id

    def forward(self, *maps: Tensor) -> Tensor:
        x = torch.cat(maps, dim=1) if len(maps) > 1 else maps[0]
        return x.chunk(self.groups, dim=1)[self.group_id] if self.groups > 1 else x


class ShortcutStage(nn.Module):
    """[shortcut]: the sum of two maps of one size, with the channels of the first.

    Where the second has fewer channels, the rest of the first stays; where it has more, they are
    left out.
    """

    def __init__(self, block: Shortcut):
        super().__init__()
        self.activation = block.activation

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        missing = x.shape[1] - skipped.shape[1]
        if missing < 0:
            skipped = skipped[:, :missing]
        elif missing > 0:
            skipped = F.pad(skipped, (0, 0, 0, 0, 0, missing))
        return activate(x + skipped, self.activation)


def build_stage(layer: Layer) -> nn.Module:
    """The module of one planned layer."""
    block = layer.block
    if isinstance(block, Convolutional):
        return ConvolutionStage(block, layer.in_shape[0])
    stages = {
        Maxpool: MaxpoolStage,
        Upsample: UpsampleStage,
        Route: RouteStage,
        Shortcut: ShortcutStage,
    }
    return nn.Identity() if isinstance(block, Yolo) else stages[type(block)](block)


def run_layers(layers: list[Layer], stages: nn.ModuleList, images: Tensor) -> list[Tensor]:
    """Send images through the stages and return the maps of the [yolo] layers, in their order.

    A map is forgotten as soon as no later layer reads it, which keeps memory low.
    """
    last_use = {source: layer.index for layer in layers for source in layer.sources}
    maps = {-1: images}
    outputs = []
    for layer, stage in zip(layers, stages, strict=True):
        result = stage(*(maps[source] for source in layer.sources))
        if isinstance(layer.block, Yolo):
            outputs.append(result)
        for source in set(layer.sources):
            if last_use[source] == layer.index:
                del maps[source]
        maps[layer.index] = result
    return outputs


class Darknet(nn.Module):
    """The network of a .cfg file.

    Args:
        cfg_path: the .cfg file.

    Attributes:
        layers: the plan, one `Layer` each (shapes for the size in [net]).
        outputs: the [yolo] blocks, in the order of `forward`'s results.
        stride: input sizes other than [net]'s own must be multiples of it (32 for the YOLOv3
            family).
        header: version and `seen` counter of the weights file that was loaded last.

    Raises:
        DarknetFileError: see `parse_cfg` and `plan_layers`.
    """

    def __init__(self, cfg_path: str | Path):
        super().__init__()
        self.cfg_path = Path(cfg_path)
        self.blocks = parse_cfg(cfg_path)
        self.layers = plan_layers(self.blocks, cfg_path)
        self.outputs = [layer.block for layer in self.layers if isinstance(layer.block, Yolo)]
        self.stride = input_stride(self.layers)
        self.header = weights.Header()
        self.stages = nn.ModuleList(build_stage(layer) for layer in self.layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the raw outputs.

        Args:
            images: float32 (B, channels, H, W), RGB in [0, 1]; H and W those of [net], or multiples
                of `stride`.

        Returns:
            One tensor (B, A * (5 + C), H / s, W / s) for each [yolo] block: A anchors, each with
            tx, ty, tw, th, objectness and C class scores, all before the logistic function (paper,
            section 2.1).

        Raises:
            ValueError: a wrong number of dimensions or channels, or a size that is no multiple of
                `stride`.
        """
        self.check_images(images)
        return run_layers(self.layers, self.stages, images)

    def check_images(self, images: Tensor) -> None:
        """Raise the `ValueError` of `forward` for a tensor that does not fit."""
        net = self.blocks[0]
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != net.channels:
            raise ValueError(f"images must have shape (B, {net.channels}, H, W), got {shape}")
        if shape[2:] == (net.height, net.width):
            return
        if min(shape[2:]) < self.stride or shape[2] % self.stride or shape[3] % self.stride:
            raise ValueError(
                f"height and width must be multiples of {self.stride}, got {shape[2:]}"
            )

    def load_weights(self, path: str | Path, partial: bool = False) -> weights.LoadReport:
        """Fill the network from a .weights file; see `darknet.weights.load_weights`."""
        return weights.load_weights(self, path, partial)

    def save_weights(self, path: str | Path, layers: int | None = None) -> None:
        """Write the network as a .weights file; see `darknet.weights.save_weights`."""
        weights.save_weights(self, path, layers)

    def summary(self, size: tuple[int, int] | None = None) -> str:
        """The table of layers, for an input of `size` (height, width) pixels or [net]'s own."""
        return format_plan(plan_layers(self.blocks, self.cfg_path, size))
