"""3 x 3 convolution with fewer multiplications: Winograd's minimal filtering.

Implements F(2 x 2, 3 x 3) and F(4 x 4, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks" (2016, arXiv:1509.09308), sections 4.1 and 4.2. A tile of m x m outputs needs (m +
2)^2 multiplications instead of 9 m^2: 16 instead of 36, or 36 instead of 144. The price is adding
and subtracting before and after, which does not grow with the product of the channels. So it pays
where there are many.

All steps are matrix products. With K = kernels, D = input tiles of (m + 2)^2 pixels that overlap by
2:

    U = (G (x) G) K        V = (B' (x) B') D        output = (A' (x) A') (sum over channels of U *
    V)

(x) is the Kronecker product. The sum over channels is one matrix product for each of the (m + 2)^2
positions in a tile: a 1 x 1 convolution over the tiles, in as many groups as there are positions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darknet.network import LEAKY_SLOPE

FUSED_ACTIVATIONS: dict[str, tuple] = {
    "linear": ("none", [], ""),
    "leaky": ("leaky_relu", [LEAKY_SLOPE], ""),
    "relu": ("relu", [], ""),
}


class PackedKernels(nn.Module):
    """A convolution on the CPU with its activation, which runs while the result is still in the
    cache.

    Args:
        kernels: (C_out, C_in / groups, K, K), float32 or bfloat16.
        biases: (C_out,), the same dtype.
        input_shape: (B, C_in, H, W) the kernels are ordered for; other B, H, W work too.
        stride, padding: in pixels, (vertical, horizontal).
        groups: of channels.
        activation: one of `FUSED_ACTIVATIONS`.
    """

    def __init__(
        self,
        kernels: Tensor,
        biases: Tensor,
        input_shape: Sequence[int],
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        groups: int = 1,
        activation: str = "linear",
    ):
        super().__init__()
        self.geometry = (tuple(padding), tuple(stride), (1, 1), groups)
        self.fused = FUSED_ACTIVATIONS[activation]
        self.kernels = torch.ops.mkldnn._reorder_convolution_weight(
            kernels, *self.geometry, tuple(input_shape)
        )
        self.biases = biases

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out), both channels last."""
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.kernels, self.biases, *self.geometry, *self.fused
        )


def can_pack(dtype: torch.dtype) -> bool:
    """Whether `PackedKernels` works here in this precision."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        kernels, biases = torch.zeros(8, 8, 3, 3, dtype=dtype), torch.zeros(8, dtype=dtype)
        packed = PackedKernels(kernels, biases, (1, 8, 8, 8), padding=(1, 1), activation="leaky")
        packed(torch.zeros(1, 8, 8, 8, dtype=dtype))
    except (RuntimeError, AttributeError):
        return False
    return True


# tile side m: (B', G, A')
TRANSFORMS: dict[int, tuple[list[list[float]], ...]] = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}


class WinogradConvolution(nn.Module):
    """A 3 x 3 convolution of stride 1 and padding 1 on the CPU, without activation.

    Args:
        kernels: float32 (C_out, C_in, 3, 3).
        biases: float32 (C_out,).
        map_size: (H, W) of the maps the kernels are ordered for; other sizes work too.
        tile: m, the side of an output tile: 2, or 4 (fewer multiplications, four times the kernel
            memory of the direct way, rounding errors about five times as large).
    """

    def __init__(self, kernels: Tensor, biases: Tensor, map_size: tuple[int, int], tile: int):
        super().__init__()
        b_t, g, a_t = (torch.tensor(matrix, dtype=torch.float32) for matrix in TRANSFORMS[tile])
        c_out, c_in = kernels.shape[:2]
        self.tile, self.reach, self.positions = tile, tile + 2, (tile + 2) ** 2
        kernels_u = (
            torch.kron(g, g) @ kernels.reshape(c_out * c_in, 9).T
        )  # (positions, C_out * C_in)
        rows, columns = (-(-side // tile) for side in map_size)
        self.products = PackedKernels(
            kernels_u.reshape(self.positions * c_out, c_in, 1, 1),
            torch.zeros(self.positions * c_out),
            (1, self.positions * c_in, rows, columns),
            groups=self.positions,
        )
        self.register_buffer("biases", biases)
        self.register_buffer("to_tiles", torch.kron(b_t, b_t))  # (positions, positions)
        self.register_buffer("from_tiles", torch.kron(a_t, a_t))  # (m^2, positions)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W), both float32 and channels last."""
        B, C, H, W = x.shape
        m, reach = self.tile, self.reach
        rows, columns = -(-H // m), -(-W // m)  # of output tiles
        pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C_in)
        padded = F.pad(pixels, (0, 0, 1, m * columns + 1 - W, 1, m * rows + 1 - H))
        tiles = padded.unfold(1, reach, m).unfold(
            2, reach, m
        )  # (B, rows, columns, C_in, reach, reach)
        tiles = tiles.permute(0, 1, 2, 4, 5, 3).reshape(-1, self.positions, C)
        maps = (self.to_tiles @ tiles).view(B, rows, columns, self.positions * C)
        sums = self.products(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out = self.from_tiles @ sums.reshape(B * rows * columns, self.positions, -1)
        out = out.view(B, rows, columns, m, m, -1).permute(0, 1, 3, 2, 4, 5)
        out = out.reshape(B, m * rows, m * columns, -1)[:, :H, :W]
        return out.add_(self.biases).permute(0, 3, 1, 2)
