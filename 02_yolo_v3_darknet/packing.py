"""Convolutions whose kernels lie in memory the way oneDNN, PyTorch's CPU library, wants them.

A plain convolution puts its kernels into that order at every call. Here it is done once. The two
operators are those that `torch.compile` itself uses on the CPU. They are no public interface, so
`can_pack` tries them: where they are missing or refuse, the plain convolutions take their place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEAKY_SLOPE = 0.1
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
