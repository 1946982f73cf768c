"""Darknet's .weights files, read and written byte for byte.

A file is a header and then nothing but little-endian float32 numbers, in the order of the layers.
Nothing in it says where a layer begins: the numbers mean something only beside the .cfg file they
belong to. So the
one safeguard there is must be used: the numbers of the file and of the network have to match
exactly.

    header       int32 major, minor, revision; then `seen`, the number of photos trained on:
                 int64 when 10 * major + minor >= 2, else int32
    convolution  biases; with batch normalisation also scales, rolling means, rolling variances;
    kernels

Source: the behaviour of Darknet (https://pjreddie.com/darknet), against which the tests compare.
"""

import dataclasses
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from common.files import replacing
from darknet.cfg import Convolutional, DarknetFileError

FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Header:
    """The first bytes of a weights file."""

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def layout(self) -> str:
        """The `struct` layout: `seen` grew to 64 bits with version 0.2."""
        return "<3iq" if self.major * 10 + self.minor >= 2 else "<3ii"

    def to_bytes(self) -> bytes:
        return struct.pack(self.layout, self.major, self.minor, self.revision, self.seen)


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What was loaded: `stopped_before` is the first layer without weights, None if all have
    them."""

    header: Header
    numbers: int
    stopped_before: int | None


def layer_tensors(stage: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one convolution, named, in the order of the file."""
    if stage.norm is None:
        yield "biases", stage.conv.bias
    else:
        yield "biases", stage.norm.bias
        yield "scales", stage.norm.weight
        yield "rolling means", stage.norm.running_mean
        yield "rolling variances", stage.norm.running_var
    yield "kernels", stage.conv.weight


def load_weights(model: nn.Module, path: str | Path, partial: bool = False) -> LoadReport:
    """Fill a network from a weights file.

    The size of the file is checked before the first weight is changed. A network on PyTorch's
    `meta` device (made without memory) is given memory first.

    Args:
        model: the network of the matching cfg file.
        path: the .weights file.
        partial: accept a file that ends after one of the layers, like Darknet's `darknet53.conv.74`
            (the first 74 layers); the layers after it keep their values.

    Returns:
        The header, the count of float32 numbers, and the layer before which a partial file stopped.

    Raises:
        DarknetFileError: the file cannot be read, is a web page, has another number of weights than
            the network, or ends inside a layer. Names the file, the layer and the bytes; the model
            is unchanged.
    """
    try:
        with Path(path).open("rb", buffering=0) as file:
            header = read_header(file, path)
            start = file.tell()
            count = _layers_in_file(model, path, start, os.fstat(file.fileno()).st_size, partial)
            if any(tensor.is_meta for tensor in model.parameters()):
                _allocate(model, count)
            for layer in model.layers[:count]:
                if isinstance(layer.block, Convolutional):
                    for _, tensor in layer_tensors(model.stages[layer.index]):
                        _fill(tensor, file, path)
            numbers = (file.tell() - start) // FLOAT_BYTES
    except OSError as error:
        raise DarknetFileError(f"{path}: cannot be read ({error.strerror})") from error
    model.header = header
    return LoadReport(header, numbers, count if count < len(model.layers) else None)


def read_header(file: BinaryIO, path: str | Path) -> Header:
    """Read the header and leave the file at the first weight.

    Raises:
        DarknetFileError: fewer bytes than a header, a web page, or a version that Darknet never
            wrote.
    """
    start = file.read(20)
    if start.lstrip()[:1] == b"<":
        raise DarknetFileError(
            f"{path}: this is a web page (it begins with {start[:15]!r}), not a weights file; "
            "the address it was downloaded from no longer holds the weights"
        )
    if len(start) < 16:
        raise DarknetFileError(f"{path}: {len(start)} bytes are too few for the header (16 or 20)")
    major, minor, revision = struct.unpack_from("<3i", start)
    if not (0 <= major < 1000 and 0 <= minor < 1000 and revision >= 0):
        raise DarknetFileError(
            f"{path}, byte 0: version {major}.{minor}.{revision} is none that Darknet wrote "
            "(0.1.0 and 0.2.0 are known); this is not a weights file"
        )
    layout = Header(major, minor).layout
    size = struct.calcsize(layout)
    if len(start) < size:
        raise DarknetFileError(f"{path}: {len(start)} bytes are too few for the header ({size})")
    file.seek(size)
    return Header(*struct.unpack_from(layout, start))


def _layers_in_file(
    model: nn.Module, path: str | Path, start: int, file_size: int, partial: bool
) -> int:
    """How many layers the file covers; raises unless it ends where it may."""
    end = start
    for layer in model.layers:
        if layer.parameters and file_size == end and partial:
            return layer.index
        end += FLOAT_BYTES * layer.parameters
        if file_size < end:
            advice = "; partial=True reads a file that ends between two layers"
            raise DarknetFileError(
                f"{path}: the file ends at byte {file_size:,}, but layer {layer.index} "
                f"({layer.kind}) would end at byte {end:,}. It is cut off, or belongs to another "
                f"cfg than {model.cfg_path.name}{'' if partial else advice}"
            )
    if file_size > end:
        raise DarknetFileError(
            f"{path}: {file_size - end:,} bytes are left over after the last layer (byte {end:,}); "
            f"the file belongs to another cfg than {model.cfg_path.name}"
        )
    return len(model.layers)


def _allocate(model: nn.Module, loaded: int) -> None:
    """Give a network on the `meta` device memory; what the file does not cover is random.

    All loaded numbers share one block: the system provides it faster than hundreds of small ones.
    """
    model.to_empty(device="cpu")
    block = torch.empty(sum(layer.parameters for layer in model.layers[:loaded]))
    for stage in model.stages[:loaded]:
        for _, tensor in layer_tensors(stage) if hasattr(stage, "conv") else ():
            tensor.data, block = block[: tensor.numel()].view(tensor.shape), block[tensor.numel() :]
    for stage in model.stages[loaded:]:
        for module in stage.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    for name, buffer in model.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.zero_()


@torch.no_grad()
def _fill(tensor: Tensor, file: BinaryIO, path: str | Path) -> None:
    """Read a tensor's numbers straight into its memory where that is possible."""
    direct = (
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()
    )
    target = tensor if direct else torch.empty(tensor.shape, dtype=torch.float32)
    view = memoryview(target.detach().view(-1).numpy()).cast("B")
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])
        if not got:
            raise DarknetFileError(f"{path}: the file became shorter while it was read")
        done += got
    if not direct:
        tensor.copy_(target)


def save_weights(model: nn.Module, path: str | Path, layers: int | None = None) -> None:
    """Write a network as a weights file, atomically.

    Args:
        model: the network; its `header` is written too.
        path: the .weights file to make or replace.
        layers: write only the first so many layers (a partial file, to start another training
            from).

    Raises:
        ValueError: `layers` is not between 1 and the number of layers.
        OSError: the folder cannot be written to; what was there before is left as it was.
    """
    if layers is not None and not 1 <= layers <= len(model.layers):
        raise ValueError(f"layers must be from 1 to {len(model.layers)}, got {layers}")
    with replacing(Path(path)) as file:
        file.write(model.header.to_bytes())
        for layer in model.layers[:layers]:
            if isinstance(layer.block, Convolutional):
                for _, tensor in layer_tensors(model.stages[layer.index]):
                    file.write(tensor.detach().float().cpu().contiguous().numpy().data)
