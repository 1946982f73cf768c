"""The shape pass: from cfg blocks to a list of layers with their inputs, shapes and sizes.

One pass over the blocks settles everything about a network that can be known without building it.
The network (`darknet.network.Darknet`), its printed summary and the weights reader all use its
result, and a cfg that asks for too much memory is refused here, before anything is allocated.
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from darknet.cfg import (
    Block,
    Convolutional,
    DarknetFileError,
    Maxpool,
    Net,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)

MAX_PARAMETERS = 2**27  # 512 MiB of float32; yolov3 has 62 million
MAX_MAP_ELEMENTS = 2**27  # of one layer's output, for one photo

Shape = tuple[int, int, int]  # channels, height, width


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of the plan.

    Attributes:
        index: number of the layer, counted from 0 as Darknet does ([net] is not counted).
        block: the cfg block that asks for it.
        sources: indices of the layers whose outputs it reads; -1 is the network's input.
        in_shape, out_shape: (channels, height, width) for the planned input size. `in_shape` of a
            route is that of the joined maps, before it takes its group.
        parameters: how many float32 numbers the weights file holds for it.
    """

    index: int
    block: Block
    sources: tuple[int, ...]
    in_shape: Shape
    out_shape: Shape
    parameters: int

    @property
    def kind(self) -> str:
        return type(self.block).__name__.lower()


def plan_layers(
    blocks: Sequence[Block], path: str | Path = "cfg", size: tuple[int, int] | None = None
) -> list[Layer]:
    """Follow the shapes through the network.

    Args:
        blocks: what `parse_cfg` returned.
        path: the file's name, for error messages.
        size: (height, width) of the input in pixels; without it, what [net] says.

    Returns:
        One `Layer` for each block after [net].

    Raises:
        DarknetFileError: the blocks do not fit together, or ask for more than `MAX_PARAMETERS`
            weights or a map of more than `MAX_MAP_ELEMENTS`. Names the file and the line.
    """
    net = blocks[0]
    assert isinstance(net, Net), "parse_cfg puts [net] first"
    height, width = size or (net.height, net.width)
    layers: list[Layer] = []
    total = 0
    for index, block in enumerate(blocks[1:]):
        try:
            sources = _sources(index, block, layers)
            shapes = [
                layers[s].out_shape if s >= 0 else (net.channels, height, width) for s in sources
            ]
            in_shape = _join(shapes, block)
            out_shape = _out_shape(block, in_shape)
            parameters = _count_parameters(block, in_shape)
            total += parameters
            _check_memory(total, out_shape)
        except ValueError as error:
            raise DarknetFileError(f"{path}, line {block.line}: layer {index}: {error}") from None
        layers.append(Layer(index, block, sources, in_shape, out_shape, parameters))
    return layers


def _sources(index: int, block: Block, layers: list[Layer]) -> tuple[int, ...]:
    if isinstance(block, Route):
        wanted: tuple[int, ...] = block.layers
        if not wanted:
            raise ValueError("[route] needs layers=")
    elif isinstance(block, Shortcut):
        if block.source is None:
            raise ValueError("[shortcut] needs from= with a layer before it")
        wanted = (-1, block.source)
    elif index == 0:
        return (-1,)  # the network's input
    else:
        wanted = (-1,)
    absolute = tuple(index + number if number < 0 else number for number in wanted)
    if index == 0:
        raise ValueError("is the first layer, there is none before it to read")
    for number, source in zip(wanted, absolute, strict=True):
        if not 0 <= source < index:
            raise ValueError(
                f"reads layer {number}, allowed are 0 to {index - 1} or -1 to -{index}"
            )
        if isinstance(layers[source].block, Yolo):
            raise ValueError(
                f"reads layer {source}, which is a [yolo] output and has no map to read"
            )
    return absolute


def _join(shapes: list[Shape], block: Block) -> Shape:
    if len({shape[1:] for shape in shapes}) > 1:
        sizes = ", ".join(f"{h} x {w}" for _, h, w in shapes)
        raise ValueError(f"joins maps of different height x width: {sizes}")
    if isinstance(block, Shortcut):
        return shapes[0]  # of several numbers of channels, that of the layer before counts
    return (sum(channels for channels, _, _ in shapes), *shapes[0][1:])


def _out_shape(block: Block, in_shape: Shape) -> Shape:
    channels, height, width = in_shape
    if isinstance(block, Convolutional):
        for name, value in (("channels of its input", channels), ("filters", block.filters)):
            if value % block.groups:
                raise ValueError(f"groups={block.groups} does not divide the {value} {name}")
        reach = 2 * block.padding_pixels - block.size
        out = (block.filters, *((side + reach) // block.stride + 1 for side in (height, width)))
    elif isinstance(block, Maxpool):
        reach = block.padding_pixels - block.window
        out = (channels, *((side + reach) // block.stride + 1 for side in (height, width)))
    elif isinstance(block, Upsample):
        out = (channels, height * block.stride, width * block.stride)
    elif isinstance(block, Route):
        if channels % block.groups or block.group_id >= block.groups:
            raise ValueError(
                f"cannot take group {block.group_id} of {block.groups} from {channels} channels"
            )
        out = (channels // block.groups, height, width)
    else:
        if isinstance(block, Yolo):
            _check_yolo(block, channels)
        out = in_shape
    if min(out) < 1:
        raise ValueError(f"nothing is left of its {height} x {width} input")
    return out


def _check_yolo(block: Yolo, channels: int) -> None:
    if len(block.anchors) != 2 * block.num:
        raise ValueError(
            f"num={block.num} needs {2 * block.num} anchor values, got {len(block.anchors)}"
        )
    if min(block.anchors) <= 0:
        raise ValueError(f"anchors must be above 0, got {min(block.anchors)}")
    if not block.mask or not all(0 <= i < block.num for i in block.mask):
        raise ValueError(f"mask={block.mask} must name anchors from 0 to {block.num - 1}")
    if block.scale_x_y < 1:
        raise ValueError(f"scale_x_y must be 1 or more, got {block.scale_x_y}")
    needed = len(block.mask) * (5 + block.classes)
    if channels != needed:
        raise ValueError(
            f"{len(block.mask)} anchors x (5 + {block.classes} classes) need {needed} channels, "
            f"the layer before has {channels}"
        )


def _count_parameters(block: Block, in_shape: Shape) -> int:
    if not isinstance(block, Convolutional):
        return 0
    kernels = in_shape[0] // block.groups * block.filters * block.size**2
    return kernels + block.filters * (4 if block.batch_normalize else 1)


def _check_memory(parameters: int, out_shape: Shape) -> None:
    if parameters > MAX_PARAMETERS:
        raise ValueError(
            f"the network has {parameters:,} weights by now, {MAX_PARAMETERS:,} are allowed"
        )
    channels, height, width = out_shape
    if channels * height * width > MAX_MAP_ELEMENTS:
        raise ValueError(
            f"a map of {channels} x {height} x {width} is larger than the {MAX_MAP_ELEMENTS:,} "
            "values that are allowed"
        )


def input_stride(layers: Sequence[Layer]) -> int:
    """The number of pixels that input sizes must be multiples of, so that no layer has to round."""
    strides = {-1: Fraction(1)}
    for layer in layers:
        stride = strides[layer.sources[0]]
        if isinstance(layer.block, Convolutional | Maxpool):
            stride *= layer.block.stride
        elif isinstance(layer.block, Upsample):
            stride /= layer.block.stride
        strides[layer.index] = stride
    return math.lcm(*(stride.numerator for stride in strides.values()))


def format_plan(layers: Sequence[Layer]) -> str:
    """The table of layers as text: number, kind, details, input and output shape, weights."""
    rows = [
        f"{'layer':>5}  {'kind':<14}{'details':<26}{'input':>16}    {'output':>16}  {'weights':>11}"
    ]
    for layer in layers:
        shapes = [" x ".join(map(str, shape)) for shape in (layer.in_shape, layer.out_shape)]
        row = f"{layer.index:>5}  {layer.kind:<14}{_details(layer):<26}"
        row += f"{shapes[0]:>16} -> {shapes[1]:>16}"
        rows.append(f"{row}  {layer.parameters:>11,}" if layer.parameters else row)
    total = sum(layer.parameters for layer in layers)
    return "\n".join([*rows, f"{len(layers)} layers, {total:,} numbers in the weights file"])


def _details(layer: Layer) -> str:
    block = layer.block
    if isinstance(block, Convolutional):
        norm = " bn" if block.batch_normalize else ""
        return f"{block.size} x {block.size} / {block.stride}{norm} {block.activation}"
    if isinstance(block, Maxpool):
        return f"{block.window} x {block.window} / {block.stride}"
    if isinstance(block, Upsample):
        return f"x {block.stride}"
    if isinstance(block, Yolo):
        return f"anchors {', '.join(map(str, block.mask))}"
    return f"of layers {', '.join(map(str, layer.sources))}"
