"""Make a loaded network fast without changing what it computes.

Four changes, each with its reason:

- Batch normalisation is folded into the kernels before it. Both are linear, so y = scale * (W x) + shift is
  one convolution with the kernels scale * W: one pass over the map less.
- `channels_last`: the values of one pixel lie side by side in memory, as the convolution kernels of CPUs and
  tensor cores read them.
- On the CPU the kernels are put into the order that oneDNN (PyTorch's CPU library) wants once, not at every
  call, and the leaky activation runs inside the convolution while its result is still in the cache.
- bfloat16 or float16 halve the bytes; processors with instructions for them also compute faster.
"""

import torch
from torch import Tensor, nn

from darknet import LEAKY_SLOPE, ConvolutionStage, Darknet, activate, run_layers

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def fold_batch_norm(stage: ConvolutionStage) -> tuple[Tensor, Tensor]:
    """Kernels (C_out, C_in / groups, K, K) and biases (C_out,) of a stage, batch norm folded in."""
    if stage.norm is None:
        return stage.conv.weight, stage.conv.bias
    scale, shift = stage.norm.scale_and_shift()
    return stage.conv.weight * scale[:, None, None, None], shift


class FoldedConvolution(nn.Module):
    """A convolution with its batch norm folded in, then its activation."""

    def __init__(self, stage: ConvolutionStage, dtype: torch.dtype):
        super().__init__()
        kernels, biases = fold_batch_norm(stage)
        self.register_buffer("kernels", kernels.to(dtype).contiguous(memory_format=torch.channels_last))
        self.register_buffer("biases", biases.to(dtype))
        conv = stage.conv
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups
        self.activation = stage.activation

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(
            x, self.kernels, self.biases, self.stride, self.padding, groups=self.groups
        )
        if self.activation == "leaky":
            return nn.functional.leaky_relu_(x, LEAKY_SLOPE)
        return activate(x, self.activation)


class PackedConvolution(nn.Module):
    """A `FoldedConvolution` whose kernels are in oneDNN's own order; the activation is fused."""

    FUSED = {"leaky": ("leaky_relu", [LEAKY_SLOPE], ""), "relu": ("relu", [], "")}

    def __init__(self, folded: FoldedConvolution, input_shape: tuple[int, int, int, int]):
        super().__init__()
        self.padding, self.stride, self.groups = folded.padding, folded.stride, folded.groups
        self.kernels = torch.ops.mkldnn._reorder_convolution_weight(
            folded.kernels, self.padding, self.stride, (1, 1), self.groups, input_shape
        )
        self.biases = folded.biases
        self.activation = folded.activation
        self.fused = self.FUSED.get(self.activation, ("none", [], ""))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.ops.mkldnn._convolution_pointwise(
            x, self.kernels, self.biases, self.padding, self.stride, (1, 1), self.groups, *self.fused
        )
        return x if self.activation in self.FUSED else activate(x, self.activation)


class FastDarknet(nn.Module):
    """A network for inference only; takes and gives what `Darknet.forward` does.

    Args:
        model: the network, with its weights; it is not changed, and shares no memory that is written to.
        precision: `fp32`, `bf16` or `fp16`, of weights and maps.
        device: where to run.
        input_size: (height, width) the kernels are ordered for; other sizes work too.
        compiled: run through `torch.compile`; the first call then takes long (a minute, on a laptop).

    Raises:
        ValueError: an unknown precision, or fp16 on the CPU.
    """

    def __init__(
        self,
        model: Darknet,
        precision: str = "fp32",
        device: str | torch.device = "cpu",
        input_size: tuple[int, int] = (416, 416),
        compiled: bool = False,
    ):
        super().__init__()
        device = torch.device(device)
        if precision not in DTYPES:
            raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")
        if precision == "fp16" and device.type == "cpu":
            raise ValueError("precision fp16 needs a GPU; on the CPU use fp32, or bf16 where it has it")
        self.dtype = DTYPES[precision]
        self.layers = model.layers
        self.check_images = model.check_images
        with torch.no_grad():
            self.stages = nn.ModuleList(self._convert(stage) for stage in model.stages).to(device)
            if device.type == "cpu" and not compiled and can_pack(self.dtype):
                self._pack(input_size)
        self.eval()
        self.run = torch.compile(self._run) if compiled else self._run

    def _convert(self, stage: nn.Module) -> nn.Module:
        return FoldedConvolution(stage, self.dtype) if isinstance(stage, ConvolutionStage) else stage

    def _pack(self, input_size: tuple[int, int]) -> None:
        for layer in self.layers:
            stage = self.stages[layer.index]
            if isinstance(stage, FoldedConvolution):
                shape = (1, *layer.in_shape)
                self.stages[layer.index] = PackedConvolution(stage, shape)

    def _run(self, images: Tensor) -> list[Tensor]:
        return run_layers(self.layers, self.stages, images)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[Tensor]:
        """See `Darknet.forward`; images of any float dtype, outputs in the chosen precision."""
        self.check_images(images)
        return self.run(images.to(self.dtype, memory_format=torch.channels_last))


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN's packed convolutions run here in this precision.

    They are what `torch.compile` itself calls, but no public interface: where they are missing or refuse,
    the plain convolutions take their place.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        kernels = torch.zeros(8, 8, 3, 3, dtype=dtype)
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            kernels, (1, 1), (1, 1), (1, 1), 1, (1, 8, 8, 8)
        )
        torch.ops.mkldnn._convolution_pointwise(
            torch.zeros(1, 8, 8, 8, dtype=dtype), packed, torch.zeros(8, dtype=dtype),
            (1, 1), (1, 1), (1, 1), 1, "leaky_relu", [LEAKY_SLOPE], "",
        )  # fmt: skip
    except (RuntimeError, AttributeError):
        return False
    return True


def has_bfloat16_instructions() -> bool:
    """Whether this CPU computes bfloat16 natively; without, it is emulated and many times slower."""
    flag = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    matrix = getattr(torch.cpu, "_is_amx_tile_supported", None)
    arm = getattr(torch.backends.cpu, "get_cpu_capability", str)() in {"SVE256", "SVE"}
    return bool((flag and flag()) or (matrix and matrix()) or arm)
