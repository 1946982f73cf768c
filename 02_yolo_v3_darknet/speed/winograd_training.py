"""3 x 3 convolutions that train with fewer multiplications, on the CPU.

Three products make up a training step of a convolution: the output, the gradient of the input and
the gradient of the kernels. `speed/winograd.py` shows how Winograd's minimal filtering (Lavin and
Gray, 2016, arXiv:1509.09308) computes the first with 16 multiplications for 4 outputs instead of
36, or 36 for 16 instead of 144. In the transformed domain the convolution is a plain product M = V
U for each position in a tile. So its gradients are plain products as well, of the same size,

    dV = dM U'        dU = V' dM,

and the linear transforms around them are undone by their transposes:

    V = B x        U = G k        y = A M          dM = A' dy     dk = G' dU     dx = B' dV

Everything is a matrix product, which the CPU's library computes at full speed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darknet.network import ConvolutionStage, Darknet
from speed.winograd import TRANSFORMS

FEWEST_CHANNELS = 64  # below, moving the tiles costs more than the multiplications they save
LARGE_MAP = 20  # from this height on, tiles of 4 x 4 waste little at the edge


@cache
def transforms(tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """B, G and A for both directions at once; (r^2, r^2), (r^2, 9), (tile^2, r^2), r = tile + 2."""
    matrices = (torch.tensor(one, dtype=torch.float32) for one in TRANSFORMS[tile])
    b, g, a = (torch.kron(one, one) for one in matrices)
    return b, g, a


class WinogradProduct(torch.autograd.Function):
    """y = x * kernels, with padding 1; float32 (B, C, H, W), channels last, (C_out, C, 3, 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, tile: int) -> Tensor:
        B, _, H, W = x.shape
        ctx.shape, ctx.tile = x.shape, tile
        b, g, a = transforms(tile)
        rows, columns = -(-H // tile), -(-W // tile)
        v = _product(b, _input_tiles(x, tile, rows, columns))  # (r^2, T, C)
        u = _product(g, kernels.permute(2, 3, 0, 1).flatten(0, 1))  # (r^2, C_out, C)
        ctx.save_for_backward(v, u)
        y = _product(a, torch.bmm(v, u.transpose(1, 2)))  # (tile^2, T, C_out)
        y = y.view(tile, tile, B, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        y = y.reshape(B, tile * rows, tile * columns, -1)[:, :H, :W]
        return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, None]:
        v, u = ctx.saved_tensors
        b, g, a = transforms(ctx.tile)
        dm = _product(a.T, _output_tiles(dy, ctx.tile))  # (r^2, T, C_out)
        dk = _product(g.T, torch.bmm(dm.transpose(1, 2), v))  # (9, C_out, C)
        dk = dk.view(3, 3, *dk.shape[1:]).permute(2, 3, 0, 1)
        dk = dk.contiguous(memory_format=torch.channels_last)
        if not ctx.needs_input_grad[0]:
            return None, dk, None
        dv = torch.bmm(dm, u)  # (r^2, T, C)
        return _lay_tiles(_product(b.T, dv), ctx.shape, ctx.tile), dk, None


class TrainingConvolution(nn.Conv2d):
    """The convolution of a stage, with the same weights under the same name, for training.

    Args:
        conv: 3 x 3, stride 1, padding 1, no bias.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, 3, padding=1, bias=False, device="meta"
        )
        self.weight = conv.weight

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C_out, H, W)."""
        if not self.training or x.dtype != torch.float32 or x.device.type != "cpu":
            return super().forward(x)
        return WinogradProduct.apply(x, self.weight, 4 if x.shape[2] >= LARGE_MAP else 2)


def use_winograd(model: Darknet) -> int:
    """Let a network's large 3 x 3 convolutions train by `WinogradProduct`.

    Args:
        model: changed in place; names, values and results of its weights stay the same.

    Returns:
        How many convolutions it suits.
    """
    count = 0
    for stage in model.stages:
        if isinstance(stage, ConvolutionStage) and suits(stage.conv):
            stage.conv = TrainingConvolution(stage.conv)
            count += 1
    return count


def suits(conv: nn.Conv2d) -> bool:
    """Whether a convolution is of the kind, and large enough."""
    kind = (conv.kernel_size, conv.stride, conv.padding, conv.groups, conv.bias is None)
    fits = kind == ((3, 3), (1, 1), (1, 1), 1, True)
    return fits and min(conv.in_channels, conv.out_channels) >= FEWEST_CHANNELS


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix (m, n) times x (n, T, C) along the first axis: (m, T, C)."""
    return (matrix @ x.reshape(len(x), -1)).view(len(matrix), *x.shape[1:])


def _input_tiles(x: Tensor, tile: int, rows: int, columns: int) -> Tensor:
    """Cut (B, C, H, W) into overlapping tiles: (r^2, B * rows * columns, C)."""
    B, C, H, W = x.shape
    reach = tile + 2
    pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C)
    padded = F.pad(pixels, (0, 0, 1, tile * columns + 1 - W, 1, tile * rows + 1 - H))
    tiles = padded.unfold(1, reach, tile).unfold(2, reach, tile)  # (B, rows, columns, C, r, r)
    return tiles.permute(4, 5, 0, 1, 2, 3).reshape(reach * reach, -1, C)


def _output_tiles(y: Tensor, tile: int) -> Tensor:
    """Cut (B, C, H, W) into tiles side by side, zeros beyond the edge: (tile^2, T, C)."""
    B, C, H, W = y.shape
    rows, columns = -(-H // tile), -(-W // tile)
    padded = F.pad(y.permute(0, 2, 3, 1), (0, 0, 0, tile * columns - W, 0, tile * rows - H))
    tiles = padded.reshape(B, rows, tile, columns, tile, C).permute(2, 4, 0, 1, 3, 5)
    return tiles.reshape(tile * tile, -1, C)


def _lay_tiles(tiles: Tensor, shape: torch.Size, tile: int) -> Tensor:
    """Add overlapping tiles (r^2, T, C) up to (B, C, H, W): the transpose of `_input_tiles`."""
    B, C, H, W = shape
    rows, columns, reach = -(-H // tile), -(-W // tile), tile + 2
    parts = tiles.view(reach, reach, B, rows, columns, C)
    padded = tiles.new_zeros(B, tile * rows + 2, tile * columns + 2, C)
    for i in range(reach):
        for j in range(reach):
            padded[:, i : i + tile * rows : tile, j : j + tile * columns : tile] += parts[i, j]
    return padded[:, 1 : H + 1, 1 : W + 1].permute(0, 3, 1, 2)
